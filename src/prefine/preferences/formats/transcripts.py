"""hh-rlhf's transcripts: two whole conversations as text, one turn after another."""

from __future__ import annotations

from typing import Any

from prefine.preferences.formats.format import Format, Row, Skip, one
from prefine.preferences.formats.implicit import split_common
from prefine.preferences.records import Message, Pair

HUMAN, ASSISTANT = "\n\nHuman:", "\n\nAssistant:"


def is_transcript(value: Any) -> bool:
    """Text that begins with a Human or an Assistant turn."""
    return isinstance(value, str) and value.startswith((HUMAN, ASSISTANT))


def parse_transcript(text: str) -> tuple[Message, ...]:
    """Split a transcript (``"\\n\\nHuman: ...\\n\\nAssistant: ..."``) into messages."""
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


def _convert(row: Row, number: int) -> Pair:
    return split_common(parse_transcript(row["chosen"]), parse_transcript(row["rejected"]), number)


HH_RLHF = Format(
    "hh-rlhf",
    "chosen, rejected as whole 'Human: ... Assistant: ...' transcripts (Anthropic/hh-rlhf)",
    ("chosen", "rejected"),
    lambda r: is_transcript(r.get("chosen")) and is_transcript(r.get("rejected")),
    one(_convert),
)
