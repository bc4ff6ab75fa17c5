"""What a rule is, and what it finds. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from prefine.guard.history import History

Severity: TypeAlias = Literal["note", "warn", "act"]
SEVERITIES: tuple[Severity, ...] = ("note", "warn", "act")
GRADES = {"act": "serious", "warn": "look at", "note": "noted"}
"""Severities in words."""
MODES = ("off", "note", "warn", "act")
"""The strongest thing that a guard may do."""
Action: TypeAlias = Literal["", "lower", "roll back", "add nll", "stop"]
ACTIONS = {
    "": "nothing is changed",
    "lower": "the learning rate is halved",
    "roll back": "the weights go back to the last good ones, and the learning rate is halved, and to what is usual at most",
    "add nll": "the chosen responses' negative log-likelihood is added to the loss, with weight 0.2",
    "stop": "training stops with the best weights by the held-out measure, else the last good ones",
}
"""What each action does."""


@dataclass(frozen=True)
class Seen:
    """What a rule saw, with numbers, and how bad it is."""

    text: str
    severity: Severity = "warn"


@dataclass(frozen=True)
class Rule:
    """One thing to watch for.

    Attributes:
        check: metrics so far to what is seen, or None. It reads nothing else, and changes nothing.
        sees: what it looks for; why: why it matters; example: what it looks like; advice: what to change, in the imperative.
        action: what is done about it where acting is wanted, once its severity is ``act``.
        at_start: it looks at facts alone, before the first step.
    """

    name: str
    check: Callable[[History], Seen | None]
    sees: str
    why: str
    example: str
    advice: str
    action: Action = ""
    at_start: bool = False


@dataclass(frozen=True)
class Finding:
    """What a rule found, and when."""

    rule: str
    severity: Severity
    step: int
    text: str
    advice: str
    action: Action = ""

    @property
    def sentence(self) -> str:
        """For a terminal and a page."""
        where = f"step {self.step}: " if self.step else ""
        return f"{where}{self.text} ({self.rule}); {self.advice}"

    def summary(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)
