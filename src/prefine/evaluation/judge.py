"""Judges: who says which of two answers is better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from prefine.packing.budget import TokenBudget
from prefine.packing.group import PromptGroup
from prefine.preferences.records import PromptText
from prefine.scoring.reference import Reference
from prefine.scoring.scorer import Scorer


@dataclass(frozen=True)
class Comparison:
    """Two answers to one prompt: the base's and the tuned model's."""

    prompt: PromptText
    base: str
    tuned: str
    cluster: str = ""


class Judge(Protocol):
    """Says how far the tuned answer wins: 1 win, 0.5 tie, 0 loss."""

    name: str

    def judge(self, comparisons: Sequence[Comparison]) -> list[float]:
        """One number a comparison, in order."""
        ...


class ExactJudge:
    """Compares two scores of a function that knows the right answer (the lab's gold score, a checker)."""

    name = "exact"

    def __init__(self, score: Callable[[PromptText, str], float]) -> None:
        self.score = score

    def judge(self, comparisons: Sequence[Comparison]) -> list[float]:
        """Higher score wins; equal to 1e-9 is a tie."""
        out = []
        for c in comparisons:
            difference = self.score(c.prompt, c.tuned) - self.score(c.prompt, c.base)
            out.append(0.5 if abs(difference) < 1e-9 else float(difference > 0))
        return out


def implicit_wins(policy: Scorer, reference: Reference, groups: Sequence[PromptGroup], budget: TokenBudget) -> list[float]:
    """Judge held-out pairs by DPO's own reward: 1 where the margin of chosen over rejected grew, else 0.

    Needs no generation. It measures whether preferences generalise, not whether answers got better.
    """
    out: list[float] = []
    was_training = policy.unwrapped.training
    policy.unwrapped.eval()
    for part in budget.split(groups, policy.shares):
        tuned = policy.completion_logps(part).view(-1, 2)
        with reference.active():
            base = reference.scorer.completion_logps(part).view(-1, 2)
        margins = ((tuned[:, 0] - base[:, 0]) - (tuned[:, 1] - base[:, 1])).tolist()
        out += [0.5 if m == 0 else float(m > 0) for m in margins]
    policy.unwrapped.train(was_training)
    return out
