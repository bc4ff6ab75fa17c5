"""Several questions at once: the chance of any false alarm."""

from __future__ import annotations

import numpy as np
import pytest

from prefine.evaluation.interval import Interval
from prefine.evaluation.multiple import holm, together
from prefine.evaluation.regression import skill_of
from prefine.evaluation.verdict import Suspect, decide, find_broken


def test_holm_by_hand() -> None:
    # .05 / 4 = .0125, .05 / 3 = .0167, .05 / 2 = .025, .05: .01 and .015 fall, .03 stands and all after it
    assert holm([0.03, 0.01, 0.04, 0.015], 0.05) == [False, True, False, True]
    assert holm([], 0.05) == []
    assert together(1) == pytest.approx(0.95)
    assert together(5) == pytest.approx(0.99)


def test_twenty_unchanged_skills_break_nothing() -> None:
    rng = np.random.default_rng(0)
    false = 0
    for _ in range(60):
        skills = [skill_of(str(k), (rng.random(60) < 0.6).tolist(), (rng.random(60) < 0.6).tolist(), 0.01) for k in range(20)]
        false += bool(find_broken(skills, ())[0])
    assert false <= 4  # at most 2.5 % of them: more than 4 of 60 has probability .02


def test_one_skill_that_fell_is_found_among_twenty() -> None:
    same = [1.0, 0.0] * 150
    skills = [skill_of(str(k), same, same, 0.01) for k in range(19)] + [skill_of("sums", [1.0] * 300, [1.0] * 200 + [0.0] * 100, 0.01)]
    verdict = decide(Interval(0.7, 0.6, 0.8, 300, 300), skills)
    assert verdict.outcome == "better, but"
    assert verdict.broken == {"sums"}
    assert [verdict.state(s) for s in skills[-2:]] == ["inconclusive", "broken"]


def test_a_suspect_has_to_be_sure_and_to_matter() -> None:
    better = Interval(0.7, 0.6, 0.8, 300, 300)
    for worse, matters, outcome in ((0.001, True, "better, but"), (0.001, False, "better"), (0.1, True, "better")):
        assert decide(better, suspects=[Suspect("loop", "loop went up", worse, matters)]).outcome == outcome
