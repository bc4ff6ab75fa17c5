"""What a format is, and the pieces its converters share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from prefine.preferences.records import Dropped, Message, PromptText, Record

Row = Mapping[str, Any]


Converted: TypeAlias = Callable[[Sequence[tuple[int, Mapping[str, Any]]]], "Iterator[Record | Dropped]"]


class Skip(Exception):
    """A row that is dropped; its one argument is the reason it is counted under."""


@dataclass(frozen=True)
class Format:
    """One form of preference data: how to know it and how to read it.

    Attributes:
        columns: what a row must have; named in messages about missing columns.
        sniff: whether a row is of this form, by its columns and their types.
        convert: rows (one, or a run with the same ``gather`` key) with their numbers to records, and
            to what it leaves out of them; raises :class:`Skip` for what cannot be used at all.
        gather: for forms that spread one prompt over consecutive rows: what those rows share.
    """

    name: str
    about: str
    columns: tuple[str, ...]
    sniff: Callable[[Row], bool]
    convert: Converted
    gather: Callable[[Row], Hashable] | None = None


def one(convert: Callable[[Row, int], Record]) -> Converted:
    """A converter of single rows to single records as a format's ``convert``."""

    def converted(rows: Sequence[tuple[int, Row]]) -> Iterator[Record | Dropped]:
        for number, row in rows:
            yield convert(row, number)

    return converted


def is_messages(value: Any) -> bool:
    """A non-empty list of objects that have a role."""
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in value)


def user(text: Any) -> Message:
    """A user's message."""
    return {"role": "user", "content": text_of(text, "prompt is not text")}


def assistant(text: Any) -> tuple[Message, ...]:
    """An answer as messages."""
    return ({"role": "assistant", "content": text_of(text)},)


def text_of(value: Any, reason: str = "answer is not text") -> str:
    """The value, if it is text."""
    if not isinstance(value, str):
        raise Skip(reason)
    return value


def chat_prompt(text: Any, system: Any = None) -> tuple[Message, ...]:
    """A one-turn conversation, with a system message where there is one."""
    head: tuple[Message, ...] = ({"role": "system", "content": system},) if isinstance(system, str) and system.strip() else ()
    return (*head, user(text))


def messages_of(value: Any, reason: str = "answer is not text") -> tuple[Message, ...]:
    """Messages with plain text contents.

    Raises:
        Skip: not messages, or they hold images, sound or other parts that are not text.
    """
    if not is_messages(value):
        raise Skip(reason)
    return tuple(_plain(m) for m in value)


def _plain(message: Message) -> Message:
    content = message.get("content")
    kept = {k: v for k, v in message.items() if v is not None or k == "content"}
    if isinstance(content, list):
        if not all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
            raise Skip("holds images or other parts that are not text; only text is trained on")
        return kept | {"content": "".join(p["text"] for p in content)}
    if content is None and message.get("tool_calls"):
        return kept | {"content": ""}
    if not isinstance(content, str):
        raise Skip("a message's content is not text")
    return kept


def side(value: Any, as_chat: bool) -> PromptText:
    """An answer: text, or messages; text becomes an assistant's message beside a chat prompt."""
    if isinstance(value, str):
        return ({"role": "assistant", "content": value},) if as_chat else value
    return messages_of(value)


def number_of(value: Any) -> float | None:
    """A finite number (also as text, as CSV has it), or None for null, NaN, words and the like."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return None
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if math.isfinite(number) else None


SCORE_COLUMNS = (
    ("score_chosen", "score_rejected"),
    ("chosen_score", "rejected_score"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_rating", "rejected_rating"),
    ("rating_chosen", "rating_rejected"),
    ("chosen_avg_rating", "rejected_avg_rating"),
)


def scores_of(row: Row) -> tuple[float, float] | None:
    """Scores of chosen and rejected, under any of the names that sets use."""
    for names in SCORE_COLUMNS:
        if names[0] in row and names[1] in row:
            chosen, rejected = number_of(row[names[0]]), number_of(row[names[1]])
            return None if chosen is None or rejected is None else (chosen, rejected)
    return None


def tools_of(row: Row) -> tuple[Any, ...] | None:
    """The functions a prompt offers, from a ``tools`` column (a list, or JSON text of one)."""
    tools = row.get("tools")
    if isinstance(tools, str) and tools.strip():
        try:
            tools = json.loads(tools)
        except ValueError as error:
            raise Skip("tools are not valid JSON") from error
    return tuple(tools) if isinstance(tools, list | tuple) and tools else None


def refuse_images(row: Row) -> None:
    """Skip a row with a filled image, video or audio column."""
    if any(row.get(name) for name in ("images", "image", "videos", "audios")):
        raise Skip("holds images or other parts that are not text; only text is trained on")
