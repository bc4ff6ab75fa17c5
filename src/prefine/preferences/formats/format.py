"""What a format is, and the pieces its converters share."""

from __future__ import annotations

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
    """One format of preference data: how to know it and how to read it.

    Attributes:
        columns: what a row must have; named in messages about missing columns.
        sniff: whether a row is of this format, by its columns and their types.
        convert: rows (one, or a run with the same ``gather`` key) with their numbers to records, and
            to what it leaves out of them; raises :class:`Skip` for what cannot be used at all.
        gather: for formats that spread one prompt over consecutive rows: what those rows share.
        reads: columns that are read although no look at the row shows it.
    """

    name: str
    about: str
    columns: tuple[str, ...]
    sniff: Callable[[Row], bool]
    convert: Converted
    gather: Callable[[Row], Hashable] | None = None
    reads: tuple[str, ...] = ()


def one(convert: Callable[[Row, int], Record]) -> Converted:
    """A converter of single rows to single records as a format's ``convert``."""

    def converted(rows: Sequence[tuple[int, Row]]) -> Iterator[Record | Dropped]:
        for number, row in rows:
            yield convert(row, number)

    return converted


def is_messages(value: Any) -> bool:
    """A non-empty list of objects that have a role."""
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in value)


def holds_conversations(row: Row) -> bool:
    """Whether ``chosen`` and ``rejected`` are messages from the prompt on, not answers alone."""
    sides = (row.get("chosen"), row.get("rejected"))
    return all(map(is_messages, sides)) and not all(side[0]["role"] == "assistant" for side in sides if side)


def user(text: Any) -> Message:
    """A user's message."""
    return {"role": "user", "content": text_of(text, "prompt is not text")}


def assistant(text: Any) -> tuple[Message, ...]:
    """An answer as messages."""
    return ({"role": "assistant", "content": text_of(text)},)


def text_of(value: Any, reason: str = "response is not text") -> str:
    """The value, if it is text."""
    if not isinstance(value, str):
        raise Skip(reason)
    return value


def chat_prompt(text: Any) -> tuple[Message, ...]:
    """A one-turn conversation."""
    return (user(text),)


BESIDE = ("input", "context")
"""Columns that go on with what an instruction says."""


def with_input(row: Row, text: Any) -> Any:
    """A text that asks, and under it what the row's ``input`` or ``context`` adds; anything but text as it is."""
    if not isinstance(text, str):
        return text
    added = [row[name] for name in BESIDE if isinstance(row.get(name), str) and row[name].strip() and row[name] not in text]
    return "\n".join((text, *added))


SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")


def system_of(row: Row) -> str:
    """The system message that stands in a column of its own, or nothing.

    Raises:
        Skip: it is neither text nor one system message.
    """
    value = next((row[name] for name in SYSTEM_COLUMNS if row.get(name) and row[name] == row[name]), "")  # NaN is nothing
    if is_messages(value):
        messages = messages_of(value, "the system column is not text")
        if any(m["role"] != "system" for m in messages):
            raise Skip("the system column holds other messages")
        return "\n".join(m["content"] for m in messages)
    return text_of(value, "the system column is not text") if str(value).strip() else ""


HISTORY_SIDES = (("user", "assistant"), ("human", "assistant"), ("instruction", "output"), ("question", "answer"), ("prompt", "response"))


def history_of(row: Row) -> tuple[Message, ...]:
    """Earlier turns in a ``history`` column: messages, pairs of texts, or objects with both sides.

    Raises:
        Skip: a list of something else.
    """
    value = row.get("history")
    if not isinstance(value, list | tuple) or not value:
        return ()
    if is_messages(value):
        return messages_of(value, "history is not text")
    out: list[Message] = []
    if all(isinstance(turn, str) for turn in value) and len(value) % 2 == 0:
        value = list(zip(value[::2], value[1::2], strict=True))
    for turn in value:
        sides: Any = turn
        if isinstance(turn, dict):
            sides = next(([turn[a], turn[b]] for a, b in HISTORY_SIDES if a in turn and b in turn), None)
        if not isinstance(sides, list | tuple) or len(sides) != 2 or not all(isinstance(side, str) for side in sides):
            raise Skip("history is neither messages nor pairs of texts")
        out += [{"role": "user", "content": sides[0]}, {"role": "assistant", "content": sides[1]}]
    return tuple(out)


def messages_of(value: Any, reason: str = "response is not text") -> tuple[Message, ...]:
    """Messages with plain text contents.

    Raises:
        Skip: not messages, or they hold images, sound or other parts that are not text.
    """
    if not is_messages(value):
        raise Skip(reason)
    return tuple(_checked(m) for m in value)


def _checked(message: Message) -> Message:
    if isinstance(message.get("content"), list):
        raise Skip("holds images or other parts that are not text; only text is trained on")
    if not isinstance(message.get("content"), str):
        raise Skip("a message's content is not text")
    if not isinstance(message.get("reasoning_content", ""), str):
        raise Skip("a message's reasoning is not text")
    calls = message.get("tool_calls", [])
    if not isinstance(calls, list) or not all(isinstance(c, dict) and isinstance(c.get("function"), dict) for c in calls):
        raise Skip("a tool call is not readable")
    return message


def side(value: Any, as_chat: bool) -> PromptText:
    """An answer: text, one message or several; text becomes an assistant's message beside a chat prompt."""
    value = [value] if isinstance(value, dict) else value
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


NOTHING = ("", "null", "none", "nan", "n/a", "[]", "{}")
"""What tables write where there is nothing."""


def tools_of(row: Row) -> tuple[Any, ...] | None:
    """The functions a prompt offers, from a ``tools`` column (a list, or JSON text of one)."""
    tools = row.get("tools") or row.get("functions")
    if isinstance(tools, str) and tools.strip().lower() not in NOTHING:
        if row.get("tools") is None:
            return None  # a column of that name that holds no functions
        raise Skip("tools are not valid JSON")
    if not isinstance(tools, list | tuple) or not tools:
        return None
    if not all(isinstance(tool, dict) for tool in tools):
        raise Skip("tools are not function schemas")
    return tuple(tools)


def kwargs_of(row: Row) -> dict[str, Any] | None:
    """What the row's chat template is given beside the messages, from ``chat_template_kwargs``.

    Raises:
        Skip: not an object.
    """
    given = row.get("chat_template_kwargs")
    if given in (None, "", {}):
        return None
    if not isinstance(given, dict):
        raise Skip("chat_template_kwargs is not an object")
    kept = {name: value for name, value in given.items() if value is not None}
    return kept or None


def refuse_images(row: Row) -> None:
    """Skip a row with a filled image, video or audio column."""
    if any(row.get(name) for name in ("images", "image", "videos", "audios")):
        raise Skip("holds images or other parts that are not text; only text is trained on")
