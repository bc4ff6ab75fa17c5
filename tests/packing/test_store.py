"""Groups on disk, encoded sources, and what is held out."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from prefine.errors import DataError
from prefine.lab.model import build_tokenizer
from prefine.packing.encoded import encode_source
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup, as_ids
from prefine.packing.store import GroupStore, hold_out
from prefine.preferences import PairSource


def groups(count: int) -> Iterator[PromptGroup]:
    for i in range(count):
        yield PromptGroup(as_ids([i % 7, 1]), (as_ids([2] * (1 + i % 3)), as_ids([3, i])), 10 + i)


def same(a: PromptGroup, b: PromptGroup) -> bool:
    pieces = zip((a.prompt_ids, *a.completion_ids), (b.prompt_ids, *b.completion_ids), strict=True)
    return a.index == b.index and all(np.array_equal(x, y) for x, y in pieces)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = GroupStore.write(tmp_path / "s", groups(20), lambda: {"x": 1})
    assert len(store) == 20
    assert all(same(a, b) for a, b in zip(store, groups(20), strict=True))
    assert same(store[-1], list(groups(20))[-1])
    assert [g.index for g in store[3:5]] == [13, 14]
    assert store.about == {"x": 1}
    picked = store.select(np.array([4, 9, 2])).select(np.array([2, 0]))
    assert [g.index for g in picked] == [12, 14]
    assert [g.index for g in pickle.loads(pickle.dumps(picked))] == [12, 14]
    with pytest.raises(IndexError):
        store[20]


def test_a_store_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def broken() -> Iterator[PromptGroup]:
        yield from groups(3)
        raise DataError("row 4 is wrong")

    with pytest.raises(DataError):
        GroupStore.write(tmp_path / "s", broken(), dict)
    assert list(tmp_path.iterdir()) == []
    first = GroupStore.write(tmp_path / "s", groups(3), dict)
    GroupStore.write(tmp_path / "s", groups(3), dict)  # another process wrote the same
    assert [p.name for p in tmp_path.iterdir()] == ["s"]
    assert len(first) == 3


def test_held_out_prompts_are_never_trained_on_and_stay_when_rows_are_added() -> None:
    keys = np.arange(1000, dtype=np.uint64) % 250
    held = hold_out(keys, 0.1, seed=0)
    assert len(set(keys[held].tolist())) == 25
    assert not set(keys[held].tolist()) & set(keys[~held].tolist())
    grown = hold_out(np.arange(1010, dtype=np.uint64) % 260, 0.1, seed=0)
    assert len(set(keys[held].tolist()) & set((np.arange(1010) % 260)[grown].tolist())) >= 23
    assert hold_out(keys, 0.1, seed=1).tolist() != held.tolist()
    assert hold_out(keys, 0.9, seed=0, most=7).sum() == 28  # four rows a prompt
    assert not hold_out(keys, 0.0, seed=0).any()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("rare", [1, 2, 3, 12, 30])
def test_a_rare_label_is_on_both_sides(seed: int, rare: int) -> None:
    """Of 600 responses to 300 prompts so few are unwanted; one alone is trained on."""
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 2**63, 300).astype(np.uint64).repeat(2)
    labels = np.ones(600, bool)
    labels[2 * rng.permutation(300)[:rare]] = False
    held = hold_out(keys, 0.05, seed, labels=labels)
    assert not set(keys[held].tolist()) & set(keys[~held].tolist())
    assert (~labels[~held]).sum() > 0
    assert ((~labels[held]).sum() > 0) == (rare > 1)
    assert 15 <= len(np.unique(keys[held])) <= 18
    again = hold_out(keys[::-1], 0.05, seed, labels=labels[::-1])
    assert again.tolist() == held.tolist()[::-1]


def test_an_encoded_source_is_reused_by_content(tmp_path: Path) -> None:
    def write(name: str, last: str) -> str:
        rows = [{"prompt": f"what is {i} plus 1", "chosen": str(i + 1), "rejected": last} for i in range(8)]
        (tmp_path / name).write_text("".join(json.dumps(r) + "\n" for r in rows))
        return str(tmp_path / name)

    tokenizer = build_tokenizer()

    def encode(source: str, max_length: int = 50) -> bool:
        found = encode_source(PairSource(source), Encoder(tokenizer, max_length), tmp_path / "cache")
        assert found.data["source"] == source
        assert len(found.groups) == found.encoding["encoded"] == 8
        return found.reused

    assert not encode(write("a.jsonl", "0"))
    assert encode(str(tmp_path / "a.jsonl"))
    assert encode(write("copy.jsonl", "0"))  # the name does not count
    assert not encode(write("a.jsonl", "20"))  # the content does
    assert not encode(str(tmp_path / "a.jsonl"), max_length=40)  # so do the limits
    tokenizer.chat_template = "{{ messages }}"
    assert not encode(str(tmp_path / "a.jsonl"))  # and the template


def test_encoding_a_file_needs_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "big.jsonl"
    filler = "the cable is slow " * 60
    with path.open("w") as stream:
        for i in range(6000):
            row = {"prompt": f"what is {i % 20} plus 1 {filler}", "chosen": f"{i % 20} {filler}", "rejected": filler}
            stream.write(json.dumps(row) + "\n")
    tracemalloc.start()
    encoded = encode_source(PairSource(str(path)), Encoder(build_tokenizer()), tmp_path / "cache")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(encoded.groups) == 6000
    assert peak < path.stat().st_size / 2  # the rows as objects alone would be twice the file
