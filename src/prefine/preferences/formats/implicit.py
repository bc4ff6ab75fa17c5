"""Two whole conversations that share their beginning: the prompt is what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prefine.preferences.formats.format import (
    Format,
    Row,
    Skip,
    holds_conversations,
    is_messages,
    messages_of,
    one,
    refuse_images,
    scores_of,
)
from prefine.preferences.records import Message, Pair


def common_length(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many items two messages' lists, texts or lists of ids have in common at their beginning."""
    shorter = min(len(one), len(other))
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), shorter)


def split_common(chosen: tuple[Message, ...], rejected: tuple[Message, ...], number: int) -> Pair:
    """Cut two conversations after their last common message; what follows may be several turns.

    Raises:
        Skip: they are equal, share nothing, or first differ in a turn that is not the assistant's.
    """
    same = common_length(chosen, rejected)
    if same == len(chosen) == len(rejected):
        raise Skip("chosen equals rejected")
    if same == 0:
        raise Skip("the two sides share no prompt")
    if any(side[same:] and side[same].get("role") != "assistant" for side in (chosen, rejected)):
        raise Skip("the two sides first differ in a turn that is not the assistant's")
    if same in (len(chosen), len(rejected)):
        raise Skip("one side is only the beginning of the other")
    return Pair(chosen[:same], chosen[same:], rejected[same:], number)


def _convert(row: Row, number: int) -> Pair:
    refuse_images(row)
    pair = split_common(messages_of(row["chosen"]), messages_of(row["rejected"]), number)
    asked = row.get("prompt")
    if isinstance(asked, str) and asked.strip() and not _says(pair, asked):
        raise Skip("the prompt column says otherwise than the conversations")
    return replace(pair, scores=scores_of(row))


def _says(pair: Pair, asked: str) -> bool:
    """Whether a prompt's text is that of the conversation: all of it, or one of its turns."""
    texts = [str(m.get("content") or "").strip() for m in pair.prompt if isinstance(m, dict)]
    return any(text and (text in asked or asked.strip() in text) for text in texts)


def _is_implicit(row: Row) -> bool:
    sides = is_messages(row.get("chosen")) and is_messages(row.get("rejected"))
    asked = {"prompt", "instruction", "messages"} & row.keys() and not holds_conversations(row)
    return sides and not asked and not is_messages(row.get("prompt")) and "conversations" not in row


IMPLICIT = Format(
    "implicit-prompt",
    "chosen, rejected as messages that begin with the prompt (UltraFeedback binarized, Tulu's mixture, argilla's cleaned set)",
    ("chosen", "rejected"),
    _is_implicit,
    one(_convert),
)
