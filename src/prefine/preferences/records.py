"""The record types every source is converted to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

Message: TypeAlias = dict[str, Any]
"""One chat message: ``{"role": ..., "content": ...}``, and whatever else the template reads (``tool_calls``)."""

PromptText: TypeAlias = str | tuple[Message, ...]
"""A prompt or an answer: plain text, or messages for a chat template."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt with a preferred and a dispreferred answer.

    ``prompt`` and both answers are of one kind: all text, or all messages.
    ``row`` counts from 1 in the source it came from. ``scores`` are those of chosen and
    rejected where the data has them; ``tools`` are the functions the prompt offers;
    ``template_kwargs`` are what the row's chat template is given beside the messages (``enable_thinking``);
    ``margin`` is by how much a reward model shall prefer the chosen.
    """

    prompt: PromptText
    chosen: PromptText
    rejected: PromptText
    row: int = 0
    scores: tuple[float, float] | None = None
    tools: tuple[Any, ...] | None = None
    template_kwargs: Mapping[str, Any] | None = None
    margin: float | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """A prompt with one answer and whether it is wanted (KTO's data)."""

    prompt: PromptText
    answer: PromptText
    label: bool
    row: int = 0
    tools: tuple[Any, ...] | None = None
    template_kwargs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A prompt with several answers and a score for each, higher is better; equal scores are a tie."""

    prompt: PromptText
    answers: tuple[PromptText, ...]
    scores: tuple[float, ...]
    row: int = 0
    tools: tuple[Any, ...] | None = None
    template_kwargs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt with one answer, or with none: the data of SFT, retention, sampling and generation.

    ``whole`` where the row was one conversation, of which the last turn is the answer only by convention.
    """

    prompt: PromptText
    answer: PromptText | None = None
    row: int = 0
    tools: tuple[Any, ...] | None = None
    template_kwargs: Mapping[str, Any] | None = None
    category: str = ""
    cluster: str = ""
    whole: bool = False


@dataclass(frozen=True)
class Dropped:
    """A row, or an answer of a row, that was left out, and why."""

    number: int
    reason: str
    row: Mapping[str, Any] = field(repr=False)


Record: TypeAlias = Pair | Labelled | Ranked | Example


def plain_text(value: PromptText) -> str:
    """The words alone: reasoning, contents and calls of all messages, a line each."""
    return value if isinstance(value, str) else "\n".join(map(message_text, value))


def message_text(message: Message) -> str:
    """A message's reasoning, content and calls, those that it has."""
    if len(message) == 2:
        return str(message.get("content") or "")
    parts = [message.get("reasoning_content"), message.get("content"), *map(call_text, message.get("tool_calls") or ())]
    return "\n".join(str(part) for part in parts if part)


def call_text(call: Any) -> str:
    """A tool call as text that is equal for equal calls: the id does not count, nor the order of the arguments."""
    function = call.get("function") if isinstance(call, dict) else None
    return json.dumps(function if isinstance(function, dict) else call, sort_keys=True, ensure_ascii=False, default=str)


def identity(value: PromptText) -> str:
    """What two prompts or answers have in common where they say the same: words, roles, reasoning, calls.

    A text, and a user's or an assistant's one message with that text and nothing else, are the same.
    """
    if isinstance(value, str):
        return value
    if len(value) == 1 and value[0].get("role") in ("user", "assistant"):
        return message_text(value[0])
    return "\x1e".join(f"{m.get('role')}\x1f{message_text(m)}" for m in value)


class Asked(Protocol):
    """What has a prompt, and what goes with it."""

    @property
    def prompt(self) -> PromptText:
        """The conversation up to what is asked."""

    @property
    def tools(self) -> tuple[Any, ...] | None:
        """The functions it offers."""

    @property
    def template_kwargs(self) -> Mapping[str, Any] | None:
        """What its template is given beside the messages."""


def prompt_identity(record: Asked) -> str:
    """:func:`identity` of a record's prompt, with the functions it offers and what its template is given."""
    words = identity(record.prompt)
    if not record.tools and not record.template_kwargs:
        return words
    beside = [record.tools and list(record.tools), record.template_kwargs and dict(record.template_kwargs)]
    return words + "\x1d" + json.dumps(beside, sort_keys=True, ensure_ascii=False, default=str)
