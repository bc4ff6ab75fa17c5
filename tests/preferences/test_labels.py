"""Labelled responses of any source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefine.errors import DataError
from prefine.packing.group import UNWANTED, WANTED, LabelledGroup
from prefine.packing.store import GroupStore
from prefine.preferences.convert import PairSource, Reading
from prefine.preferences.labels import LabelledSource, labelled_rows
from prefine.preferences.records import Labelled, plain_text

PAIRS = [{"prompt": f"q{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(4)]
RATED = [{"prompt": "q", "responses": ["a", "b", "c"], "scores": [1, 3, 2]}, {"prompt": "r", "responses": ["a", "b"], "scores": [1, 1]}]
LABELLED = [{"prompt": "q", "completion": "a", "label": True}, {"prompt": "q", "completion": "b", "label": "thumbs_down"}]


def written(folder: Path, rows: list[dict[str, Any]]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(source: LabelledSource) -> list[tuple[str, bool]]:
    return [(plain_text(item.answer), item.label) for item in source]


def test_of_pairs_both_sides_of_ranked_ones_best_and_worst(tmp_path: Path) -> None:
    pairs = LabelledSource(written(tmp_path, PAIRS))
    assert read(pairs)[:4] == [("good 0", True), ("bad 0", False), ("good 1", True), ("bad 1", False)]
    assert pairs.summary()["responses"] == 8
    rated = LabelledSource(written(tmp_path, RATED), Reading(pairing="all"))
    assert read(rated) == [("b", True), ("a", False)]
    assert list(rated.dropped.values()) == [[2]]
    labelled = LabelledSource(written(tmp_path, LABELLED))
    assert read(labelled) == [("a", True), ("b", False)]


def test_weights_and_what_is_known_by(tmp_path: Path) -> None:
    path = written(tmp_path, PAIRS)
    assert len(read(LabelledSource(path, weights=[2.0]))) == 16
    half = LabelledSource(path, weights=[0.5])
    assert len(read(half)) + len(half.dropped["not drawn by its source's weight"]) == 8
    assert LabelledSource(path).fingerprint != PairSource(path).fingerprint


def test_rows_in_memory_and_what_has_no_label() -> None:
    dropped: dict[str, list[int]] = {}
    assert len(list(labelled_rows(PAIRS, "rows", dropped))) == 8
    bad = [*LABELLED, {"prompt": "q", "completion": "c", "label": "perhaps"}]
    assert [item.label for item in labelled_rows(bad, "rows", dropped)] == [True, False]
    assert dropped == {"label is neither true nor false": [3]}
    with pytest.raises(DataError, match="empty"):
        list(labelled_rows([], "rows", dropped))


def test_a_store_keeps_labels_and_uncounted_tokens(tmp_path: Path) -> None:
    ids = [np.arange(3, dtype=np.int32), np.arange(4, dtype=np.int32)]
    groups = [
        LabelledGroup(ids[0], (ids[1],), 1, None, None, (WANTED,)),
        LabelledGroup(ids[1], (ids[1],), 2, None, np.array([1, 0, 1, 1], np.float32), (UNWANTED,)),
        LabelledGroup(ids[1], (ids[0],), 3, None, None, (UNWANTED,)),
    ]
    store = GroupStore.write(tmp_path / "s", groups, dict)
    part = store.select(np.array([1, 0]))
    assert [g.labels for g in store] == [(1,), (0,), (0,)]
    assert part.labels.tolist() == [0, 1]
    assert part[0].weights.tolist() == [1, 0, 1, 1]
    assert part[1].weights is None
    assert part[0]["label"] is False
    assert part[0]["completion_ids"] == [0, 1, 2, 3]


def test_an_encoded_response_has_its_label(lab_model: Path) -> None:
    from transformers import AutoTokenizer

    from prefine.packing.encoding import Encoder

    encoder = Encoder(AutoTokenizer.from_pretrained(lab_model))
    group = encoder.encode_labelled(Labelled("my printer is hot", "clean the fan", True, 7))
    assert group is not None
    assert (group.labels, group.index) == ((WANTED,), 7)
    assert encoder.encode_labelled(Labelled("my printer is hot", "", False)) is None
