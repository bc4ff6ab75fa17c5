"""Labelled responses of any source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prefine as pf
from prefine.api.showing import show
from prefine.errors import DataError
from prefine.packing.group import UNWANTED, WANTED, LabelledGroup
from prefine.packing.store import GroupStore
from prefine.preferences.convert import PairSource, Reading, canonical
from prefine.preferences.examples import ExampleSource
from prefine.preferences.formats import detect
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


@pytest.mark.parametrize("names", [("prompt", "completion"), ("prompt", "response"), ("question", "answer"), ("instruction", "output")])
@pytest.mark.parametrize("label", ["label", "thumbs", "thumb"])
def test_columns_of_other_names(names: tuple[str, str], label: str) -> None:
    rows = [{names[0]: "q", names[1]: "a", label: yes} for yes in (True, False)]
    found = list(labelled_rows(rows, "rows", {}))
    assert [item.label for item in found] == [True, False]
    as_text = names == ("prompt", "completion")
    assert found[0].prompt == ("q" if as_text else ({"role": "user", "content": "q"},))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(
            (v, True)
            for v in (True, 1, 1.0, "1", "1.0", "TRUE", "true", "yes", "pass", "👍", "thumbs-up", "thumbs_up", "Good", "desirable")
        ),
        *((v, False) for v in (False, 0, -1, "-1", "0", "FALSE", "No", "failed", "👎", "thumbs down", "bad", "undesirable")),
        *((v, "nobody rated it") for v in (None, "")),
        *((v, "label is neither true nor false") for v in ("maybe", 2, 0.5, [], "not good")),
    ],
)
def test_labels_as_people_write_them(value: Any, expected: Any) -> None:
    dropped: dict[str, list[int]] = {}
    found = list(labelled_rows([{"prompt": "q", "completion": "a", "label": value}], "rows", dropped))
    assert [item.label for item in found] == ([expected] if isinstance(expected, bool) else [])
    assert dropped == ({} if isinstance(expected, bool) else {expected: [1]})


def test_preferences_of_labels_are_an_object_too(tmp_path: Path) -> None:
    """As those of pairs: counted, thinned out, split, saved, given to pandas and to a trainer's call."""
    rows: list[dict[str, Any]] = [
        {"prompt": f"Which bird is {i // 2}?", "response": f"a heron, {i}", "thumb": i % 2 == 0} for i in range(60)
    ]
    path = written(tmp_path, [*rows, rows[0], {"prompt": "q", "response": "a", "thumb": "perhaps"}])
    data = pf.load_preferences(path)
    assert (len(data), data.labelled, data.format) == (61, True, "labelled")
    assert data.dropped == {"label is neither true nor false": 1}
    assert "61 usable labelled responses" in repr(data)
    assert "completion" in data._repr_html_()
    assert len(data.dedup()) == 60
    assert len(data.filter(drop=["templated"])) == 61
    train, test = data.train_test_split(0.2)
    assert train.labelled
    assert test.labelled
    assert len(train) + len(test) == 61
    assert {item.label for item in data} == {True, False}
    assert set(data.to_pandas().columns) == {"prompt", "completion", "label"}
    again = pf.load_preferences(str(data.save(tmp_path / "saved.jsonl")))
    assert [canonical(item) for item in again] == [canonical(item) for item in data]
    assert not pf.load_preferences([{"prompt": "q", "chosen": "a", "rejected": "b"}]).labelled


@pytest.mark.parametrize("scores", [[1, 1, 0, 0], [1, -1, 1, -1]])
def test_a_list_of_thumbs_labels_each(scores: list[int]) -> None:
    dropped: dict[str, list[int]] = {}
    found = list(labelled_rows([{"prompt": "q", "responses": list("abcd"), "scores": scores}], "rows", dropped))
    assert [(plain_text(item.answer), item.label) for item in found] == [(x, s > 0) for x, s in zip("abcd", scores, strict=True)]
    assert not dropped


def test_numpys_labels_and_the_first_that_is_given() -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "q", "completion": "a", "label": value} for value in (np.bool_(True), np.int64(0), np.float64(1))
    ]
    rows.append({"prompt": "q", "completion": "a", "label": None, "thumbs": True})
    assert [item.label for item in labelled_rows(rows, "rows", {})] == [True, False, True, True]


ANSWERED: list[dict[str, Any]] = [
    {"instruction": "q", "output": "a", "label": None},
    {"instruction": "q", "input": "i", "output": "a", "scores": []},
    {"object": "chat.completion", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "choices": [],
     "metadata": {}},
    {"prompt": "q", "response": "a", "n.responses": 3},
    {"question": "q", "answer": "a", "label": 0},
    {"question": "q", "answer": "a", "thumbs_up": 0},
]  # fmt: skip


@pytest.mark.parametrize("row", ANSWERED, ids=lambda row: " ".join(row))
def test_examples_stay_examples_beside_columns_that_look_like_feedback(row: dict[str, Any], tmp_path: Path) -> None:
    """What sft reads; a class or an empty list of scores is no opinion."""
    found = list(ExampleSource(written(tmp_path, [row] * 3)).examples())
    assert [plain_text(item.answer or "") for item in found] == ["a"] * 3


APART: dict[str, dict[str, Any]] = {
    "labelled": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": True, "answer": "42"},
    "label-studio": {
        **{"id": 1, "prompt": "q", "response": "a", "label": "Good", "annotator": 1, "annotation_id": 2},
        **{"created_at": "", "updated_at": "", "lead_time": 1.0},
    },
    "argilla-records": {"prompt": "q", "response": "a", "label": [{"user_id": "u", "value": "good", "status": "submitted"}]},
    "pairs": {"prompt": "q", "chosen": "a", "rejected": "b", "quality.responses": None, "response": "a", "label": True},
    "alpaca": {"instruction": "q", "input": "", "chosen": "a", "rejected": "b", "output": "a", "label": 1},
    "helpsteer": {"prompt": "q", "response": "a", "helpfulness": 3, "label": True},
    "rated": {"prompt": "q", "responses": ["a", "b"], "scores": [1, 2], "response": "a", "label": True},
}


@pytest.mark.parametrize("name", APART)
def test_a_label_beside_another_formats_columns(name: str) -> None:
    assert detect([APART[name]], "rows").name == name


@pytest.mark.parametrize("names", [("prompt", "response", "label"), ("asked", "said", "good")])
def test_show_tells_how_many_are_wanted(names: tuple[str, str, str], tmp_path: Path) -> None:
    path = written(tmp_path, [dict(zip(names, ("q", f"a{i}", i > 0), strict=True)) for i in range(3)])
    renamed = {} if names[0] == "prompt" else {"map": [f"prompt={names[0]}", f"completion={names[1]}", f"label={names[2]}"]}
    assert "3 labelled responses, 2 of them wanted" in str(show(source=[path], **renamed))


def test_show_of_an_export_names_no_column_that_was_read() -> None:
    told = str(show(source=[str(Path(__file__).parent / "exports/label_studio/rlhf_preference.csv")]))
    assert "3 usable pairs" in told
    assert "not read" not in told
