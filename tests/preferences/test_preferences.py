"""Reading and converting preference data, good and bad."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefine.errors import ColumnError, DataError, MissingFile, PrefineError
from prefine.preferences import Pair, PairSource, Reading
from prefine.preferences.formats.transcripts import parse_transcript

ROWS = [{"prompt": f"q{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(5)]


def lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(r) + "\n" for r in rows).encode()


def write(kind: str, folder: Path) -> Path:
    path = folder / f"pairs.{kind}"
    if kind.startswith("parquet"):
        parquet.write_table(pa.Table.from_pylist(ROWS), folder / "plain.parquet")
        raw = (folder / "plain.parquet").read_bytes()
    elif kind.startswith("csv"):
        raw = ("prompt,chosen,rejected\n" + "".join(f'"{r["prompt"]}","{r["chosen"]}","{r["rejected"]}"\n' for r in ROWS)).encode()
    elif kind.startswith("jsonl"):
        raw = lines(ROWS)
    else:
        raw = json.dumps(ROWS).encode()
    path.write_bytes(gzip.compress(raw) if kind.endswith("gz") else raw)
    return path


def load(path: str, columns: dict[str, str] | None = None) -> tuple[list[Pair], PairSource]:
    source = PairSource(path, Reading(columns or {}))
    return list(source), source


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json", "json.gz", "csv", "csv.gz", "parquet", "parquet.gz"])
def test_every_file_type_reads_the_same(kind: str, tmp_path: Path) -> None:
    pairs, data = load(str(write(kind, tmp_path)))
    assert [(p.prompt, p.chosen, p.rejected, p.row) for p in pairs] == [(f"q{i}", f"good {i}", f"bad {i}", i + 1) for i in range(5)]
    assert data.format == "pairs"


def test_saved_dataset_folder(tmp_path: Path) -> None:
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    assert len(load(str(tmp_path / "saved"))[0]) == 5


def test_hub_id_goes_through_load_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def load_dataset(name: str, config: str | None, split: str, revision: str | None) -> Any:
        seen.append((name, config, split, revision))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(load("owner/name:main:test")[0]) == 5
    load("owner/name")
    load("owner/name@v1.0:test[:10%]")
    load("HuggingFaceH4/ultrafeedback_binarized")
    assert seen == [
        ("owner/name", "main", "test", None),
        ("owner/name", None, "train", None),
        ("owner/name", None, "test[:10%]", "v1.0"),
        ("HuggingFaceH4/ultrafeedback_binarized", None, "train_prefs", None),
    ]


def test_other_column_names(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines([{"question": "q", "chosen": "a", "rejected": "b"}]))
    with pytest.raises(ColumnError, match=r"columns found: question, chosen, rejected.*--map prompt=question"):
        load(str(path))
    assert load(str(path), {"prompt": "question"})[0][0].prompt == "q"
    with pytest.raises(ColumnError, match="no column 'questoin'"):
        load(str(path), {"prompt": "questoin"})


def test_implicit_prompt_messages(tmp_path: Path) -> None:
    shared = [{"role": "user", "content": "hi"}]
    row = {"chosen": [*shared, {"role": "assistant", "content": "a"}], "rejected": [*shared, {"role": "assistant", "content": "b"}]}
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines([row]))
    pair = load(str(path))[0][0]
    assert pair.prompt == tuple(shared)
    assert pair.chosen == ({"role": "assistant", "content": "a"},)


def test_transcripts() -> None:
    text = "\n\nHuman: a\n\nwith a blank line\n\nAssistant: b\n\nHuman: c\n\nAssistant: d"
    assert [m["content"] for m in parse_transcript(text)] == ["a\n\nwith a blank line", "b", "c", "d"]


def test_real_hh_rlhf_counts(shared_data: Path) -> None:
    pairs, data = load(str(shared_data / "hh_rlhf_harmless.jsonl.gz"))
    assert data.rows == 2000
    assert len(pairs) + sum(map(len, data.dropped.values())) == 2000
    assert sum(len(p.chosen) > 1 or len(p.rejected) > 1 for p in pairs) == 4  # they differ before the last turn: of several turns
    assert len(data.dropped["response is empty"]) == 4


BAD_ROWS = {
    "chosen equals rejected": {"prompt": "q", "chosen": "same", "rejected": "same"},
    "response is empty": {"prompt": "q", "chosen": " ", "rejected": "b"},
    "prompt is empty": {"prompt": "", "chosen": "a", "rejected": "b"},
    "response is not text": {"prompt": "q", "chosen": 7, "rejected": "b"},
    "prompt is not text": {"prompt": None, "chosen": "a", "rejected": "b"},
}


@pytest.mark.parametrize("reason", list(BAD_ROWS))
def test_bad_rows_are_dropped_and_counted(reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines([ROWS[0], BAD_ROWS[reason], ROWS[1]]))
    pairs, data = load(str(path))
    assert len(pairs) == 2
    assert dict(data.dropped) == {reason: [2]}


def test_bad_files(tmp_path: Path) -> None:
    def check(name: str, raw: bytes, message: str) -> None:
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(DataError, match=message):
            load(str(tmp_path / name))

    check("empty.jsonl", b"", "empty")
    check("cut.jsonl.gz", gzip.compress(lines(ROWS * 100))[:60], "gzip stream is damaged or cut")
    check("not.jsonl.gz", b"plain", "gzip stream is damaged")
    check("broken.jsonl", lines(ROWS * 200)[:-1].replace(b'"q4"', b'"q4', 1), "line 5: not valid JSON")
    check("late.jsonl", lines(ROWS * 199 + ROWS[:4]) + b"{oops\n", "line 1000: not valid JSON")
    check(
        "mixed.jsonl", lines([ROWS[0], {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}]), "changes"
    )
    check("list.jsonl", b"[1]\n", "expected an object")
    check("latin.jsonl", '{"prompt": "é"}'.encode("latin-1"), "not UTF-8")
    check("x.parquet", b"nope", "not a readable Parquet")
    check("x.xml", b"<a/>", "unknown file type")
    check("short.csv", b"prompt,chosen,rejected\na,b\n", "row 1")
    with pytest.raises(MissingFile, match="no such file"):
        load(str(tmp_path / "absent.jsonl"))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["jsonl", "json", "csv", "parquet", "jsonl.gz"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes, kind: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzz.{kind}"
    path.write_bytes(raw)
    with contextlib.suppress(PrefineError):
        load(str(path))


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda c: st.lists(c, max_size=3) | st.dictionaries(
    st.sampled_from(["role", "content", "prompt", "chosen", "rejected"]), c, max_size=4), max_leaves=8)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["prompt", "chosen", "rejected", "x"]), JSON), min_size=1, max_size=4))
def test_any_rows_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz_rows.jsonl"
    path.write_bytes(lines(rows))
    try:
        pairs, data = load(str(path))
    except PrefineError:
        return
    assert len(pairs) + sum(map(len, data.dropped.values())) == data.rows
