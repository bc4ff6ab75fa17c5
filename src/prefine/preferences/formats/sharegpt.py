"""ShareGPT's conversations: ``from`` and ``value`` for role and content."""

from __future__ import annotations

import json
from typing import Any

from prefine.preferences.formats.format import Format, Row, Skip, one, refuse_images, scores_of, tools_of
from prefine.preferences.records import Message, Pair

ROLES = {
    **{"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bot": "assistant"},
    **{"system": "system", "observation": "tool", "tool": "tool", "function_response": "tool", "function_call": "assistant"},
}


def turn(message: Any) -> Message:
    """One turn as a message; a ``function_call`` becomes an assistant's tool calls."""
    if not isinstance(message, dict):
        raise Skip("a turn is not an object with 'from' and 'value'")
    role, content = message.get("from", message.get("role")), message.get("value", message.get("content"))
    if role not in ROLES:
        raise Skip(f"role {str(role)[:20]!r} is none of ShareGPT's")
    if not isinstance(content, str):
        raise Skip("answer is not text")
    if role == "function_call":
        try:
            called = json.loads(content)
        except ValueError as error:
            raise Skip("a function call is not valid JSON") from error
        calls = called if isinstance(called, list) else [called]
        return {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call} for call in calls]}
    return {"role": ROLES[role], "content": content}


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and ("from" in value or "role" in value) and ("value" in value or "content" in value)


def _convert(row: Row, number: int) -> Pair:
    refuse_images(row)
    prompt = tuple(turn(m) for m in row["conversations"])
    if isinstance(row.get("system"), str) and row["system"].strip() and prompt[0]["role"] != "system":
        prompt = ({"role": "system", "content": row["system"]}, *prompt)
    if not prompt or prompt[-1]["role"] == "assistant":
        raise Skip("the conversation does not end with the user's turn")
    return Pair(prompt, (turn(row["chosen"]),), (turn(row["rejected"]),), number, scores_of(row), tools_of(row))


SHAREGPT = Format(
    "sharegpt",
    "conversations with from/value turns, chosen and rejected as one turn each (ShareGPT, LLaMA-Factory)",
    ("conversations", "chosen", "rejected"),
    lambda r: isinstance(r.get("conversations"), list | tuple) and (_is_turn(r.get("chosen")) or _is_turn(r.get("rejected"))),
    one(_convert),
)
