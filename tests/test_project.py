"""What a project is known by: its metadata, its lowest versions, its forms and workflows, its site."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import prefine

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?((?:https?:)?//[^\"' >]+)|<link\b[^>]*\bhref=[\"']?((?:https?:)?//[^\"' >]+)"
)


def pins(name: str) -> dict[str, str]:
    """A constraints file: package -> version."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_lowest_versions_are_the_lower_bounds() -> None:
    bounds = {}
    for text in PROJECT["dependencies"]:
        needed = Requirement(text)
        [bound] = [s.version for s in needed.specifier if s.operator == ">="]
        bounds[canonicalize_name(needed.name)] = Version(bound)
    assert {name: Version(version) for name, version in pins("constraints-lowest.txt").items()} == bounds


def test_what_is_installed_is_pinned() -> None:
    pinned = pins("constraints.txt")
    extras = PROJECT["optional-dependencies"]
    named = [canonicalize_name(Requirement(text).name) for group in ("docs", "notebook", "dev", "benchmark") for text in extras[group]]
    assert not [name for name in named if name not in pinned]


def test_vllms_versions_are_ours_too() -> None:
    """What stands beside vLLM lies within our own bounds, and every package named there is wanted."""
    ours = [Requirement(text) for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["vllm"])]
    wanted = {canonicalize_name(needed.name): needed.specifier for needed in ours}
    for name, version in pins("constraints-vllm.txt").items():
        assert wanted[name].contains(version), name


def test_types_and_metadata() -> None:
    assert (ROOT / "src" / "prefine" / "py.typed").exists()
    assert "Typing :: Typed" in PROJECT["classifiers"]
    assert not [c for c in PROJECT["classifiers"] if c.startswith("License ::")], "the license is an SPDX expression"
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == prefine.__version__
    assert f"## [{prefine.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_pythons_are_those_that_are_tested() -> None:
    told = {c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)}
    tests = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    assert set(tests["jobs"]["tests"]["strategy"]["matrix"]["python"]) == told


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_workflows_run_targets_that_are_there(path: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        assert job["timeout-minutes"]
        for step in job["steps"]:
            words = step.get("run", "").split()
            assert words[:1] != ["make"] or words[1] in targets, step


def test_hooks_run_what_make_check_runs() -> None:
    makefile = (ROOT / "Makefile").read_text()
    checks = re.search(r"^check:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert checks
    hooks = [h["entry"] for r in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for h in r["hooks"]]
    first = [entry.replace(".venv/bin/", "").split()[:2] for entry in hooks]
    for line in checks.group(1).splitlines():
        words = line.strip().replace("$(BIN)/", "").split()[:2]
        assert any(hook[: len(words)] == words for hook in first), line


def test_forms_for_issues() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        if path.name != "config.yml":
            ids = [part["id"] for part in form["body"] if "id" in part]
            assert len(ids) == len(set(ids)) > 0
            assert {"name", "description", "body"} <= form.keys()


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs is not installed")
def test_the_site_is_whole_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    pages = list(tmp_path.rglob("*.html"))
    assert pages
    for page in pages:
        assert not FETCHED.search(page.read_text(encoding="utf-8")), page
    for sheet in tmp_path.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet
