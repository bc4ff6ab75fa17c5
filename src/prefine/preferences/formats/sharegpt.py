"""A conversation with two answers beside it, each one message: ShareGPT's ``conversations``, or ``messages``."""

from __future__ import annotations

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
    side,
)
from prefine.preferences.records import Message, Pair


def _prompt(value: Any) -> tuple[Message, ...]:
    prompt = messages_of(value, "prompt is not text")
    if prompt[-1]["role"] == "assistant":
        raise Skip("the conversation does not end with the user's turn")
    return prompt


def _convert(row: Row, number: int) -> Pair:
    refuse_images(row)
    prompt = _prompt(row["conversations"] if "conversations" in row else row["messages"])
    return Pair(prompt, side(row["chosen"], True), side(row["rejected"], True), number, scores_of(row))


def _is_conversation(row: Row, name: str) -> bool:
    return is_messages(row.get(name)) and {"chosen", "rejected"} <= row.keys()


SHAREGPT = Format(
    "sharegpt",
    "conversations with from/value turns, chosen and rejected as one turn each (ShareGPT, LLaMA-Factory)",
    ("conversations", "chosen", "rejected"),
    lambda r: _is_conversation(r, "conversations"),
    one(_convert),
)
MESSAGES = Format(
    "messages",
    "messages that end with the user's turn, chosen and rejected as one message each (Axolotl)",
    ("messages", "chosen", "rejected"),
    lambda r: _is_conversation(r, "messages") and "prompt" not in r and not holds_conversations(r),
    one(_convert),
)


def _swift(row: Row, number: int) -> Pair:
    refuse_images(row)
    messages = messages_of(row["messages"])
    if messages[-1]["role"] != "assistant":
        raise Skip("the last turn is not the assistant's")
    start = len(messages) - 1
    if is_messages(row.get("rejected_messages")):
        worse = messages_of(row["rejected_messages"])
        while start > 0 and messages[start - 1]["role"] in ("assistant", "tool"):  # the answer begins after the last user's turn
            start -= 1
        if worse[:start] == messages[:start]:  # whole conversations
            worse = worse[start:]
        return Pair(messages[:start], messages[start:], worse, number, scores_of(row))
    return Pair(messages[:start], messages[start:], side(row["rejected_response"], True), number, scores_of(row))


SWIFT = Format(
    "swift",
    "messages that end with the preferred response, and rejected_response or rejected_messages (ms-swift)",
    ("messages", "rejected_response"),
    lambda r: is_messages(r.get("messages")) and bool({"rejected_response", "rejected_messages"} & r.keys()) and "chosen" not in r,
    one(_swift),
)
