"""The record types every source is converted to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]
"""One chat message: ``{"role": ..., "content": ...}``, and whatever else the template reads (``tool_calls``)."""

PromptText: TypeAlias = str | tuple[Message, ...]
"""A prompt or an answer: plain text, or messages for a chat template."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with a preferred and a dispreferred answer.

    ``prompt`` and both answers are of one kind: all text, or all messages.
    ``row`` counts from 1 in the source it came from. ``scores`` are those of chosen and
    rejected where the data has them; ``tools`` are the functions the prompt offers.
    """

    prompt: PromptText
    chosen: PromptText
    rejected: PromptText
    row: int = 0
    scores: tuple[float, float] | None = None
    tools: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """A prompt with one answer and whether it is wanted (KTO's data)."""

    prompt: PromptText
    answer: PromptText
    label: bool
    row: int = 0
    tools: tuple[Any, ...] | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A prompt with several answers and a score for each, higher is better; equal scores are a tie."""

    prompt: PromptText
    answers: tuple[PromptText, ...]
    scores: tuple[float, ...]
    row: int = 0
    tools: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Dropped:
    """A row, or an answer of a row, that was left out, and why."""

    number: int
    reason: str
    row: Mapping[str, Any] = field(repr=False)


Record: TypeAlias = Pair | Labelled | Ranked


def plain_text(value: PromptText) -> str:
    """The words alone: message contents (or tool calls) end to end."""
    return value if isinstance(value, str) else "\n".join(str(m.get("content") or m.get("tool_calls") or "") for m in value)
