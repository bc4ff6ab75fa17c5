"""Files by URL, of fsspec's own file systems: one in memory, and this machine's."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import prefine
from conftest import lab_pairs
from prefine.cli import main
from prefine.errors import ConfigError, DataError, MissingFile


@pytest.fixture
def store() -> Iterator[Any]:
    """An object store without anything in it."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield memory
    memory.store.clear()


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_a_file_a_folder_and_a_pattern(store: Any) -> None:
    rows = lab_pairs(30)
    store.pipe({"/bucket/a/1.jsonl.gz": gzip.compress(lines(rows[:10])), "/bucket/a/2.jsonl": lines(rows[10:20])})
    store.pipe({"/bucket/b.json": json.dumps(rows[20:]).encode(), "/bucket/a/notes.txt": b"not data"})
    for source, count in (("memory://bucket/a/2.jsonl", 10), ("memory://bucket/a", 20), ("memory://bucket/*/*.jsonl*", 20)):
        assert len(prefine.load_preferences(source)) == count, source
    both = prefine.load_preferences(["memory://bucket/a", "memory://bucket/b.json"])
    assert [pair.chosen[-1]["content"] for pair in both] == [row["chosen"] for row in rows]


def test_what_changed_is_copied_anew_and_what_did_not_is_not(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    get_file = type(store).get_file

    def counted(self: Any, name: str, *more: Any, **kwargs: Any) -> Any:
        copied.append(name)
        return get_file(self, name, *more, **kwargs)

    monkeypatch.setattr(type(store), "get_file", counted)
    store.pipe("/bucket/pairs.jsonl", lines(lab_pairs(5)))
    assert [len(prefine.load_preferences("memory://bucket/pairs.jsonl")) for _ in range(2)] == [5, 5]
    assert len(copied) == 1
    store.pipe("/bucket/pairs.jsonl", lines(lab_pairs(7)))
    assert len(prefine.load_preferences("memory://bucket/pairs.jsonl")) == 7
    assert len(copied) == 2


def test_a_copy_that_breaks_off_is_none(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store.pipe("/bucket/pairs.jsonl", lines(lab_pairs(5)))

    def breaks(self: Any, name: str, place: str, **more: Any) -> None:
        Path(place).write_bytes(b"{")
        raise ConnectionResetError("the network went away")

    with monkeypatch.context() as patched:
        patched.setattr(type(store), "get_file", breaks)
        with pytest.raises(ConfigError, match=r"memory://bucket/pairs.jsonl: could not be read .*the network went away"):
            len(prefine.load_preferences("memory://bucket/pairs.jsonl"))
    assert len(prefine.load_preferences("memory://bucket/pairs.jsonl")) == 5


@pytest.mark.parametrize(
    ("source", "kind", "told"),
    [
        ("memory://bucket/none.jsonl", MissingFile, "nothing is there"),
        ("memory://bucket/*.parquet", MissingFile, "nothing is there"),
        ("nosuch://bucket/x.jsonl", ConfigError, "whose scheme fsspec knows"),
        ("https://me:secret@example.invalid/x.jsonl", ConfigError, "a URL with a password in it"),
        ("https://127.0.0.1:9/x.jsonl", ConfigError, "check the address and its rights"),
    ],
)
def test_what_cannot_be_read_is_said(source: str, kind: type[Exception], told: str, store: Any) -> None:
    with pytest.raises(kind, match=told) as raised:
        len(prefine.load_preferences(source))
    assert "secret" not in str(raised.value)


def test_broken_content_is_named_by_its_url(store: Any) -> None:
    store.pipe("/bucket/pairs.jsonl", lines(lab_pairs(2)) + b"not json\n")
    with pytest.raises(DataError, match=r"memory:///?bucket/pairs.jsonl, line 3"):
        len(prefine.load_preferences("memory://bucket/pairs.jsonl"))


def test_training_reads_a_url(lab_model: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dpo", "--model", str(lab_model), "--data", f"file://{pairs_file}", "--output-dir", str(tmp_path / "run"), "--max-steps", "2"]
    assert main([*words, "--final-eval", "off"]) == 0
    assert f"data: file://{pairs_file}: pairs, 64 rows" in capsys.readouterr().out
    assert main([*words, "--final-eval", "off", "--resume"]) == 0


def test_an_address_whose_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the server says of it; a server that says nothing is read anew each time. A signature is no part of the name, or of logs."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    from prefine.redaction import redact

    held: dict[str, Any] = {"rows": 5, "says": True, "read": 0}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

        def answer(self, whole: bool) -> None:
            body = lines(lab_pairs(held["rows"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            if held["says"]:
                self.send_header("ETag", f'"{held["rows"]}"')
            self.end_headers()
            if whole:
                held["read"] += 1
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.answer(False)

        def do_GET(self) -> None:
            self.answer(True)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        source = f"http://127.0.0.1:{server.server_address[1]}/pairs.jsonl?X-Amz-Signature=0123456789abcdef"
        counts = []
        for rows, says in ((5, True), (5, True), (7, True), (7, False), (7, False), (9, False)):
            held |= {"rows": rows, "says": says}
            before = held["read"]
            counts.append((len(prefine.load_preferences(source)), held["read"] - before))
    finally:
        server.shutdown()
        server.server_close()
    assert [count for count, _ in counts] == [5, 5, 7, 7, 7, 9]
    read = [count for _, count in counts]
    assert read[1] < min(read[0], *read[2:])  # where it says that it is the same, it is not read
    assert "0123456789abcdef" not in redact(f"data: {source}")
