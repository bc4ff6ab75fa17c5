"""Intervals, verdicts, judges, generation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from prefine.evaluation.interval import Interval, jackknife, mean_interval
from prefine.evaluation.judge import ByScore, Comparison, FunctionScorer
from prefine.evaluation.questions import Question
from prefine.evaluation.verdict import Skill, decide
from prefine.generation.drawing import SeededSampling
from prefine.generation.engine import Answer, Sampling
from prefine.generation.generate import generate
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


def test_unanimous_verdicts_leave_room_for_doubt() -> None:
    from scipy.stats import beta

    for n in (1, 5, 6, 50):
        found = mean_interval([1.0] * n, bounds=(0, 1))
        assert found.low == pytest.approx(beta.ppf(0.025, n, 1))  # Clopper and Pearson for n of n
        assert found.high == 1.0
    assert decide(mean_interval([1.0] * 5, bounds=(0, 1))).outcome == "too few prompts"
    assert decide(mean_interval([1.0] * 6, bounds=(0, 1))).outcome == "better"
    unchanged = mean_interval([0.0] * 20, bounds=(-1, 1))
    assert Skill("sums", 0.5, 0.5, unchanged).state == "inconclusive"  # twenty items cannot show that a point is not lost
    assert Skill("sums", 0.5, 0.5, mean_interval([0.0] * 400, bounds=(-1, 1))).state == "kept"


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    from scipy.stats import t

    values = np.random.default_rng(0).normal(size=40)
    low, high = jackknife(lambda places: float(values[places].mean()), [np.array([i]) for i in range(40)])
    half = t.ppf(0.975, 39) * values.std(ddof=1) / np.sqrt(40)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half))


def interval(estimate: float, half: float) -> Interval:
    return Interval(estimate, estimate - half, estimate + half, 100, 100)


@pytest.mark.parametrize(
    ("estimate", "half", "outcome"),
    [
        (0.62, 0.05, "better"),
        (0.62, 0.13, "inconclusive"),
        (0.53, 0.02, "inconclusive"),
        (0.40, 0.05, "worse"),
        (0.48, 0.05, "inconclusive"),
    ],
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
    assert "spelling fell" not in verdict.sentence
    assert "not shown that these lost no more than allowed: spelling" in verdict.sentence
    kept = Skill("spelling", 0.99, 0.985, Interval(-0.005, -0.009, -0.001, 4000, 4000))
    assert decide(interval(0.7, 0.05), [kept]).outcome == "better"
    assert decide(interval(0.7, 0.05), [kept]).sentence.endswith("prompts)")


def test_a_judge_by_scores_counts_ties_as_half_and_a_raising_function_as_a_failure() -> None:
    judge = ByScore(FunctionScorer("length", lambda a: 1 / 0 if a.answers[-1] == "!" else float(len(a.answers[-1]))))
    asked = [Comparison(Question(str(i), "p"), (b,), (t,)) for i, (b, t) in enumerate((("a", "bb"), ("aa", "b"), ("a", "b"), ("a", "!")))]
    votes = dict(judge.judge(asked))
    assert [votes[i].win for i in range(4)] == [1.0, 0.0, 0.5, None]
    assert "ZeroDivisionError" in votes[3].failure
    assert votes[0].scores == (1.0, 2.0)


def sampled(model: Any, tokenizer: Any, prompts: list[Any], seed: int, batch_size: int, temperature: float = 1.0) -> list[Answer]:
    found = dict(generate(model, tokenizer, prompts, Sampling(30, temperature), [seed * 100 + i for i in range(len(prompts))], batch_size))
    return [found[i] for i in range(len(prompts))]


def test_answers_depend_on_their_seed_and_not_on_their_batch(lab_model: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(lab_model), AutoTokenizer.from_pretrained(lab_model)
    prompts = [as_ids([2, 10 + i, 11, 3][: 4 - i % 2]) for i in range(6)]
    first, again, alone, other = (sampled(model, tokenizer, prompts, s, b) for s, b in ((1, 4), (1, 4), (1, 1), (2, 4)))
    assert first == again == alone
    assert first != other
    for answer in first:
        assert answer.ended == (answer.ids[-1] == tokenizer.eos_token_id)
        assert answer.ids.count(tokenizer.eos_token_id) == int(answer.ended)
    greedy = sampled(model, tokenizer, prompts, 1, 4, temperature=0.0)
    assert greedy == sampled(model, tokenizer, prompts, 2, 1, temperature=0.0)


def test_seeded_sampling_draws_from_the_distribution() -> None:
    rows = 4000
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(rows, 4)
    ids = torch.zeros(rows, 7, dtype=torch.long)

    def shares(sampling: Sampling) -> list[float]:
        out = SeededSampling(range(rows), sampling, 7, torch.full((rows,), 7))(ids, scores.clone())
        assert out.tokens.shape == (rows,)
        return [float(x) for x in torch.bincount(torch.argmax(out, dim=-1), minlength=4) / rows]

    # five standard errors of a share of 4,000: 5 sqrt(.25 / 4000) = 0.04
    assert shares(Sampling(3, 1.0)) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.04)
    # temperature 0.5 squares the probabilities: 1, 4, 9, 16 of 30
    assert shares(Sampling(3, 0.5)) == pytest.approx([1 / 30, 4 / 30, 9 / 30, 16 / 30], abs=0.04)
    # the nucleus of 0.6 is the two likeliest, which hold 0.7
    assert shares(Sampling(3, 1.0, 0.6)) == pytest.approx([0, 0, 3 / 7, 4 / 7], abs=0.04)


def test_a_models_own_generation_settings_are_left_alone_and_not_used(lab_model: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(lab_model), AutoTokenizer.from_pretrained(lab_model)
    prompts = [as_ids([2, 10, 11, 3])]
    [plain] = sampled(model, tokenizer, prompts, 1, 4)
    stop = next(t for t in plain.ids[3:] if t not in plain.ids[:3])
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, stop]
    [cut] = sampled(model, tokenizer, prompts, 1, 4)
    assert cut.ids == plain.ids[: plain.ids.index(stop) + 1]  # another end token of the model's own; the penalty plays no part
    assert cut.ended
    assert model.generation_config.repetition_penalty == 5.0
