"""The audit of single responses with labels: what a pair's two sides would show, and how many there are of each label."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefine.api.training_data import check_findings
from prefine.audit.audit import Audit, _matched, audit
from prefine.audit.check import Finding
from prefine.audit.row_checks import flags
from prefine.errors import ConfigError
from prefine.preferences.convert import Reading
from prefine.preferences.records import Labelled

Row = dict[str, Any]
ANIMALS = ["heron", "stork", "bittern", "egret", "ibis", "crane", "coot", "rail", "swan", "teal"]


def audited(path: Path, rows: list[Row]) -> tuple[Audit, dict[str, Finding]]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = audit([str(path)], Reading(), processes=1)
    return found, {f.name: f for f in found.findings}


def thumbs(count: int, wanted: Any = None, good: Any = None, bad: Any = None, seed: int = 0) -> list[Row]:
    """Rows of four responses a prompt; what they say tells nothing where nothing is given."""
    rng = random.Random(seed)

    def text() -> str:
        return " ".join(rng.choice(ANIMALS) for _ in range(rng.randint(5, 20))).capitalize() + "."

    rows = []
    for i in range(count):
        label = rng.random() < 0.5 if wanted is None else wanted(i)
        say = (good if label else bad) or (lambda t: t)
        rows.append({"prompt": f"Which bird is number {i // 4} of {rng.random():.9f}?", "completion": say(text()), "label": label})
    return rows


def test_labels_that_nothing_tells_are_fine(tmp_path: Path) -> None:
    _, found = audited(tmp_path / "x.jsonl", thumbs(2000))
    for name in ("one-sided-labels", "length-shortcut", "first-word-shortcut", "mark-shortcut", "word-probe", "turned-part"):
        assert found[name].grade == "fine", found[name]
    assert found["one-sided-labels"].of == 2000


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("length-shortcut", lambda t: t[:15], None),
        ("first-word-shortcut", lambda t: f"Sure, {t}", None),
        ("mark-shortcut", None, lambda t: f"**{t}**"),
        ("word-probe", lambda t: f"{t} delve", None),
    ],
)
def test_shortcuts_of_labels_are_found(name: str, good: Any, bad: Any, tmp_path: Path) -> None:
    audit, found = audited(tmp_path / "x.jsonl", thumbs(2000, good=good, bad=bad))
    assert found[name].grade == "look", found[name]
    assert "pairs" not in found[name].detail
    if name == "word-probe":
        assert "delve" in audit.probe["chosen"]


def test_labels_that_turn_round_are_found(tmp_path: Path) -> None:
    rows = [*thumbs(600, good=lambda t: t * 3), *thumbs(600, bad=lambda t: t * 3, seed=1)]
    assert audited(tmp_path / "x.jsonl", rows)[1]["turned-part"].grade == "look"


@pytest.mark.parametrize(("wanted", "grade"), [(lambda i: True, "fix"), (lambda i: i % 40 > 0, "look"), (lambda i: i % 4 > 0, "fine")])
def test_how_many_there_are_of_each(wanted: Any, grade: str, tmp_path: Path) -> None:
    _, found = audited(tmp_path / "x.jsonl", thumbs(400, wanted))
    assert found["one-sided-labels"].grade == grade
    assert f"{sum(map(wanted, range(400)))} of 400" in found["one-sided-labels"].detail


def test_each_response_stands_in_one_couple_of_its_own_prompt_where_it_can() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        label, prompts = rng.random(60) < 0.3, rng.integers(0, 12, 60).astype(np.uint64)
        first, second = _matched(label, prompts)
        assert label[first].all()
        assert not label[second].any()
        assert len(set(first.tolist())) == len(first) == min(label.sum(), (~label).sum()) == len(set(second.tolist()))
        by_prompt = sum(min(((prompts == p) & label).sum(), ((prompts == p) & ~label).sum()) for p in np.unique(prompts))
        assert (prompts[first] == prompts[second]).sum() >= by_prompt


def test_a_wanted_refusal_is_found_and_an_unwanted_one_is_not() -> None:
    said = "I'm sorry, but I can't help with that."
    assert flags(Labelled("Name a heron.", said, True, 1)) == ["chosen-refuses"]
    assert flags(Labelled("Name a heron.", said, False, 1)) == []


def test_that_nobody_rated_most_rows_is_no_fault(tmp_path: Path) -> None:
    """As of a tool that logs all and is rated seldom; what is damaged is counted among the rated ones."""
    rated = thumbs(100)
    silent: list[Row] = [row | {"label": None} for row in thumbs(900, seed=1)]
    _, found = audited(tmp_path / "x.jsonl", silent[:450] + rated + silent[450:])
    assert (found["dropped"].grade, found["dropped"].detail) == ("fine", "900 nobody rated it")
    check_findings([f.summary() for f in found.values()], ignore=False)
    broken: list[Row] = [row | {"label": "perhaps"} for row in thumbs(150, seed=2)]
    _, found = audited(tmp_path / "y.jsonl", [*silent, *rated, *broken])
    assert (found["dropped"].count, found["dropped"].of) == (150, 250)
    with pytest.raises(ConfigError, match="mean nothing"):
        check_findings([f.summary() for f in found.values()], ignore=False)
