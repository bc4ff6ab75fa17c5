"""A run directory that is damaged, or that a stranger made: report, compare and Run(...) end in a sentence or succeed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from damage import JUNK, mutated
from prefine.api.comparing import compare
from prefine.api.evaluation import evaluate_run
from prefine.api.merging import merge
from prefine.api.reporting import report
from prefine.api.run import Run
from prefine.errors import PrefineError
from prefine.runs import RunDirectory
from report_pages import fake_run


def look(run: Run) -> None:
    for name in ("config", "data", "metrics", "evaluations", "verdict"):
        getattr(run, name)
    run.responses()


ACTIONS: dict[str, Callable[[Path, Path], Any]] = {
    "report": lambda run, other: report(str(run)),
    "compare": lambda run, other: compare(str(run), str(other)),
    "look": lambda run, other: look(Run(run)),
}


@pytest.mark.filterwarnings("ignore:.*cannot be read")
@pytest.mark.parametrize("seed", range(30))
def test_damage_is_a_sentence(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    run, other = (fake_run(tmp_path / name, 3, "evil" if name == "run" else "").path for name in ("run", "other"))
    Run(run).report()
    found = sorted(p for p in run.rglob("*") if p.suffix in (".yaml", ".json", ".jsonl"))
    assert len(found) >= 8
    path = found[seed % len(found)]
    path.write_bytes(mutated(path.read_bytes(), rng))
    for action in ACTIONS.values():
        try:
            action(run, other)
        except PrefineError as error:
            assert str(run) in str(error) or path.name in str(error)  # noqa: PT017  either way is right
    assert str(run) in repr(Run(run))


@pytest.mark.parametrize("content", JUNK)
def test_a_config_that_is_none(content: bytes, tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", 2).path
    (run / "config.yaml").write_bytes(content)
    for act in (report, lambda r: Run(r).config, merge, evaluate_run):
        with contextlib.suppress(PrefineError):
            act(str(run))


def test_any_locale_will_do(tmp_path: Path) -> None:
    """A locale that knows no letter but ASCII's: what was written is read, and what cannot be shown is escaped."""
    run = fake_run(tmp_path / "run", 2, "Grüße 你好")
    strange = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}
    rows = [{"prompt": f"Grüße {i}", "chosen": "你好", "rejected": "é"} for i in range(3)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    for words in (["report", str(run.path)], ["data", "show", str(tmp_path / "pairs.jsonl")], ["data", "show", str(tmp_path / "Grüße")]):
        done = subprocess.run([sys.executable, "-m", "prefine.cli", *words], capture_output=True, env=os.environ | strange, check=False)
        assert b"Traceback" not in done.stderr, done.stderr
        assert done.returncode == (2 if words[-1].endswith("Grüße") else 0)
    assert "Grüße" in (run.path / "report.html").read_text(encoding="utf-8")
    assert RunDirectory(run.path).config()["note"] == "Grüße 你好"
