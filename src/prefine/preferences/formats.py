"""Recognising a row's format and converting it to a :class:`Pair`.

One table, :data:`FORMATS`: a name, a sniffing function and a converter. A row
that a converter cannot use raises :class:`Skip` with a reason; the caller counts it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefine.errors import ColumnError
from prefine.preferences.records import Message, Pair, PromptText

Row = dict[str, Any]
HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"
SYNONYMS = {
    "prompt": ("prompt", "question", "instruction", "input", "query", "context"),
    "chosen": ("chosen", "chosen_response", "preferred", "better", "winner", "response_chosen", "accepted"),
    "rejected": ("rejected", "rejected_response", "dispreferred", "worse", "loser", "response_rejected"),
}


class Skip(Exception):
    """A row that is dropped; its one argument is the reason it is counted under."""


@dataclass(frozen=True)
class Format:
    """One form of preference data: how to know it and how to read a row of it."""

    name: str
    sniff: Callable[[Row], bool]
    convert: Callable[[Row, int], Pair]


def _is_messages(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in value)


def _answer(value: Any, assistant_only: bool = False) -> PromptText:
    if _is_messages(value):
        return tuple(value)
    if isinstance(value, str):
        return ({"role": "assistant", "content": value},) if assistant_only else value
    raise Skip("answer is not text")


def _explicit(row: Row, number: int) -> Pair:
    prompt, chosen, rejected = row["prompt"], row["chosen"], row["rejected"]
    if _is_messages(prompt):
        pair = Pair(tuple(prompt), _answer(chosen, True), _answer(rejected, True), number)
        # Some exports repeat the prompt inside both answers.
        if pair.chosen[: len(prompt)] == pair.prompt == pair.rejected[: len(prompt)]:
            pair = Pair(pair.prompt, pair.chosen[len(prompt) :], pair.rejected[len(prompt) :], number)
        return pair
    if not isinstance(prompt, str):
        raise Skip("prompt is not text")
    if _is_messages(chosen) and _is_messages(rejected):
        return _implicit({"chosen": chosen, "rejected": rejected}, number)
    if not isinstance(chosen, str) or not isinstance(rejected, str):
        raise Skip("answer is not text")
    return Pair(prompt, chosen, rejected, number)


def _split_common(chosen: tuple[Message, ...], rejected: tuple[Message, ...], number: int) -> Pair:
    same = 0
    while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
        same += 1
    if same == len(chosen) == len(rejected):
        raise Skip("chosen equals rejected")
    if same < max(len(chosen), len(rejected)) - 1:
        raise Skip("transcripts diverge before the last turn")
    if same == 0:
        raise Skip("the two sides share no prompt")
    return Pair(chosen[:same], chosen[same:], rejected[same:], number)


def _implicit(row: Row, number: int) -> Pair:
    return _split_common(tuple(row["chosen"]), tuple(row["rejected"]), number)


def parse_transcript(text: str) -> tuple[Message, ...]:
    """Split an hh-rlhf transcript (``"\\n\\nHuman: ...\\n\\nAssistant: ..."``) into messages."""
    messages: list[Message] = []
    rest = text
    while rest:
        role = "user" if rest.startswith(HUMAN) else "assistant" if rest.startswith(ASSISTANT) else None
        if role is None:
            raise Skip("transcript does not begin with a Human or Assistant turn")
        rest = rest[len(HUMAN if role == "user" else ASSISTANT) :]
        ends = [at for at in (rest.find(HUMAN), rest.find(ASSISTANT)) if at >= 0]
        end = min(ends) if ends else len(rest)
        messages.append({"role": role, "content": rest[:end].strip()})
        rest = rest[end:]
    return tuple(messages)


def _transcripts(row: Row, number: int) -> Pair:
    pair = _split_common(parse_transcript(row["chosen"]), parse_transcript(row["rejected"]), number)
    last = pair.chosen[-1] if pair.chosen else pair.rejected[-1]
    if not isinstance(last, dict) or last["role"] != "assistant":
        raise Skip("the last turn is not the assistant's")
    return pair


def _is_transcript(value: Any) -> bool:
    return isinstance(value, str) and value.startswith((HUMAN, ASSISTANT))


FORMATS = (
    Format("pairs", lambda r: {"prompt", "chosen", "rejected"} <= r.keys() and not _is_transcript(r["chosen"]), _explicit),
    Format("hh-rlhf", lambda r: _is_transcript(r.get("chosen")) and _is_transcript(r.get("rejected")), _transcripts),
    Format("implicit-prompt", lambda r: _is_messages(r.get("chosen")) and _is_messages(r.get("rejected")), _implicit),
)


def detect(row: Row, source: str) -> Format:
    """Return the format of a source from its first row.

    Raises:
        ColumnError: no format fits; lists the columns found and the flags that would help.
    """
    for known in FORMATS:
        if known.sniff(row):
            return known
    flags = []
    for want in ("prompt", "chosen", "rejected"):
        if want not in row:
            lowered = {str(c).lower(): str(c) for c in row}
            guess = next((lowered[s] for s in SYNONYMS[want] if s in lowered), None)
            flags.append(f"--map {want}={guess or 'COLUMN'}")
    missing = [w for w in ("prompt", "chosen", "rejected") if w not in row]
    found = ", ".join(map(str, row)) or "(none)"
    if not missing:
        raise ColumnError(f"{source}: has prompt, chosen and rejected, but they are neither text nor messages")
    raise ColumnError(
        f"{source}: no column {', '.join(map(repr, missing))}; columns found: {found}. Name the columns with {' '.join(flags)}"
    )
