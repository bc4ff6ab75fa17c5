"""Rules as pure decisions over made-up curves: each is found where it is planted, and a healthy run has none."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from prefine.guard import RULES, Facts, History, Watch
from prefine.guard.rule import ACTIONS
from prefine.guard.watch import replay
from prefine.losses.unpaired import UNPAIRED

DPO = Facts("dpo", False, ("sigmoid",), 0.1, 1e-6, (1e-7, 1e-5), 500, 1.0, 4000, 200, 160, trainable=10**9, weights=10**9)
Rows = list[dict[str, Any]]


def healthy(seed: int = 0, count: int = 50) -> Rows:
    """As Axolotl's documentation describes it: loss from ln 2 down, chosen flat, rejected falling, accuracy towards 0.7."""
    rng = random.Random(seed)
    rows: Rows = []
    for i in range(count):
        t = (i + 1) / count
        chosen, rejected = 0.05 * t + rng.gauss(0, 0.03), -0.8 * t + rng.gauss(0, 0.05)
        row = {
            "step": 10 * (i + 1),
            "loss": 0.693 - 0.2 * t + rng.gauss(0, 0.02),
            "grad_norm": 2 + rng.random(),
            "learning_rate": 1e-6,
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/margins": chosen - rejected,
            "rewards/accuracies": min(1.0, 0.5 + 0.2 * t + rng.gauss(0, 0.03)),
            "logps/chosen": -250 + 10 * chosen + rng.gauss(0, 8),
            "logps/rejected": -230 + 10 * rejected + rng.gauss(0, 8),
            "entropy": 1.2 - 0.1 * t,
            "tokens_per_second": 4000 * rng.uniform(0.5, 1.5),
            "peak_memory_bytes": 8e9 + 1e7 * i,
            "epoch": t,
        }
        rows.append(row)
        if i % 10 == 9:
            rows.append({"step": row["step"], "eval_loss": 0.69 - 0.12 * t, "eval_rewards/accuracies": 0.5 + 0.18 * t})
    return rows


def sampled(seed: int = 0, count: int = 40) -> Rows:
    """PPO as it should go: scores rise, KL stays small, lengths stay."""
    rng = random.Random(seed)
    return [
        {
            "step": 5 * (i + 1),
            "loss": rng.gauss(0, 0.02),
            "grad_norm": 1 + rng.random(),
            "objective/scores": i / count + rng.gauss(0, 0.1),
            "objective/scores_std": 0.5,
            "objective/kl": 3 * i / count,
            "objective/prompts_used": 1.0,
            "objective/sampler_gap": 1e-6,
            "objective/failed_rewards": 0.0,
            "completions/length": 50 + rng.gauss(0, 3),
            "completions/ended": 0.95,
            "policy/approxkl": 0.01,
            "policy/clipfrac": 0.1,
        }
        for i in range(count)
    ]


def changed(**names: Callable[[float], Any]) -> Rows:
    """The healthy DPO run with curves of one's own, functions of the time 0 to 1."""
    rows = healthy()
    for row in rows:
        for name, function in names.items():
            if name.replace("__", "/") in row or (name.startswith("eval") and "eval_loss" in row):
                row[name.replace("__", "/")] = function(row["step"] / 500)
    return rows


def in_ppo(**names: Callable[[float], Any]) -> Rows:
    rows = sampled()
    for row in rows:
        row.update({name.replace("__", "/"): function(row["step"] / 200) for name, function in names.items()})
    return rows


PPO = Facts("ppo", False, (), None, 3e-6, (1e-7, 2e-5), 200, None, 1000, None, 32, trainable=10**9, weights=10**9)


def probed(**values: float) -> Rows:
    rows = healthy()
    for step in (130, 260):
        rows.append({"step": step, **{f"probe/{name}": value for name, value in values.items()}})
    return sorted(rows, key=lambda r: r["step"])


def spiked() -> Rows:
    rows = healthy()
    rows[30]["grad_norm"] = 300.0
    return rows


def staircase() -> Rows:
    rows = [r for r in healthy() if "loss" in r]
    for row in rows:
        row["epoch"] = 3 * row["step"] / 500
        row["loss"] = (0.66, 0.35, 0.12)[min(2, int(row["epoch"] - 1e-9))]
    return rows


PLANTED: dict[str, tuple[Facts, Rows]] = {
    "learning-rate": (Facts(method="dpo", learning_rate=1e-3, usual_learning_rate=(1e-7, 1e-5)), []),
    "beta": (Facts(method="dpo", loss=("sigmoid",), beta=0.001), []),
    "few-pairs": (Facts(method="dpo", pairs=80), []),
    "equal-pairs": (Facts(method="dpo", pairs=900, equal_pairs=300), []),
    "duplicates": (Facts(method="dpo", duplicated=0.5), []),
    "nothing-trained": (Facts(method="dpo", trainable=0), []),
    "half-weights": (Facts(method="dpo", dtypes=("bfloat16",), learning_rate=1e-6), []),
    "reference-differs": (Facts(method="dpo", start_gap=12.0), []),
    "not-finite": (DPO, changed(loss=lambda t: math.nan if t > 0.5 else 0.6)),
    "loss-explodes": (DPO, changed(loss=lambda t: 0.69 if t < 0.3 else 4.0)),
    "gradient-spike": (DPO, spiked()),
    "no-gradient": (DPO, changed(grad_norm=lambda t: 0.0)),
    "loss-stuck": (DPO, changed(loss=lambda t: 0.6931, rewards__margins=lambda t: 0.0001)),
    "below-chance": (DPO, changed(rewards__accuracies=lambda t: 0.2, rewards__margins=lambda t: -t)),
    "memorised": (
        DPO,
        changed(
            loss=lambda t: 0.6 * (1 - t) ** 3,
            rewards__accuracies=lambda t: 1.0,
            rewards__margins=lambda t: 20 * t,
            eval_loss=lambda t: 0.7,
            **{"eval_rewards/accuracies": lambda t: 0.6},
        ),
    ),
    "chosen-falls": (DPO, changed(rewards__chosen=lambda t: -12 * t, logps__chosen=lambda t: -200 - 120 * t)),
    "held-out-rises": (DPO, changed(eval_loss=lambda t: 0.5 + abs(t - 0.3))),
    "gap": (DPO, changed(rewards__accuracies=lambda t: 0.97, eval_loss=lambda t: 0.6, **{"eval_rewards/accuracies": lambda t: 0.55})),
    "accuracy-falls": (DPO, changed(eval_loss=lambda t: 0.6, **{"eval_rewards/accuracies": lambda t: 0.8 - 0.3 * t})),
    "held-out-stops": (
        DPO,
        [
            {**row, "loss": 0.69 - 0.001 * row["step"], "eval_rewards/accuracies": min(0.6 + 0.0003 * row["step"], 0.66)}
            for row in healthy()
        ],
    ),
    "at-chance": (DPO, changed(rewards__accuracies=lambda t: 0.5, eval_loss=lambda t: 0.69)),
    "empty-responses": (DPO, changed(logps__chosen=lambda t: 0.0, logps__rejected=lambda t: 0.0)),
    "zero-loss": (Facts("sft", False, steps=500), changed(loss=lambda t: 0.0)),
    "loss-spike": (DPO, changed(loss=lambda t: 6.0 if t == 0.6 else 0.6)),
    "odd-rows": (DPO, [{**row, "odd_rows/count": 300, "odd_rows/of": 1300} for row in healthy()]),
    "rewards-part": (PPO, in_ppo(**{"rewards/format/mean": lambda t: t, "rewards/accuracy/mean": lambda t: 1 - t})),
    "flat-reward": (PPO, in_ppo(**{"rewards/format/mean": lambda t: 0.5})),
    "epoch-staircase": (Facts("dpo", False, ("sigmoid",), 0.1, epochs=3.0, steps=500), staircase()),
    "entropy-collapse": (DPO, changed(entropy=lambda t: 1.2 if t < 0.4 else 0.05)),
    "slower": (DPO, changed(tokens_per_second=lambda t: 4000 if t < 0.5 else 400)),
    "memory-grows": (DPO, changed(peak_memory_bytes=lambda t: 8e9 * (1 + t))),
    "equal-rewards": (PPO, in_ppo(objective__scores_std=lambda t: 0.0)),
    "huge-rewards": (PPO, in_ppo(objective__scores=lambda t: 1e31)),
    "failed-rewards": (PPO, in_ppo(objective__failed_rewards=lambda t: 0.4)),
    "kl-budget": (PPO, in_ppo(objective__kl=lambda t: 400 * t)),
    "update-too-large": (PPO, in_ppo(policy__approxkl=lambda t: 2.0)),
    "reward-hacking": (PPO, in_ppo(objective__scores=lambda t: 3 * t, completions__length=lambda t: 40 + 100 * t)),
    "sampler-gap": (PPO, in_ppo(objective__sampler_gap=lambda t: 1e-6 if t < 0.5 else 0.3)),
    "repetition": (DPO, probed(loops_change=0.5, repetition_change=0.4)),
    "empty": (DPO, probed(empty_change=0.5)),
    "does-not-end": (DPO, probed(ended_change=-0.8)),
    "length-drift": (DPO, probed(length_ratio=4.0)),
    "losing": (DPO, probed(win_rate=0.2, win_rate_high=0.35)),
}


def test_every_rule_is_planted_once() -> None:
    assert set(PLANTED) == {rule.name for rule in RULES}
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_failure_is_found(name: str) -> None:
    facts, rows = PLANTED[name]
    found = {f.rule for f in replay(facts, rows)}
    assert name in found


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_found_in_healthy_runs(seed: int) -> None:
    assert [f.sentence for f in replay(DPO, healthy(seed))] == []
    assert [f.sentence for f in replay(PPO, sampled(seed))] == []


def test_a_finding_is_said_once_and_again_only_where_it_got_worse() -> None:
    found = [f.severity for f in replay(DPO, changed(rewards__chosen=lambda t: -16 * t, logps__chosen=lambda t: -200 - 160 * t))]
    assert found == ["note", "warn", "act"]


def test_what_was_changed_does_not_count_again() -> None:
    """After something was done, only what is logged later can be found."""
    watch, rows = Watch(DPO), changed(loss=lambda t: 0.69 if t < 0.3 else 4.0)
    steps = [f.step for row in rows[:30] for f in watch.add(row) if f.rule == "loss-explodes"]
    watch.changed()
    assert steps
    calm = [{**row, "loss": 0.6} for row in rows[30:]]
    assert not [f for row in calm for f in watch.add(row) if f.rule == "loss-explodes"]


def test_rules_do_not_change_what_they_look_at_and_bear_what_is_missing() -> None:
    rng = random.Random(5)
    rows = healthy() + sampled()
    for _ in range(100):
        part = [{k: v for k, v in rng.choice(rows).items() if rng.random() < 0.7} for _ in range(12)]
        for row in part:
            for name in list(row):
                if name != "step" and rng.random() < 0.1:
                    row[name] = rng.choice([None, math.nan, math.inf, -math.inf, "text", True, 1e308])
        before = repr(part)
        for facts in (DPO, PPO, Facts()):
            history = History(facts, part)
            for rule in RULES:
                seen = rule.check(history)
                assert seen is None or seen.text
        assert repr(part) == before


def test_each_rule_says_what_it_sees_why_and_what_to_do() -> None:
    for rule in RULES:
        assert all((rule.sees, rule.why, rule.example, rule.advice)), rule.name
        assert rule.action in ACTIONS
        assert not rule.advice.endswith(".")


@pytest.mark.parametrize("method", ["dpo", "kto", "reward"])
def test_few_rows_are_said_in_the_words_of_their_kind(method: str) -> None:
    said = [f.sentence for f in replay(Facts(method=method, pairs=80), []) if f.rule == "few-pairs"]
    assert len(said) == 1
    assert f"80 {'responses' if method == 'kto' else 'pairs'}" in said[0]


@pytest.mark.parametrize("loss", UNPAIRED)
def test_an_odd_beta_of_single_responses_is_said(loss: str) -> None:
    def said(beta: float) -> list[str]:
        return [f.rule for f in replay(Facts(method="kto", loss=(loss,), beta=beta), []) if f.rule == "beta"]

    assert said(0.001) == said(5.0) == ["beta"]
    assert said(0.1) == []
