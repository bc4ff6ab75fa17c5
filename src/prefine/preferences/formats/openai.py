"""OpenAI's preference fine-tuning format."""

from __future__ import annotations

from prefine.preferences.formats.format import Format, Row, Skip, messages_of, one, tools_of
from prefine.preferences.records import Pair


def _convert(row: Row, number: int) -> Pair:
    asked = row["input"]
    if not isinstance(asked, dict):
        raise Skip("input is not an object with messages")
    prompt = messages_of(asked.get("messages"), "prompt is not text")
    return Pair(prompt, messages_of(row["preferred_output"]), messages_of(row["non_preferred_output"]), number, tools=tools_of(asked))


OPENAI = Format(
    "openai",
    "input.messages, preferred_output, non_preferred_output (OpenAI's preference fine-tuning)",
    ("input", "preferred_output", "non_preferred_output"),
    lambda r: {"input", "preferred_output", "non_preferred_output"} <= r.keys(),
    one(_convert),
)
