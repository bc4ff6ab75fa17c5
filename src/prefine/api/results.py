"""What an evaluation found, as an object that shows itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefine.api.tables import Shows
from prefine.evaluation.interval import Interval


@dataclass(repr=False)
class EvaluationResult(Shows):
    """What an evaluation found.

    Attributes:
        summary: all numbers, as ``summary.json`` holds them; lines: what a terminal shows of them.
        folder: where responses and verdicts lie, None where they were not kept; report: the page drawn of them.
        passed: whether a demand (``require``) was met.
        samples: responses to look at: prompt, base, tuned.
    """

    summary: Mapping[str, Any]
    lines: Sequence[str] = ()
    folder: Path | None = None
    report: Path | None = None
    passed: bool = True
    samples: Sequence[tuple[str, str, str]] = field(default_factory=list)

    @property
    def outcome(self) -> str:
        """``better``, ``worse``, ``inconclusive`` and the like; without a judge what is known otherwise, as ``learned``."""
        return str(self.summary["outcome"])

    @property
    def sentence(self) -> str:
        """The outcome with its evidence."""
        return str(self.summary["sentence"])

    @property
    def win_rate(self) -> Interval | None:
        """The tuned model's win rate with its 95 % confidence interval; None where no judge compared responses."""
        found = self.summary.get("win_rate")
        return None if found is None else Interval(**found)

    def parts(self) -> list[Any]:
        """What there is to see."""
        return [*(self.lines or [self.sentence])]
