"""A run's files: lines that were torn, values that JSON has no word for, one process a folder, what describes the machine."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefine import runs
from prefine.errors import ConfigError, DataError
from prefine.runs import RunDirectory, append_json, read_json, read_jsonl, strict, unstrict, write_json, write_jsonl

TORN = {
    "half a line": b'{"step": 3, "lo',
    "NUL bytes": b"\0" * 40,
    "NUL bytes and half a line": b'\0\0\0s": 3}',
    "half a character": b'{"step": 3, "text": "\xe2\x82',
    "another value": b"12",
    "nothing but a brace": b"}",
}


@pytest.mark.parametrize("place", ["first", "middle", "last", "last, without its line's end"])
@pytest.mark.parametrize("kind", TORN)
@pytest.mark.parametrize("file", ["metrics.jsonl", "events.jsonl", "eval/looks.jsonl"])
def test_torn_lines_are_left_out_and_told_of_once(tmp_path: Path, file: str, kind: str, place: str) -> None:
    run, path = RunDirectory(tmp_path), tmp_path / file
    read: Any = {"metrics.jsonl": run.metrics, "events.jsonl": run.events, "eval/looks.jsonl": run.looks}[file]
    path.parent.mkdir(exist_ok=True)
    whole = [{"step": i, "loss": 0.5, "event": "e"} for i in range(4)]
    lines = [json.dumps(line).encode() for line in whole]
    lines.insert({"first": 0, "middle": 2}.get(place, 4), TORN[kind])
    path.write_bytes(b"\n".join(lines) + (b"" if "without" in place else b"\n"))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert read() == whole
        assert read() == whole
        append_json(path, {"step": 9})  # begins a line of its own
        assert read() == [*whole, {"step": 9}]
    told = [str(w.message) for w in heard]
    assert len(told) == (kind != "NUL bytes")  # which a system leaves behind that lost power: no line was there
    assert all(f"{path}: line {lines.index(TORN[kind]) + 1} cannot be read" in text for text in told)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=60))
def test_no_content_makes_a_log_unreadable(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("log") / "metrics.jsonl"
    path.write_bytes(content)
    append_json(path, {"step": 1, "loss": math.nan})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        last = runs.read_log(path)[-1]
    assert last["step"] == 1
    assert math.isnan(last["loss"])


def test_a_torn_line_of_a_file_written_whole_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": \xff}\n{"a": 3}\n')
    with pytest.raises(DataError, match="line 2"):
        list(read_jsonl(path))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(value=st.dictionaries(st.text(max_size=5).filter(lambda k: k != runs.NOT_FINITE), values, max_size=4))
def test_json_is_strict_and_loses_nothing(value: dict[str, Any]) -> None:
    text = json.dumps(strict(value), allow_nan=False)
    assert repr(unstrict(json.loads(text))) == repr(value)


def test_no_writer_writes_bare_nan(tmp_path: Path) -> None:
    odd = {"loss": math.nan, "rewards/margins": math.inf, "deep": [{"x": -math.inf}], "fine": 1.5}

    def refuse(text: str) -> float:
        raise AssertionError(text)

    append_json(tmp_path / "a", odd)
    write_json(tmp_path / "b", odd)
    write_jsonl(tmp_path / "c", [odd, odd])
    for name in "abc":
        text = (tmp_path / name).read_text()
        for line in text.splitlines() if name != "b" else [text]:
            found = json.loads(line, parse_constant=refuse)
            assert found["loss"] is None
            assert found["not_finite"] == {"/loss": "NaN", "/rewards~1margins": "Infinity", "/deep/0/x": "-Infinity"}
    assert repr(read_json(tmp_path / "b")) == repr(odd)
    assert [repr(row) for row in read_jsonl(tmp_path / "c")] == [repr(odd)] * 2
    assert repr(runs.read_log(tmp_path / "a")) == repr([odd])


HOLD = """
import os, sys, time
from prefine.runs import RunDirectory
RunDirectory(sys.argv[1]).lock()
if os.fork() == 0:
    time.sleep(60)  # a child, as of a data loader, that outlives its parent
print("held", flush=True)
time.sleep(60)
"""


def test_one_process_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(runs.__file__).parents[1])}
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=rf"process {holder.pid} on .+another --output-dir"):
            RunDirectory(tmp_path).lock()
        monkeypatch.setenv("RANK", "1")
        RunDirectory(tmp_path).lock()  # the first process of several took it for all
        monkeypatch.setenv("RANK", "0")
        with pytest.raises(ConfigError):
            RunDirectory(tmp_path).lock()
        holder.kill()
        holder.wait()
        RunDirectory(tmp_path).lock()  # of a dead process nothing is left
        RunDirectory(tmp_path).lock()  # one's own
        assert str(os.getpid()) in (tmp_path / runs.LOCK).read_text()
    finally:
        os.killpg(holder.pid, 9)
        holder.communicate()
        runs.unlock()


@pytest.mark.parametrize("path", ["", "/nonexistent"])
def test_what_describes_the_machine_needs_no_git(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setenv("PATH", path)
    found = runs.environment()
    assert found["git_commit"] is None
    assert found["versions"]["torch"]


def test_what_describes_the_machine_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("broken")

    for owner, name in ((metadata, "version"), (subprocess, "run"), (runs.platform, "platform")):
        monkeypatch.setattr(owner, name, broken)
    assert runs.environment()["python"] == sys.version.split()[0]


def test_what_a_killed_writer_left_goes_when_the_run_goes_on(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (tmp_path / "eval" / "final").mkdir(parents=True)
    left = [tmp_path / f".data.json.{ended.pid}.tmp", tmp_path / "eval" / "final" / f".answers.jsonl.{ended.pid}.tmp"]
    others = [tmp_path / f".report.html.{os.getpid()}.tmp", tmp_path / ".own.tmp", tmp_path / "notes.4711.tmp"]
    for path in left + others:
        path.write_text("half")
    RunDirectory(tmp_path).lock()
    runs.unlock()
    assert [p.exists() for p in left] == [False, False]
    assert all(p.exists() for p in others)  # of a process that runs, or of somebody else


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    write_json(tmp_path / "a.json", {"a": 1})
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_json(tmp_path / "a.json", {"a": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert read_json(tmp_path / "a.json") == {"a": 1}
