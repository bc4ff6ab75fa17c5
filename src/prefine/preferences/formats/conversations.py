"""What was asked and what was answered, in the shapes in which tools log and export them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from prefine.preferences.cells import read_message
from prefine.preferences.formats.format import Skip, is_messages, messages_of, user, with_input
from prefine.preferences.records import Message

PROMPTS = ("messages", "conversation", "chat", "dialogue", "prompt", "instruction", "question", "query", "input", "text")
HISTORIES = ("chat_history", "history")
ANSWERS = ("response", "completion", "answer", "output", "generation", "reply", "message")
LANGCHAIN = {"human": "user", "ai": "assistant", "AIMessageChunk": "assistant"}


def _message(value: Any) -> Any:
    """A message of OpenAI's or LangChain's shape as ours; anything else as it is."""
    if isinstance(value, Mapping) and value.get("lc") and isinstance(value.get("kwargs"), Mapping):
        kind = str((value.get("id") or [""])[-1])
        value = {"type": kind.removesuffix("Chunk").removesuffix("Message").lower() or kind, **value["kwargs"]}
    if isinstance(value, Mapping) and isinstance(value.get("data"), Mapping) and isinstance(value.get("type"), str):
        value = {**value["data"], "type": value["type"]}
    if isinstance(value, Mapping) and "role" not in value and isinstance(value.get("type"), str) and "content" in value:
        more = value.get("additional_kwargs") or {}
        calls = (more.get("tool_calls") if isinstance(more, Mapping) else None) or [_call(c) for c in value.get("tool_calls") or ()]
        beside = {"tool_calls": calls} if calls else {}
        beside |= {"tool_call_id": value["tool_call_id"]} if value.get("tool_call_id") else {}
        value = {"role": LANGCHAIN.get(value["type"], value["type"]), "content": value["content"]} | beside
    if isinstance(value, Mapping) and isinstance(value.get("author"), str) and isinstance(value.get("text"), str):
        value = {"role": value["author"], "content": value["text"]}  # Label Studio's paragraphs
    return read_message(dict(value), lambda note: None) if isinstance(value, Mapping) and isinstance(value.get("role"), str) else value


def _call(call: Any) -> Any:
    """LangChain's call as OpenAI's."""
    if not isinstance(call, Mapping) or "name" not in call:
        return call
    return {"type": "function", "function": {"name": call["name"], "arguments": call.get("args") or {}}}


def conversation(value: Any) -> tuple[Message, ...]:
    """What was asked: text, messages, or an object that holds either.

    Raises:
        Skip: none of these.
    """
    if isinstance(value, str):
        found = parsed(value)
        if isinstance(found, dict) and "messages" in found:
            return conversation(found)
        return conversation(found) if isinstance(found, list) and is_messages([_message(m) for m in found]) else (user(value),)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        return conversation(value[0])  # LangChain's batches
    if isinstance(value, list) and value:
        return messages_of([_message(m) for m in value], "what was asked is not readable")
    if isinstance(value, Mapping):
        read = _message(value)
        if isinstance(read.get("role"), str):
            return messages_of([read])
        name = next((name for name in PROMPTS if value.get(name)), None) or (next(iter(value)) if len(value) == 1 else None)
        if name is not None:
            before = next((value[n] for n in HISTORIES if n != name and value.get(n)), None)
            asked = conversation(with_input(value, value[name]))
            if isinstance(value.get("context"), str) and not isinstance(value[name], str) and isinstance(asked[-1]["content"], str):
                asked = (*asked[:-1], asked[-1] | {"content": f"{asked[-1]['content']}\n{value['context']}"})
            return (*conversation(before), *asked) if before else asked
    raise Skip("what was asked is not readable")


def reply(value: Any) -> tuple[Message, ...]:
    """What was answered: text, a message, messages of which the last is taken, or an object that holds one of them.

    Raises:
        Skip: none of these.
    """
    if isinstance(value, str):
        found = parsed(value)
        if isinstance(found, dict) and (_generated(found) or {"role", "content"} <= found.keys()):
            return reply(found)
        return ({"role": "assistant", "content": value},)
    if isinstance(value, list) and value:
        if all(isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str) for part in value):
            return ({"role": "assistant", "content": "".join(part["text"] for part in value)},)
        return reply(value[-1])
    if isinstance(value, Mapping):
        read = _message(value)
        if isinstance(read.get("role"), str):
            return messages_of([read])
        if inner := _generated(value):
            return reply(inner[0])
        for name in ("message", *ANSWERS, "messages", "text", "content"):
            if value.get(name):
                return reply(value[name])
        if len(value) == 1:
            return reply(next(iter(value.values())))
    raise Skip("the response is not readable")


def _generated(value: Mapping[str, Any]) -> list[Any]:
    """What an API answered, of an object that holds it; a model's own JSON may have fields of that name."""
    found: list[Any] = next((value[name] for name in ("choices", "generations") if isinstance(value.get(name), list)), [])
    return found if found and isinstance(found[0], Mapping | list) else []


def parsed(text: str) -> Any:
    """An object or a list that a text is in JSON, else None."""
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def object_in(value: Any) -> Any:
    """A value that a table may hold as JSON text."""
    found = parsed(value) if isinstance(value, str) else None
    return value if found is None else found


def asked_in(fields: Mapping[str, Any]) -> tuple[Message, ...]:
    """The prompt of named fields, with what an input or a context adds to it.

    Raises:
        Skip: there is none.
    """
    name = next((name for name in PROMPTS if fields.get(name)), None)
    if name is None:
        raise Skip("no prompt among its fields")
    return conversation(with_input(fields, fields[name]))


def asked_and_answered(fields: Mapping[str, Any]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Prompt and response of named fields; of a conversation alone its last turn is the response."""
    messages = asked_in(fields)
    answered = next((fields[name] for name in ANSWERS if fields.get(name)), None)
    if answered is not None:
        return messages, reply(answered)
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise Skip("no response among its fields")
    return messages[:-1], messages[-1:]
