"""TRL's own tests with the import swapped: which of those that TRL passes here does Prefine pass?

    git -C TRL_REPOSITORY archive HEAD tests scripts trl examples pyproject.toml | tar -x -C ROOT
    python benchmarks/trl_standins.py ROOT          # tiny models and data sets in place of those on the Hub
    python benchmarks/trl_tests.py ROOT [dpo reward sft online-dpo ppo]

TRL is the installed release; its PPO, which the release no longer has, is that of the repository in ROOT. Tests that
TRL itself does not pass here (no GPU, packages that are missing) are not counted. A test of TRL's that Prefine fails
must stand in ``trl_tests.toml``, under what it is: a refusal, TRL's internals, or not there yet. The exit code is 1 where one does not.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path

FILES = {
    "dpo": "tests/test_dpo_trainer.py",
    "reward": "tests/test_reward_trainer.py",
    "sft": "tests/test_sft_trainer.py",
    "online-dpo": "tests/experimental/test_online_dpo_trainer.py",
    "ppo": "tests/experimental/test_ppo_trainer.py",
}
ONLY = {"ppo": ["-k", "TestPPOTrainer"]}
"""The rest of PPO's file tests functions and classes of TRL's own making."""
PUBLIC = re.compile(r"\b(?:DPO|SFT|Reward|OnlineDPO|PPO)(?:Config|Trainer)\b")
LISTS = Path(__file__).with_name("trl_tests.toml")


def swapped(text: str) -> str:
    """A test file whose configs and trainers come from Prefine; everything else of TRL's stays."""
    out, tree = text.splitlines(), ast.parse(text)
    for node in tree.body:
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("trl"):
            continue
        ours = [a.name for a in node.names if PUBLIC.fullmatch(a.name)]
        if not ours:
            continue
        theirs = [a.name for a in node.names if a.name not in ours]
        lines = [f"from prefine import {', '.join(ours)}"]
        lines += [f"from {node.module} import {', '.join(theirs)}"] if theirs else []
        assert node.end_lineno is not None
        out[node.lineno - 1 : node.end_lineno] = ["; ".join(lines)] + [""] * (node.end_lineno - node.lineno)
    return "\n".join(out) + "\n"


def shims(folder: Path) -> str:
    """Lines for conftest.py that name what the tests import of TRL and the installed release does not have."""
    missing = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trl."):
                missing |= {(str(node.module), a.name) for a in node.names}
    lines = ["import importlib, sys, types"]
    for module, name in sorted(missing):
        try:
            if hasattr(importlib.import_module(module), name):
                continue
        except ImportError:
            continue
        stand_in = "lambda *a, **k: False" if name.startswith("is_") else "None"
        lines.append(f"setattr(importlib.import_module({module!r}), {name!r}, {stand_in})")
    return "\n".join(lines) + "\n"


def prepare(root: Path, to: Path, ours: bool, ppo: bool) -> None:
    """Lay out a folder to run in: tests, stand-ins, and TRL's source where PPO's is wanted."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(root / "tests", to / "tests")
    (to / "trl-internal-testing").symlink_to(root / "trl-internal-testing")
    if ppo:
        shutil.copytree(root / "trl", to / "trl")
    else:
        with (to / "tests/conftest.py").open("a") as file:
            file.write(shims(to / "tests"))
    if ours:
        for name in FILES.values():
            path = to / name
            path.write_text(swapped(path.read_text()))
    (to / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow: x\n    low_priority: x\n    invariant: x\n")


def outcomes(folder: Path, what: str, extra: list[str]) -> dict[str, tuple[str, str]]:
    """Run one file; a test's name -> (passed, failed or skipped, its message)."""
    report = folder / f"{what}.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", FILES[what], "-q", "-p", "no:cacheprovider", "-W", "ignore", f"--junitxml={report}"]
    command += ["-m", "not slow", "--tb=short", *ONLY.get(what, []), *extra]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
    with (folder / f"{what}.log").open("w") as log:
        subprocess.run(command, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT, check=False)
    found = {}
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
        bad = [x for kind in ("failure", "error") for x in case.findall(kind)]
        state = "failed" if bad else "skipped" if case.find("skipped") is not None else "passed"
        owner = str(case.get("classname")).rsplit(".", 1)[-1]
        message = (bad[0].get("message") or "").splitlines()[:1] if bad else []
        found[f"{owner}::{case.get('name')}"] = (state, message[0] if message else "")
    return found


def main() -> int:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="tests, scripts and trl of TRL's repository, with the stand-ins made")
    parser.add_argument("what", nargs="*", default=list(FILES), help=", ".join(FILES))
    parser.add_argument("--again", action="store_true", help="run TRL too where its outcomes are known from an earlier run")
    parser.add_argument("-k", default="", help="as pytest's; outcomes are then not held against the lists")
    args = parser.parse_intermixed_args()
    root = args.root.resolve()
    lists = {kind: entries for kind, entries in (tomllib.loads(LISTS.read_text()) if LISTS.exists() else {}).items()}
    unexplained = 0
    for what in args.what:
        theirs, ours = root / "run-trl", root / "run-prefine"
        kept = root / f"{what}.trl.json"
        if args.again or not kept.exists():
            prepare(root, theirs, False, what == "ppo")
            kept.write_text(json.dumps(outcomes(theirs, what, []), indent=1))
        reference = json.loads(kept.read_text())
        prepare(root, ours, True, what == "ppo")
        found = outcomes(ours, what, ["-k", args.k] if args.k else [])
        wanted = [n for n, (state, _) in reference.items() if state == "passed" and (not args.k or n in found)]
        passed = [n for n in wanted if found.get(n, ("missing", ""))[0] == "passed"]
        states = [state for state, _ in reference.values()]
        print(f"{what}: TRL passes {len(wanted)} ({states.count('failed')} failed, {states.count('skipped')} skipped); ", end="")
        print(f"of these Prefine {len(passed)}: {100 * len(passed) / max(1, len(wanted)):.1f} %")
        for name in wanted:
            if name in passed:
                continue
            kind = next((k for k, entries in lists.items() if f"{what} {name}" in entries), "NOT LISTED")
            unexplained += kind == "NOT LISTED"
            state, message = found.get(name, ("missing", ""))
            print(f"  {kind}: {name}: {state}: {message[:300]}")
    return int(unexplained > 0)


if __name__ == "__main__":
    sys.exit(main())
