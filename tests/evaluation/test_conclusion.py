"""What is said of a model that no judge has compared, by what was measured."""

from __future__ import annotations

import numpy as np
import pytest

from prefine.evaluation.conclusion import Learning, Responses, conclude, learning, reward_learning
from prefine.evaluation.degeneration import Text, compare_texts
from prefine.evaluation.interval import Interval

CLUSTERS = [str(i) for i in range(24)]


def pairs(margin: float, spread: float = 1.0, right: float = 0.9) -> Learning:
    rng = np.random.default_rng(0)
    margins = np.where(np.arange(24) < 24 * right, 1, -1) * abs(margin) + rng.normal(0, 1e-3, 24) * spread
    base = rng.normal(-80, 10, (24, 2))
    tuned = base + np.column_stack((margins / 2, -margins / 2))
    return learning(tuned.ravel(), base.ravel(), CLUSTERS, 0.1, 1e-7)


def responses(kind: str) -> Responses:
    prompts = [f"what is number {i} in this list of things" for i in range(24)]
    base = [Text(p, f"a plain reply about thing {i}, said in {i + 3} words", True) for i, p in enumerate(prompts)]
    said = {
        "same": base,
        "other": [Text(p, f"some other reply on {i + 50}, told at length {i}", True) for i, p in enumerate(prompts)],
        "loop": [Text(p, "justice : " * 30, False) for p in prompts],
        "cut": [Text(p, f"some other reply on {i + 50}, told at length {i}", False) for i, p in enumerate(prompts)],
    }[kind]
    kl = {"same": 1e-6, "other": 0.2, "loop": 4.0, "cut": 0.3}[kind]
    same = sum(a == b for a, b in zip(base, said, strict=True))
    return Responses(24, same, Interval(kl, kl / 2, kl * 2, 24, 24), tuple(compare_texts(base, said, CLUSTERS)))


@pytest.mark.parametrize(
    ("margin", "right", "kind", "outcome"),
    [
        (0.03, 1.0, "same", "unchanged"),  # the sign of nothing: reward accuracy is 100 %
        (5.0, 0.9, "other", "learned"),
        (5.0, 0.5, "other", "not learned"),
        (0.03, 1.0, "other", "not learned"),
        (5.0, 0.1, "other", "opposite"),
        (30.0, 0.95, "loop", "collapsed"),  # whatever the reward accuracy
        (5.0, 0.9, "cut", "degenerated"),
        (5.0, 0.9, "same", "learned"),
    ],
)
def test_endings(margin: float, right: float, kind: str, outcome: str) -> None:
    found = conclude(pairs(margin, right=right), responses(kind), "prefine eval RUN --judge ...")
    assert found.outcome == outcome
    assert "reward accuracy" in found.sentence
    assert "no judge compared the responses: prefine eval RUN --judge ..." in found.sentence
    for word in ("BETTER", "win"):
        assert word not in found.sentence


def test_what_is_missing_is_said() -> None:
    assert "no responses were sampled" in conclude(pairs(5.0), None).sentence
    assert conclude(pairs(0.03, right=1.0), None).outcome == "not learned"  # whether it responds as before was not looked at
    split = learning([-1.0, -3.0] * 23 + [-100.0, -3.0], [-3.0, -3.0] * 24, CLUSTERS, 0.1, 1e-7)
    assert conclude(split, None).outcome == "not learned"
    assert "contradict each other" in conclude(split, None).sentence
    assert conclude(None, responses("other")).outcome == "changed"
    assert conclude(None, responses("same")).outcome == "unchanged"
    few = learning([-1.0, -9.0], [-3.0, -3.0], ["a"], 0.1, 1e-7)
    assert few.margin_interval is None
    assert "too few" in conclude(few, None).sentence
    other = conclude(pairs(5.0), responses("other"), others=["arithmetic fell from 99 % to 40 %"])
    assert other.outcome == "degenerated"
    assert "arithmetic fell" in other.sentence


def test_a_collapse_on_few_prompts_is_not_called_sound() -> None:
    for n, outcome in ((7, "learned"), (9, "collapsed")):
        prompts = [f"what is number {i}" for i in range(n)]
        base = [Text(p, f"a plain reply about thing {i}", True) for i, p in enumerate(prompts)]
        findings = compare_texts(base, [Text(p, "", True) for p in prompts], [str(i) for i in range(n)])
        said = conclude(pairs(5.0), Responses(n, 0, Interval(1.0, 0.5, 2.0, n, n), tuple(findings)))
        assert said.outcome == outcome
        assert "no sign of degeneration" not in said.sentence
    looping = Responses(24, 0, Interval(1.0, 0.5, 2.0, 24, 24), tuple(compare_texts(*[[Text("p", "no : " * 30)] * 24] * 2, CLUSTERS)))
    assert "those of the base are degenerate themselves" in conclude(pairs(5.0), looping).sentence


def test_the_floor_is_of_beta_and_of_rounding() -> None:
    base = np.full((40, 2), -200.0).ravel()
    assert learning(base, base, [str(i) for i in range(40)], 0.1, 1e-7).floor == pytest.approx(0.5)  # .05 / beta
    assert learning(base, base, [str(i) for i in range(40)], 0.5, 1e-7).floor == pytest.approx(0.1)
    # bfloat16: 2^-8 of 200 nats, over the root of 40 pairs
    assert learning(base, base, [str(i) for i in range(40)], 10.0, 2**-8).floor == pytest.approx(2**-8 * 200 / 40**0.5)
    still = learning(base, base, [str(i) for i in range(40)], 0.1, 1e-7)
    assert still.accuracy.estimate == 0.5
    assert not still.moved


def test_a_reward_that_was_trained_on_gives_no_verdict() -> None:
    rows = [{"scores": [0.0, 1.0 + i / 100], "cluster": i} for i in range(30)]
    found = reward_learning(rows)
    assert found is not None
    said = conclude(found, responses("other"))
    assert said.outcome == "learned"
    assert "the reward it was trained on" in said.sentence
    assert "BETTER" not in said.sentence
    assert reward_learning([{"cluster": "x"}]) is None
