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

from prefine.api.comparing import compare
from prefine.api.evaluation import evaluate_run
from prefine.api.merging import merge
from prefine.api.reporting import report
from prefine.api.run import Run
from prefine.errors import PrefineError
from prefine.runs import RunDirectory
from report_pages import fake_run

JUNK = [
    *(b"", b"\xff\xfe\x00\x80", b"null", b"[]", b"7", b'"x"', b"{}", b'{"a":', b"[" * 100_000, b"- a\n- b\n", b"a: [1", b"\0" * 99),
    *(b'{"a": 1}\n{"b": 2}\n', b"[1]\n[2]\n", b"null\nnull\n", b"!!python/object/apply:os.system [exit]", b"&a [*a]", b'{"step": {}}'),
]
VALUES = [None, 7, "x", [], {}, [1], {"a": 1}, float("inf"), True, -1]


def replaced(value: Any, rng: random.Random) -> Any:
    """The same with one value in it another, or gone."""
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        if rng.random() < 0.3:
            return {k: v for k, v in value.items() if k != key} if rng.random() < 0.3 else value | {key: rng.choice(VALUES)}
        return value | {key: replaced(value[key], rng)}
    if isinstance(value, list) and value:
        at = rng.randrange(len(value))
        return [*value[:at], replaced(value[at], rng), *value[at + 1 :]]
    return rng.choice(VALUES)


def mutated(content: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(JUNK)
    if kind == 1:
        return content[: rng.randrange(len(content) + 1)]
    if kind == 2:
        flipped = bytearray(content)
        for _ in range(4):
            flipped[rng.randrange(len(flipped))] = rng.randrange(256)
        return bytes(flipped)
    lines = [content] if content.startswith(b"{\n") else content.split(b"\n")
    at = rng.randrange(len(lines))
    try:
        lines[at] = json.dumps(replaced(json.loads(lines[at]), rng)).encode()
    except ValueError:  # YAML
        lines[at] = lines[at].partition(b":")[0] + b": " + json.dumps(rng.choice(VALUES)).encode()
    return b"\n".join(lines)


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
