"""Intervals, verdicts, judges, generation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from prefine.evaluation.generate import generate
from prefine.evaluation.interval import Interval, mean_interval
from prefine.evaluation.judge import Comparison, ExactJudge
from prefine.evaluation.verdict import Skill, decide
from prefine.packing.group import as_ids


def test_interval_agrees_with_the_normal_approximation() -> None:
    values = [1.0] * 60 + [0.0] * 40
    found = mean_interval(values)
    half = 1.96 * np.sqrt(0.6 * 0.4 / 100)  # 0.096
    assert found.estimate == pytest.approx(0.6)
    assert found.low == pytest.approx(0.6 - half, abs=0.015)
    assert found.high == pytest.approx(0.6 + half, abs=0.015)


def test_clusters_widen_the_interval() -> None:
    values = [1.0] * 50 + [0.0] * 50
    alone = mean_interval(values)
    clustered = mean_interval(values, [i // 10 for i in range(100)])  # ten clusters, each all one way
    assert clustered.clusters == 10
    # sqrt(10) for the clusters; Student's 2.262 for the normal's 1.96, and sqrt(10/9), for there being only ten
    expected = np.sqrt(10) * 2.262 / 1.96 * np.sqrt(10 / 9)
    assert clustered.high - clustered.low == pytest.approx(expected * (alone.high - alone.low), rel=0.1)


def interval(estimate: float, half: float) -> Interval:
    return Interval(estimate, estimate - half, estimate + half, 100, 100)


@pytest.mark.parametrize(
    ("estimate", "half", "outcome"),
    [(0.62, 0.05, "better"), (0.62, 0.13, "not shown"), (0.53, 0.02, "not shown"), (0.40, 0.05, "worse"), (0.48, 0.05, "not shown")],
)
def test_thresholds(estimate: float, half: float, outcome: str) -> None:
    verdict = decide(interval(estimate, half))
    assert verdict.outcome == outcome
    assert verdict.sentence.startswith(outcome.upper())


def test_a_broken_skill_is_named() -> None:
    fell = Skill("arithmetic", 0.99, 0.5, Interval(-0.49, -0.53, -0.45, 600, 600))
    noise = Skill("spelling", 0.99, 0.96, Interval(-0.03, -0.07, 0.01, 60, 60))
    verdict = decide(interval(0.7, 0.05), [fell, noise])
    assert verdict.outcome == "better, but"
    assert "arithmetic fell from 99.0 % to 50.0 %" in verdict.sentence
    assert "spelling" not in verdict.sentence


def test_exact_judge_counts_ties_as_half() -> None:
    judge = ExactJudge(lambda prompt, answer: float(len(answer)))
    assert judge.judge([Comparison("p", "a", "bb"), Comparison("p", "aa", "b"), Comparison("p", "a", "b")]) == [1.0, 0.0, 0.5]


def test_generation_is_seeded_and_stops_at_the_end_token(lab_model: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(lab_model), AutoTokenizer.from_pretrained(lab_model)
    prompts = [as_ids([2, 10 + i, 11, 3][: 4 - i % 2]) for i in range(6)]
    first, again, other = (generate(model, tokenizer, prompts, 30, seed=s, batch_size=4) for s in (1, 1, 2))
    assert first == again
    assert first != other
    for answer in first:
        assert answer.ended == (answer.ids[-1] == tokenizer.eos_token_id)
        assert answer.ids.count(tokenizer.eos_token_id) == int(answer.ended)
