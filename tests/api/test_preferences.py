"""Preference data as an object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import prefine as pf
from prefine.preferences.draws import prompt_text_key


def test_a_source_is_read_split_and_handed_on(pairs_file: Path, tmp_path: Path) -> None:
    data = pf.load_preferences(str(pairs_file))
    assert len(data) == 64
    assert data.format == "pairs"
    assert data.dropped == {}
    train, held_out = data.train_test_split(test_size=0.3)
    assert len(train) + len(held_out) == 64
    assert not {prompt_text_key(p) for p in train} & {prompt_text_key(p) for p in held_out}
    dataset = data.to_dataset()
    assert dataset.column_names == ["prompt", "chosen", "rejected"]
    table = data.to_pandas()
    assert list(table["chosen"]) == list(dataset["chosen"])
    path = data.save(tmp_path / "again.parquet")
    assert [p.chosen for p in pf.load_preferences(path)] == [p.chosen for p in data]


def test_rows_in_memory_and_datasets(pairs_file: Path) -> None:
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    from_rows = pf.load_preferences(rows)
    from_dataset = pf.load_preferences(pf.load_preferences(pairs_file).to_dataset())
    assert [p.chosen for p in from_rows] == [p.chosen for p in pf.load_preferences(pairs_file)] == [p.chosen for p in from_dataset]
    with pytest.raises(pf.PrefineError, match="rows that are mappings"):
        pf.load_preferences([1, 2])


def test_thinning_out(pairs_file: Path) -> None:
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    data = pf.load_preferences([*rows, rows[0]])
    assert len(data) - len(data.dedup()) >= 1
    with pytest.raises(pf.PrefineError, match="none of its 65 rows is left"):
        data.filter(min_words=10_000)
    short = data.filter(max_words=9)
    assert sum(short.dropped.values()) == len(data) - len(short) > 0
    assert "left out on the way" in repr(short)
    assert sum(short.dedup().dropped.values()) >= sum(short.dropped.values())
    shorter = data.filter(max_words=12).filter(max_words=9)  # the same reason twice
    assert sum(shorter.dropped.values()) == len(data) - len(shorter)
    part = data.sample(0.5, seed=1)
    assert [p.chosen for p in part] == [p.chosen for p in data.sample(0.5, seed=1)]
    assert 0 < len(part) < 65
    with pytest.raises(pf.PrefineError, match="unknown option nearr"):
        data.dedup(nearr=0.5)


def test_what_was_read_is_told_of_all_of_it_and_of_the_file_as_it_is(tmp_path: Path, pairs_file: Path) -> None:
    path = tmp_path / "p.jsonl"
    lines = pairs_file.read_text().splitlines(keepends=True)
    path.write_text("".join(lines))
    data = pf.load_preferences(path)
    assert len(data) == 64
    next(iter(data))
    assert "64 usable pairs" in repr(data)
    assert len(data.filter(max_words=99)) == 64
    path.write_text("".join(lines[:10]))
    assert len(data) == 10
    assert len(data.filter(max_words=99)) == 10


def test_rejected_rows_are_written_each_time(tmp_path: Path, pairs_file: Path) -> None:
    data = pf.load_preferences(pairs_file)
    for name in ("a", "b"):
        data.filter(max_words=12, rejected=str(tmp_path / f"{name}.jsonl"))
        assert (tmp_path / f"{name}.jsonl").exists()
    with pytest.raises(pf.PrefineError, match="output is given by the pairs themselves"):
        data.filter(max_words=9, output="x.jsonl")


def test_a_split_has_the_pairs_that_were_looked_at(tmp_path: Path) -> None:
    """Which pair a random pairing makes is drawn by the reading's seed; a split's seed is another."""

    def row(i: int) -> str:
        answers = [{"text": f"r{i}{k}", "pm_score": score} for score, k in enumerate("abcd")]
        return json.dumps({"question": f"q{i}", "answers": answers}) + "\n"

    path = tmp_path / "ranked.jsonl"
    path.write_text("".join(map(row, range(30))))
    data = pf.load_preferences(path, pairing="best-vs-random", seed=5)
    whole = {repr((p.prompt, p.chosen, p.rejected)) for p in data}
    assert len(whole) == 30
    train, test = data.train_test_split(test_size=0.3, seed=1)
    assert {repr((p.prompt, p.chosen, p.rejected)) for part in (train, test) for p in part} == whole


def test_it_shows_itself(pairs_file: Path) -> None:
    data = pf.load_preferences([{"prompt": "<b>hi</b>", "chosen": "<script>alert(1)</script>", "rejected": "no"}])
    assert "1 usable pairs" in repr(data)
    assert "<script>" not in data._repr_html_()
    found = pf.load_preferences(pairs_file).audit(near=False)
    assert found.grade in ("fix", "look", "fine")
    assert "<table>" in found._repr_html_()
    assert "what to do" in str(found.table())


def test_a_wrong_column_names_the_right_one(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"question": "q", "chosen": "a", "rejected": "b"}\n')
    with pytest.raises(pf.PrefineError, match="prompt=question"):
        len(pf.load_preferences(path))
    assert len(pf.load_preferences(path, map={"prompt": "question"})) == 1
