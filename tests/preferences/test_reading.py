"""Sources: files of any kind, folders, globs, standard input, databases, mixtures; and files that are broken."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefine.errors import ConfigError, DataError, MissingFile, PrefineError
from prefine.preferences import PairSource, Reading, blocks
from prefine.preferences.source import blocks as source_blocks
from prefine.preferences.source import read_rows, source_fingerprint

ROWS = [{"prompt": f"q{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(30)]


def lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(r).encode() + b"\n" for r in rows)


def prompts(source: str | list[str], **options: Any) -> list[Any]:
    return [p.prompt for p in PairSource(source, **options)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data" / "more").mkdir(parents=True)
    (tmp_path / "data" / "a.jsonl").write_bytes(lines(ROWS[:10]))
    (tmp_path / "data" / "more" / "b.jsonl.gz").write_bytes(gzip.compress(lines(ROWS[10:20])))
    (tmp_path / "data" / "c.json").write_bytes(json.dumps(ROWS[20:]).encode())
    (tmp_path / "data" / "README.md").write_text("not data")
    return tmp_path / "data"


def test_folders_globs_and_lists(folder: Path) -> None:
    assert sorted(prompts(str(folder))) == sorted(r["prompt"] for r in ROWS)
    assert prompts(str(folder / "*.json")) == [r["prompt"] for r in ROWS[20:]]
    assert len(prompts(str(folder / "**" / "*.jsonl*"))) == 20
    assert prompts([str(folder / "c.json"), str(folder / "a.jsonl")]) == [r["prompt"] for r in [*ROWS[20:], *ROWS[:10]]]
    rows = [p.row for p in PairSource([str(folder / "c.json"), str(folder / "a.jsonl")])]
    assert rows == list(range(1, 21))  # numbered on from source to source
    with pytest.raises(MissingFile, match="no file matches"):
        prompts(str(folder / "*.parquet"))
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="neither written by"):
        prompts(str(folder / "empty"))


def test_weights(folder: Path) -> None:
    sources = [str(folder / "a.jsonl"), str(folder / "c.json")]
    found = prompts(sources, weights=[2, 0.5])
    assert [found.count(r["prompt"]) for r in ROWS[:10]] == [2] * 10
    rest = [p for p in found if p in {r["prompt"] for r in ROWS[20:]}]
    assert 2 <= len(rest) <= 8
    assert len(rest) == len(set(rest))
    assert prompts(sources, weights=[2, 0.5]) == found  # a seeded draw
    drawn = PairSource(sources, weights=[2, 0.5])
    assert len(list(drawn)) - 20 + len(drawn.dropped["not drawn by its source's weight"]) == 10
    assert prompts(sources, weights=[2, 0.5], reading=Reading(seed=1)) != found
    with pytest.raises(ConfigError, match="1 weights for 2 sources"):
        prompts(sources, weights=[2])
    with pytest.raises(ConfigError, match="above 0"):
        prompts(sources, weights=[2, 0])


def test_standard_input(tmp_path: Path) -> None:
    for raw in (lines(ROWS), json.dumps(ROWS).encode(), gzip.compress(lines(ROWS))):
        command = [sys.executable, "-m", "prefine.cli", "data", "show", "-", "--rows", "0"]
        done = subprocess.run(command, input=raw, capture_output=True, check=False)
        assert b"30 usable pairs" in done.stdout, done.stderr


def test_databases(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE pairs (prompt TEXT, chosen TEXT, rejected TEXT)")
        connection.executemany("INSERT INTO pairs VALUES (:prompt, :chosen, :rejected)", ROWS)
        connection.commit()
    source = f"sqlite:///{path}"
    assert prompts(source) == [r["prompt"] for r in ROWS]
    assert prompts(f"{source}#SELECT * FROM pairs WHERE prompt < 'q2'") == sorted(r["prompt"] for r in ROWS if r["prompt"] < "q2")
    asked = f"{source}#SELECT prompt, ':x' AS chosen, rejected FROM pairs WHERE prompt LIKE 'q1%'"
    assert prompts(asked) == ["q1", *(f"q1{i}" for i in range(10))]
    assert source_fingerprint(source) == source_fingerprint(source)
    before = path.read_bytes()
    for wrong, message in (("DROP TABLE pairs", "not authorized"), ("SELECT nowhere FROM pairs", "no such column")):
        with pytest.raises(DataError, match=message):
            prompts(f"{source}#{wrong}")
    assert path.read_bytes() == before
    with pytest.raises(MissingFile, match="no such database"):
        prompts("sqlite:///nowhere.db")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (x TEXT)")
        connection.commit()
    with pytest.raises(ConfigError, match="has the tables other, pairs; add a query"):
        prompts(source)


def test_messages_in_cells(tmp_path: Path) -> None:
    turn = json.dumps([{"role": "user", "content": 'a "quoted" word'}])
    answer = json.dumps([{"role": "assistant", "content": "x"}])
    path = tmp_path / "x.csv"
    with path.open("w", newline="") as stream:
        import csv

        csv.writer(stream).writerows([["prompt", "chosen", "rejected"], [turn, answer, answer.replace("x", "y")]])
    (pair,) = PairSource(str(path))
    assert pair.prompt == ({"role": "user", "content": 'a "quoted" word'},)


def test_large_json_lists_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "WHOLE_JSON_BYTES", 100)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(ROWS))
    assert prompts(str(path)) == [r["prompt"] for r in ROWS]
    path.write_text(json.dumps(ROWS)[:-30])
    with pytest.raises(DataError, match="after row"):
        prompts(str(path))
    path.write_bytes(lines(ROWS))  # JSON lines under the name .json
    assert prompts(str(path)) == [r["prompt"] for r in ROWS]
    path.write_text(json.dumps({"data": ROWS}))
    monkeypatch.undo()
    assert prompts(str(path)) == [r["prompt"] for r in ROWS]


@pytest.mark.parametrize("size", [1, 37, 64, 1000, 2**20])
def test_blocks_do_not_depend_on_where_they_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
    path = tmp_path / "x.jsonl"
    for end in (b"", b"\n", b"\r\n\r\n"):
        path.write_bytes(b"\n\n" + lines(ROWS).replace(b"\n", b"\r\n").rstrip() + end)
        assert [(n, r["prompt"]) for n, r in read_rows(str(path))] == [(i + 3, r["prompt"]) for i, r in enumerate(ROWS)]


def test_one_very_long_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.jsonl"
    row = ROWS[0] | {"rejected": "x" * 100_000_000}
    path.write_bytes(lines([ROWS[1], row, ROWS[2]]))
    assert len(list(read_rows(str(path)))) == 3
    monkeypatch.setattr(blocks, "MAX_LINE_BYTES", 2**22)
    with pytest.raises(DataError, match=r"line 2: longer than 4 MiB"):
        list(read_rows(str(path)))


def test_gzip_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BOMB_BYTES", 2**22)
    path = tmp_path / "x.jsonl.gz"
    for raw in (b"\n" * 2**24, b" " * 2**24, b"a" * 2**24, lines(ROWS) + b"\n" * 2**24):
        path.write_bytes(gzip.compress(raw))
        with pytest.raises(DataError, match="grows to more than 200 times"):
            list(read_rows(str(path)))
    path.write_bytes(gzip.compress(lines([{"prompt": "a " * 200, "chosen": "b", "rejected": str(i)} for i in range(20000)])))
    assert len(list(read_rows(str(path)))) == 20000  # real text does not compress that well


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"prompt": "a", "prompt": "b"}', "line 3: the field 'prompt' is given twice"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "line 3: nested too deep"),
        (b'{"score_chosen": ' + b"9" * 10_000 + b"}", "line 3: Exceeds the limit"),
        (b'{"prompt": "\xff"}', "line 3: not UTF-8"),
        ('{"prompt": "é"}'.encode("utf-16"), "line 3: not UTF-8"),
        (b"[1, 2]", "line 3: expected an object"),
        (b'{"prompt": "a"', "line 3: not valid JSON"),
    ],
)
def test_a_broken_line_is_named(line: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines(ROWS[:2]) + line + b"\n" + lines(ROWS[2:]))
    with pytest.raises(DataError, match=message):
        prompts(str(path))


def test_odd_numbers_are_no_scores(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for odd in ("NaN", "Infinity", "1e999", "null", '"four"', "true", "9" * 400):
        text = json.dumps(ROWS[0])[:-1] + f', "score_chosen": {odd}, "score_rejected": 1' + "}\n"
        path.write_text(text)
        (pair,) = PairSource(str(path))
        assert pair.scores is None, odd


def _damaged(raw: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    data = bytearray(raw)
    for _ in range(rng.randint(1, 6)):
        kind = rng.randrange(5)
        at = rng.randrange(len(data) or 1)
        if kind == 0:
            del data[at : at + rng.randint(1, 40)]
        elif kind == 1 and data:
            data[at] = rng.randrange(256)
        elif kind == 2:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 20)))
        elif kind == 3:
            part = data[at : at + 200]
            data[at : at + 200] = b"".join(rng.sample(part.splitlines(True), len(part.splitlines())))
        else:
            del data[at:]
    return bytes(data)


def _kinds(folder: Path) -> dict[str, bytes]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    held = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(ROWS), held)
    csv_text = "prompt,chosen,rejected\n" + "".join(f"{r['prompt']},{r['chosen']},{r['rejected']}\n" for r in ROWS)
    plain = {".jsonl": lines(ROWS), ".json": json.dumps(ROWS).encode(), ".csv": csv_text.encode(), ".parquet": held.getvalue()}
    return plain | {f"{kind}.gz": gzip.compress(raw) for kind, raw in plain.items()}


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz", ".parquet.gz"])
def test_damaged_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    raw = _kinds(tmp_path)[kind]
    path = tmp_path / f"x{kind}"
    refused = 0
    for seed in range(150):
        path.write_bytes(_damaged(raw, seed))
        source = PairSource(str(path))
        try:
            count = len(list(source))
        except PrefineError:
            refused += 1
            continue
        assert count + sum(map(len, source.dropped.values())) == source.rows  # every row is a pair or has a reason
    assert refused


FIELDS = ["role", "content", "from", "value", "text", "rank", "replies"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda c: st.lists(c, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), c, max_size=4),
    max_leaves=8,
)
COLUMNS = ["prompt", "chosen", "rejected", "conversations", "messages", "label", "answers", "scores", "completions", "instruction", "input",
           "message_tree_id", "message_id", "parent_id", "text", "role", "conversation_a", "conversation_b", "winner", "response",
           "helpfulness", "summaries", "info", "choice", "question", "system", "completion", "preferred_output",
           "non_preferred_output"]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(COLUMNS), VALUES), min_size=1, max_size=4))
def test_any_rows_of_any_form(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz_forms.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    with contextlib.suppress(PrefineError):
        list(PairSource(str(path)))
    for block in source_blocks(str(path)):
        assert block.file == str(path)


def test_a_damaged_row_is_dropped_and_a_mixture_is_refused(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "q"}]
    sides = {side: [*turns, {"role": "assistant", "content": side}] for side in ("chosen", "rejected")}
    good = {"prompt": "q"} | sides
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines([good] * 25 + [good | {"chosen": None}]))
    source = PairSource(str(path))
    assert len(list(source)) == 25
    assert sum(map(len, source.dropped.values())) == 1
    path.write_bytes(lines([{"prompt": "q", "chosen": "\n\nAssistant: x", "rejected": "y"}]))
    assert len(list(PairSource(str(path)))) == 1
    users = {"chosen": [*turns, {"role": "user", "content": "a"}], "rejected": [*turns, {"role": "user", "content": "b"}]}
    path.write_bytes(lines([users, good]))
    source = PairSource(str(path))
    assert len(list(source)) == 1
    assert source.dropped == {"the two sides first differ in a turn that is not the assistant's": [1]}


def test_numbers_in_csv(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("prompt,chosen,rejected,score_chosen,score_rejected\nq,a,b,2.5,1\n")
    (pair,) = PairSource(str(path))
    assert pair.scores == (2.5, 1.0)
    path.write_text("prompt,response,helpfulness\nq,a,4\nq,b,1\n")
    (pair,) = PairSource(str(path))
    assert pair.scores == (4.0, 1.0)
    path.write_text('prompt,chosen,rejected\nq,"[{""name"": ""get""}]",b\n')
    (pair,) = PairSource(str(path))
    assert pair.chosen == '[{"name": "get"}]'
    path.write_text("prompt,chosen,chosen,rejected\nq,a,b,c\n")
    with pytest.raises(DataError, match="names a column twice"):
        list(PairSource(str(path)))


def test_what_else_lies_in_a_folder(tmp_path: Path) -> None:
    for name in ("part1.jsonl", "part2.jsonl", "x.jsonl.bak", "x.jsonl.metadata", ".hidden.jsonl"):
        (tmp_path / name).write_bytes(lines(ROWS[:2]) if name.startswith("part") else b"not data")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "y.jsonl").write_bytes(b"not data")
    assert len(prompts(str(tmp_path))) == 4
    assert len(prompts(str(tmp_path / "part[0-9].jsonl"))) == 4


WRITING = [
    "ATTACH 'file:{folder}/new.db?mode=rwc' AS x",
    "ATTACH '{folder}/other.db' AS x",
    "VACUUM INTO '{folder}/copy.db'",
    "VACUUM",
    "CREATE TABLE x (a)",
    "CREATE TEMP TABLE x AS SELECT 1",
    "INSERT INTO p VALUES (1, 2, 3)",
    "DELETE FROM p",
    "DROP TABLE p",
    "PRAGMA journal_mode=WAL",
    "PRAGMA writable_schema=1",
    "PRAGMA user_version=7",
    "PRAGMA temp_store_directory='{folder}'",
    "BEGIN IMMEDIATE",
    "SELECT load_extension('{folder}/x.so')",
    "SELECT writefile('{folder}/x', 'y')",
    "WITH x AS (SELECT 1) INSERT INTO p SELECT 1, 2, 3",
    "REPLACE INTO p VALUES (1, 2, 3) RETURNING *",
]
READING = {
    "": 2,
    "SELECT * FROM p": 2,
    "SELECT lower(prompt) AS prompt, count(*) AS chosen, json_extract('[1]', '$[0]') AS rejected FROM p GROUP BY 1": 2,
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 5) SELECT x AS prompt FROM c": 5,
    "PRAGMA table_info(p)": 3,
}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    import sqlite3

    path = tmp_path / "what is it?100%.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("create table p (prompt text, chosen text, rejected text)")
        connection.executemany("insert into p values (?, ?, ?)", [("a", "b", "c"), ("d", "e", "f")])
        connection.commit()
    return path


@pytest.mark.parametrize("query", WRITING)
def test_sql_writes_nothing(query: str, database: Path) -> None:
    before = {p: p.read_bytes() for p in database.parent.iterdir()}
    with pytest.raises(DataError, match="the query failed"):
        list(read_rows(f"sqlite:///{database}#{query.format(folder=database.parent)}"))
    assert {p: p.read_bytes() for p in database.parent.iterdir()} == before


@pytest.mark.parametrize("query", READING)
def test_sql_reads(query: str, database: Path) -> None:
    assert len(list(read_rows(f"sqlite:///{database}" + (f"#{query}" if query else "")))) == READING[query]
