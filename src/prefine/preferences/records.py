"""The record types every source is converted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]
"""One chat message: ``{"role": ..., "content": ...}``, and whatever else the template reads."""

PromptText: TypeAlias = str | tuple[Message, ...]
"""A prompt or an answer: plain text, or messages for a chat template."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with a preferred and a dispreferred answer.

    ``prompt`` and both answers are of one kind: all text, or all messages.
    ``row`` counts from 1 in the source it came from.
    """

    prompt: PromptText
    chosen: PromptText
    rejected: PromptText
    row: int = 0


@dataclass(frozen=True, slots=True)
class Labelled:
    """A prompt with one answer and whether it is wanted (KTO's data)."""

    prompt: PromptText
    answer: PromptText
    label: bool
    row: int = 0


@dataclass(frozen=True, slots=True)
class Ranked:
    """A prompt with several answers, best first; equal scores mean a tie."""

    prompt: PromptText
    answers: Sequence[PromptText]
    scores: Sequence[float] | None = None
    row: int = 0
