"""Metrics between two logs."""

from __future__ import annotations

import math

import pytest
import torch

from prefine.training import notes as notes_module
from prefine.training.notes import Notes


def test_what_is_noted_later_counts_as_what_is_noted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes_module, "MOST_LATER", 3)
    at_once, later = Notes(), Notes()
    for i in range(8):
        mode = ("train", "eval")[i % 2]
        for notes, name in ((at_once, "loss"), (at_once, "margin")):
            notes.add(mode, name, float(i), 2.0)
        later.add_later(mode, ("loss", "margin"), torch.tensor([float(i), float(i)]), torch.tensor([2, 2]))
    for mode in ("train", "eval"):
        assert at_once.take(mode) == later.take(mode) != {}
        assert later.take(mode) == {}


def test_what_is_taken_back_was_not_noted_later_either() -> None:
    notes = Notes()
    notes.add_later("train", ("loss",), torch.tensor([3.0]), torch.tensor([1.0]))
    before = notes.so_far("train")
    notes.add_later("train", ("loss",), torch.tensor([4.0]), torch.tensor([1.0]))
    notes.add("train", "other", 1.0, 1.0)
    notes.take_back("train", before)
    assert notes.take("train") == {"loss": [3.0, 1.0]}


def test_a_skipped_updates_metrics_are_left_out_of_training_alone() -> None:
    notes = Notes()
    for mode in ("train", "eval"):
        notes.add_later(mode, ("loss", "margin"), torch.tensor([math.nan, 1.0]), torch.tensor([1.0, 1.0]))
    assert notes.take("train") == {"margin": [1.0, 1.0]}
    assert math.isnan(notes.take("eval")["loss"][0])
