"""Two whole conversations that share their beginning: the prompt is what they have in common."""

from __future__ import annotations

from dataclasses import replace

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


def split_common(chosen: tuple[Message, ...], rejected: tuple[Message, ...], number: int) -> Pair:
    """Cut two conversations after their last common message; what follows may be several turns.

    Raises:
        Skip: they are equal, share nothing, or first differ in a turn that is not the assistant's.
    """
    same = 0
    while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
        same += 1
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


def split_text(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Two texts as their common beginning, cut where a word begins, and what follows it in each.

    Raises:
        Skip: they are equal, or share no whole word at their beginning.
    """
    if chosen == rejected:
        raise Skip("chosen equals rejected")
    same = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected)))
    # The white space before the first differing word belongs to the answers, as tokenizers write it.
    while same > 0 and not (chosen[same : same + 1].isspace() and not chosen[same - 1].isspace()):
        same -= 1
    if not chosen[:same].strip():
        raise Skip("the two texts share no beginning, so there is no prompt; name the column that holds it (--map prompt=COLUMN)")
    return chosen[:same], chosen[same:], rejected[same:]


def _convert_text(row: Row, number: int) -> Pair:
    refuse_images(row)
    return Pair(*split_text(row["chosen"], row["rejected"]), number, scores_of(row))


def _is_implicit_text(row: Row) -> bool:
    """Text on both sides, no transcript, and no other column that might hold the prompt."""
    sides = [row.get("chosen"), row.get("rejected")]
    if not all(isinstance(s, str) and not s.startswith(("\n\nHuman:", "\n\nAssistant:")) for s in sides):
        return False
    others = [value for name, value in row.items() if name not in ("chosen", "rejected", "id", "source", "chat_template_kwargs")]
    return all(value is None or isinstance(value, bool | int | float) for value in others) and "prompt" not in row


IMPLICIT_TEXT = Format(
    "implicit-text",
    "chosen, rejected as plain text with the same beginning, which is the prompt (TRL's standard preference without a prompt)",
    ("chosen", "rejected"),
    _is_implicit_text,
    one(_convert_text),
)
