"""One value of many megabytes: what it takes grows with its size and not with its square, and what is shown of it is cleaned alone."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefine.api import reading
from prefine.cli import main
from prefine.errors import nearest, some
from prefine.preferences import blocks
from prefine.preferences.blocks import read_blocks

WORDS = " ".join(["The quick brown fox jumps over the lazy dog, says “hello”."] * 20) + "\n"
ROLES = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
OTHER = {"prompt": "b", "chosen": "good", "rejected": "bad"}


def text_of(size: int) -> str:
    return (WORDS * (size // len(WORDS) + 1))[:size]


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def in_csv(path: Path, size: int) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, OTHER)
        writer.writeheader()
        writer.writerows([OTHER | {"prompt": text_of(size)}, OTHER])
    return path


def in_parquet(path: Path, size: int) -> Path:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([OTHER | {"prompt": text_of(size)}, OTHER]), path)
    return path


def said(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


KINDS: dict[str, Callable[[Path, int], Path]] = {
    "a prompt": lambda f, n: lines(f / "x.jsonl", OTHER | {"prompt": text_of(n)}),
    "responses": lambda f, n: lines(f / "x.jsonl", OTHER | {"chosen": text_of(n), "rejected": text_of(n)[:-9] + "otherwise"}),
    "a message": lambda f, n: lines(
        f / "x.jsonl", {"prompt": said("user", text_of(n)), "chosen": said("assistant", "a"), "rejected": said("assistant", "b")}
    ),
    "a conversation in one text": lambda f, n: lines(
        f / "x.jsonl", {w: f"\n\nHuman: {text_of(n)}\n\nAssistant: {w}" for w in ("chosen", "rejected")}
    ),
    "messages as Python's text": lambda f, n: lines(
        f / "x.jsonl", {w: str(said(who, text_of(n) if who == "user" else w)) for w, who in ROLES.items()}
    ),
    "many turns": lambda f, n: lines(
        f / "x.jsonl", OTHER | {"prompt": [{"role": ("user", "assistant")[i % 2], "content": "hi"} for i in range(n // 48 * 2 + 1)]}
    ),
    "many columns": lambda f, n: lines(f / "x.jsonl", {f"column {i}": i for i in range(n // 16)} | OTHER),
    "spaces": lambda f, n: lines(f / "x.jsonl", OTHER | {"prompt": " " * n + "x", "chosen": "a" + " " * n + "b"}),
    "line breaks": lambda f, n: lines(f / "x.jsonl", OTHER | {"prompt": "\n" * n + "x", "chosen": "a" + "\r\n" * (n // 2) + "b"}),
    "open brackets": lambda f, n: lines(f / "x.jsonl", OTHER | {"prompt": "[" * n, "chosen": "{" * n}),
    "open tags": lambda f, n: lines(f / "x.jsonl", OTHER | {"chosen": "<think>" * (n // 7)}),
    "terminal codes": lambda f, n: lines(f / "x.jsonl", OTHER | {"prompt": "\x1b[2J\u202e" * (n // 8)}),
    "a JSON list": lambda f, n: [(f / "x.json").write_text(json.dumps([OTHER | {"prompt": text_of(n)}, OTHER])), f / "x.json"][1],
    "JSON over lines": lambda f, n: [
        (f / "x.json").write_text("\n".join([json.dumps(OTHER | {"prompt": text_of(n)}, indent=1)] * 2)), f / "x.json"][1],
    "a cell of CSV": lambda f, n: in_csv(f / "x.csv", n),
    "a header of CSV": lambda f, n: [(f / "x.csv").write_text(",".join(["a"] * (n // 2)) + "\n"), f / "x.csv"][1],
    "a cell of Parquet": lambda f, n: in_parquet(f / "x.parquet", n),
    "a field given twice": lambda f, n: [
        (f / "x.jsonl").write_text("{" + ", ".join(f'"k{i}": 1' for i in range(n // 10)) + f', "k{n // 10 - 1}": 1}}\n'), f / "x.jsonl"][1],
    "no column is known": lambda f, n: lines(f / "x.jsonl", {f"column {i}": i for i in range(n // 16)}),
    "a name without end": lambda f, n: lines(f / "x.jsonl", {"chosen" * (n // 6): "a", "x": "b"}),
}  # fmt: skip
AUDITED = ("a prompt", "spaces", "open tags", "responses")
REFUSED = {"a header of CSV", "a field given twice", "no column is known", "a name without end"}


def seconds(words: list[str], code: int) -> float:
    since = time.process_time()
    assert main(words) == code
    return time.process_time() - since


@pytest.mark.parametrize(
    ("kind", "command"),
    [*((kind, "show") for kind in KINDS), *((kind, "audit") for kind in ("a prompt", "spaces", "open tags", "responses"))],
)
def test_time_grows_with_size(kind: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sixteen times the size: sixteen times the time, or 256 times where each part is compared with each."""
    small, large = 2**15 if command == "audit" else 2**16, 2**19 if command == "audit" else 2**20
    code = 2 if kind in REFUSED else 0
    words = ["data", command, str(KINDS[kind](tmp_path, small))]
    main(words)  # imports
    least = min(seconds(words, code) for _ in range(3))
    KINDS[kind](tmp_path, large)
    capsys.readouterr()
    assert seconds(words, code) < 64 * max(least, 0.005)
    assert sum(map(len, capsys.readouterr())) < 20_000


def test_a_streamed_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A JSON list that is too large to be parsed at once."""
    monkeypatch.setattr(blocks, "WHOLE_JSON_BYTES", 1000)
    words = ["data", "show", str(KINDS["a JSON list"](tmp_path, 2**20))]
    least = min(seconds(words, 0) for _ in range(3))
    KINDS["a JSON list"](tmp_path, 2**23)
    assert seconds(words, 0) < 32 * max(least, 0.01)
    assert f"... ({2**23} characters)" in capsys.readouterr().out


def test_only_what_is_shown_is_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cleaned: list[int] = []
    clean = reading.printable
    monkeypatch.setattr(reading, "printable", lambda text: (cleaned.append(len(text)), clean(text))[1])
    assert main(["data", "show", str(KINDS["responses"](tmp_path, 2**21))]) == 0
    assert len(cleaned) >= 3
    assert max(cleaned) < 10_000
    assert f"... ({2**21} characters)" in capsys.readouterr().out


def test_a_secret_at_the_end_of_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefine import redaction

    monkeypatch.setattr(redaction, "_given", {"hunter2-and-more"})
    for before in range(370, 410):
        shown = reading.shown_text("a" * before + "hunter2-and-more" + "b" * 9000)
        assert "hunt" not in shown
        assert shown.endswith(f"... ({before + 9016} characters)")
    assert reading.shown_text("a" * 400) == "a" * 400
    assert reading.shown_text("a" * 401) == "a" * 400 + "... (401 characters)"


def test_a_line_is_put_together_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks much smaller than the line, with lines before and behind."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    long = lines(tmp_path / "x.jsonl", OTHER, OTHER | {"prompt": "x" * 5000}, OTHER, OTHER | {"prompt": "y" * 900})
    rows = [row for block in read_blocks(long) for row in block.rows()]
    assert [number for number, _ in rows] == [1, 2, 3, 4]
    assert [len(row["prompt"]) for _, row in rows] == [1, 5000, 1, 900]
    assert b"\n".join(b.content for b in read_blocks(long)) == long.read_bytes().rstrip(b"\n")


def test_names_are_told_in_part() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some([str(i) for i in range(25)]).endswith("18, 19 and 5 more")
    assert some(["x" * 10**6]) == "x" * 80 + "..."
    assert nearest("promt", ["prompt" * 10**6, "prompt"]) == "; did you mean 'prompt'?"
