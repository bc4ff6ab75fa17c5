"""A row's cells as what their columns mean: one reader of messages, calls, tools and columns for every format and every command.

Messages come as lists, as JSON or Python text in a cell, with ``role`` and ``content`` or ``from`` and ``value``, with contents
in parts, with calls as OpenAI, Hermes and ShareGPT write them. What comes out is one shape; what was changed is told as notes.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

Row = Mapping[str, Any]
Note = Callable[[str], None]
"""Takes what was changed in reading, in a few words that are equal for equal changes."""

ROLES = {
    **dict.fromkeys(("user", "human", "prompter", "instruction"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "ai", "chatbot", "function_call", "tool_call"), "assistant"),
    **dict.fromkeys(("tool", "observation", "function_response", "function", "tool_response", "tool_result", "ipython"), "tool"),
    "system": "system",
    "developer": "developer",
}
"""Names of roles, lower case, to the usual ones; another name stays as it is."""
CALL_ROLES = ("function_call", "tool_call")
REASONING = ("reasoning_content", "reasoning", "thinking")
"""Fields that hold a message's reasoning; the first is ours."""
READ_FIELDS = {"role", "content", "from", "value", "tool_calls", "function_call", "tool_call", "tool_call_id", "name", "id", *REASONING}
CONVERSATIONS = (
    *("prompt", "chosen", "rejected", "completion", "messages", "conversations", "conversation", "history", "system", "system_prompt"),
    *("chosen_messages", "rejected_messages", "rejected_response", "preferred_output", "non_preferred_output"),
    *("conversation_a", "conversation_b"),
)
"""Columns that may hold messages."""
OBJECTS = ("input", "history", "tools", "functions", "chat_template_kwargs", "answers", "completions", "scores")
"""Columns that hold objects or lists where they are text that parses as such."""
READ_COLUMNS = frozenset((*CONVERSATIONS, *OBJECTS))
OPENING = ("[", "{", " ", "\n", "\t", "\r")
"""What a cell of messages or objects can begin with."""
ANSWER_SIDES = (
    *(("chosen", "rejected"), ("preferred_output", "non_preferred_output"), ("chosen_messages", "rejected_messages")),
    *(("conversation_a", "conversation_b"), ("completion",)),
)
"""Columns of answers that are read as messages together or not at all."""


def read_cells(row: Row, note: Note) -> Row:
    """A row whose messages, calls and tools are of one shape, whatever they were written as.

    Text is read as messages only where its column may hold them and all of it parses as such; an answer's text only
    where the other answer's does too, and where it begins as an answer would. All else that looks like JSON stays text.
    """
    for name, value in row.items():
        if (type(value) is not str or value[:1] in OPENING) and _may_hold(name, value):
            break
    else:
        return row  # most rows
    arrays = {name: plain_lists(row[name]) for name in READ_COLUMNS.intersection(row) if hasattr(row[name], "tolist")}
    row = {**row, **arrays} if arrays else row
    changed: dict[str, Any] = {}
    for name in CONVERSATIONS:
        value = row.get(name)
        if isinstance(value, str):
            parsed = _messages_in(value)
            if parsed is not None:
                changed[name] = parsed
        elif isinstance(value, list | tuple | dict):
            read = _conversation(value, note)
            if read is not value:
                changed[name] = read
    for sides in ANSWER_SIDES if changed else ():
        _settle_answers(row, changed, sides)
    for name, value in changed.items():
        if isinstance(row[name], str):
            note("messages read from text in a cell")
            changed[name] = _conversation(value, note)
    for name in OBJECTS:
        value = changed.get(name, row.get(name))
        parsed = _object_in(value) if isinstance(value, str) else value
        if name in ("tools", "functions"):
            parsed = tools_in(parsed, note)
        elif name == "input" and isinstance(parsed, dict) and "messages" in parsed:
            inner = parsed | {"messages": _conversation(_maybe_messages(parsed["messages"]), note)}
            parsed = inner | {"tools": tools_in(inner["tools"], note)} if "tools" in inner else inner
        elif name == "input" and parsed is not value:
            parsed = value  # a text that is the question, whatever it looks like
        if parsed is not value:
            changed[name] = parsed
    return {**row, **changed} if changed else row


def plain_lists(value: Any) -> Any:
    """Numpy's arrays, at every depth, as lists."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, dict):
        return {k: plain_lists(v) for k, v in value.items()}
    return [plain_lists(v) for v in value] if isinstance(value, list | tuple) else value


def _may_hold(name: str, value: Any) -> bool:
    """Whether a cell is anything but plain text, a number or nothing, in a column that is read as more."""
    if type(value) is str:
        return name in READ_COLUMNS and value.lstrip()[:1] in ("[", "{")
    if type(value) is list and value and all(map(_is_plain, value)):
        return False
    return (type(value) in (list, tuple, dict) or hasattr(value, "tolist")) and name in READ_COLUMNS


def _is_plain(message: Any) -> bool:
    """Whether a message is of our shape already, and no more than a role and a text."""
    if type(message) is not dict or len(message) != 2 or type(message.get("content")) is not str:
        return False
    return type(message.get("role")) is str and message["role"] in PLAIN_ROLES


def _settle_answers(row: Row, changed: dict[str, Any], sides: tuple[str, ...]) -> None:
    """Leave answers as text where not all of them are messages, or where they are no answers to the row's prompt."""
    texts = [name for name in sides if isinstance(row.get(name), str)]
    parsed = [name for name in texts if name in changed]
    if not parsed:
        return
    prompt = row.get("prompt")
    asked = prompt if isinstance(prompt, str) and "prompt" not in changed else None
    for name in parsed:
        first = changed[name][0]
        role = ROLES.get(str(first.get("role", first.get("from"))).lower())
        begins = role == "assistant" or asked is None or first.get("content", first.get("value")) == asked
        if len(parsed) < len(texts) or not begins:
            for each in parsed:
                changed.pop(each, None)
            return


def _maybe_messages(value: Any) -> Any:
    return (_messages_in(value) or value) if isinstance(value, str) else value


SAYS = {"content", "value", "tool_calls", "function_call", "tool_call", *REASONING}


def _is_message(value: Any) -> bool:
    named = isinstance(value, dict) and any(isinstance(value.get(key), str) for key in ("role", "from"))
    return named and not SAYS.isdisjoint(value)


def _messages_in(text: str) -> list[dict[str, Any]] | dict[str, Any] | None:
    """The messages that a cell's text is, or None."""
    start = text.lstrip()[:1]
    if start not in ("[", "{") or ("role" not in text and "from" not in text):
        return None
    value = literal(text)
    if _is_message(value):
        value = [value]
    if not isinstance(value, list) or not value or not all(map(_is_message, value)):
        return None
    known = all(str(m.get("role", m.get("from"))).lower() in ROLES for m in value)
    return value if known else None


def _object_in(text: str) -> Any:
    if text.lstrip()[:1] not in ("[", "{"):
        return text
    value = literal(text)
    return text if value is None else value


def literal(text: str) -> Any:
    """What JSON, or Python's or numpy's printed form of lists and dictionaries, says; None where it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    for candidate in (text, text.replace("}\n {", "},\n {")):  # numpy prints no commas between objects
        try:
            tree = ast.parse(candidate.strip(), mode="eval")
            return ast.literal_eval(_Plain().visit(tree))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            continue
    return None


class _Plain(ast.NodeTransformer):
    """``array([...], dtype=object)`` to its list, ``nan`` and ``null`` to None, ``true`` and ``false`` to theirs."""

    NAMES = {"nan": None, "null": None, "true": True, "false": False}  # noqa: RUF012  never changed

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Arrays are their first argument."""
        if isinstance(node.func, ast.Name) and node.func.id == "array" and node.args:
            return self.visit(node.args[0])  # type: ignore[no-any-return]
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Names of constants."""
        return ast.Constant(self.NAMES[node.id]) if node.id in self.NAMES else node


def _conversation(value: Any, note: Note) -> Any:
    """A message or a list of messages in our shape; anything else as it is."""
    if _is_message(value):
        return read_message(value, note)
    value = _by_row(value) if isinstance(value, dict) else value
    if not isinstance(value, list | tuple) or not value or not all(map(_is_message, value)):
        return value
    read = [read_message(m, note) for m in value]
    return value if all(a is b for a, b in zip(read, value, strict=True)) else read


def _by_row(value: dict[str, Any]) -> Any:
    """Messages that a table holds field by field (``{"role": [...], "content": [...]}``), one by one."""
    columns = list(value.values())
    told = value.keys() & {"role", "from"} and all(isinstance(c, list) and len(c) == len(columns[0]) for c in columns)
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)] if told else value


PLAIN_ROLES = {"user", "assistant", "system", "tool", "developer"}


def read_message(message: dict[str, Any], note: Note) -> dict[str, Any]:
    """One message as ``role``, ``content``, and where it has them ``reasoning_content``, ``tool_calls``, ``tool_call_id``, ``name``.

    Contents that are no text (images) are left as they are, for the format to refuse.
    """
    if _is_plain(message):
        return message
    named = str(message["role"] if isinstance(message.get("role"), str) else message["from"])
    role = ROLES.get(named.strip().lower(), named)
    if role != named:
        note(f"role {named[:20]!r} read as {role}")
    content = message["content"] if message.get("content") is not None else message.get("value")
    out: dict[str, Any] = {"role": role, "content": content}
    if named.strip().lower() in CALL_ROLES:
        calls = literal(content) if isinstance(content, str) else content
        if calls is not None:
            out |= {"content": "", "tool_calls": _calls(calls if isinstance(calls, list) else [calls], note)}
    elif isinstance(content, list):
        out |= _parts(content)
    reasoning = next((message[key] for key in REASONING if message.get(key)), None)
    if reasoning is not None:
        out["reasoning_content"] = reasoning
    for key in REASONING:
        if message.get(key) and message[key] != reasoning:
            note(f"the messages' field {key!r} is not read beside other reasoning")
    calls = message.get("tool_calls") or next(([message[key]] for key in ("function_call", "tool_call") if message.get(key)), None)
    calls = literal(calls) if isinstance(calls, str) else calls
    if message.get("tool_calls") and message.get("function_call"):
        note("the messages' field 'function_call' is not read beside tool_calls")
    if calls:
        out["tool_calls"] = _calls(calls, note)
    if out["content"] is None and (out.get("tool_calls") or out.get("reasoning_content")):
        out["content"] = ""
    for key in ("tool_call_id", "name"):
        if message.get(key) is not None:
            out[key] = message[key]
    for key, value in message.items():
        if key not in READ_FIELDS and value not in (None, "", [], {}):
            note(f"the messages' field {str(key)[:20]!r} is not read")
    return out


TEXT_PARTS, THOUGHT_PARTS = (None, "text", "input_text", "output_text"), ("thinking", "reasoning", "reasoning_text")


def _parts(parts: list[Any]) -> dict[str, Any]:
    """Text parts joined; reasoning parts apart. Parts that are neither are left, all of them."""
    texts, thoughts = [], []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and part.get("type") in THOUGHT_PARTS and isinstance(part.get("thinking", part.get("text")), str):
            thoughts.append(str(part.get("thinking", part.get("text"))))
        elif isinstance(part, dict) and part.get("type") in TEXT_PARTS and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            return {"content": parts}
    return {"content": "".join(texts)} | ({"reasoning_content": "".join(thoughts)} if thoughts else {})


def _calls(calls: Any, note: Note) -> list[Any]:
    if not isinstance(calls, list | tuple):
        calls = [calls]
    return [_call(call, note) for call in calls]


ARGUMENTS = ("arguments", "args", "parameters", "input", "kwargs")
"""Names of a call's arguments: OpenAI's, LangChain's, Hermes', Anthropic's."""
CALL_FIELDS = {"type", "id", "function", "name", "index", *ARGUMENTS}


def _call(call: Any, note: Note) -> Any:
    """``{"type": "function", "function": {"name", "arguments"}}``, arguments as an object where they are one."""
    call = literal(call) if isinstance(call, str) else call
    if not isinstance(call, dict):
        return call
    function = call.get("function")
    function = literal(function) if isinstance(function, str) and function.lstrip()[:1] == "{" else function
    inner = function if isinstance(function, dict) else call | ({"name": function} if isinstance(function, str) else {})
    if not isinstance(inner.get("name"), str):
        return call
    holder = next((part for part in (inner, call) if any(part.get(key) is not None for key in ARGUMENTS)), inner)
    arguments: Any = next((holder[key] for key in ARGUMENTS if holder.get(key) is not None), {})
    if isinstance(arguments, str) and arguments.strip()[:1] == "{":
        with suppress(ValueError):
            arguments = json.loads(arguments)  # a null in it was written on purpose
    else:
        arguments = without_nulls(arguments, note)
    if isinstance(arguments, dict):
        arguments = {str(key): value for key, value in arguments.items()}
    for key, value in {**call, **inner}.items():
        if key not in CALL_FIELDS and value not in (None, "", [], {}):
            note(f"the calls' field {str(key)[:20]!r} is not read")
    beside = {"id": call["id"]} if call.get("id") is not None else {}
    return {"type": "function"} | beside | {"function": {"name": inner["name"], "arguments": arguments or {}}}


def tools_in(value: Any, note: Note) -> Any:
    """Function schemas as ``{"type": "function", "function": {...}}``; anything else as it is."""
    value = [value] if isinstance(value, dict) and value else value
    if not isinstance(value, list | tuple):
        return value
    out = []
    for tool in value:
        tool = literal(tool) if isinstance(tool, str) else tool
        if not isinstance(tool, dict):
            return value
        tool = without_nulls(tool, note)
        function = tool.get("function")
        function = literal(function) if isinstance(function, str) else function
        if isinstance(function, dict):
            tool = tool | {"function": _schema(function)}
        elif isinstance(tool.get("name"), str):
            tool = {"type": "function", "function": _schema({k: v for k, v in tool.items() if k != "type"})}
        out.append(tool)
    return out


def _schema(function: dict[str, Any]) -> dict[str, Any]:
    parameters = function.get("parameters")
    parsed = literal(parameters) if isinstance(parameters, str) and parameters.lstrip()[:1] == "{" else None
    return function if parsed is None else function | {"parameters": parsed}


def without_nulls(value: Any, note: Note) -> Any:
    """Without object fields that are null, at every depth: a table has to have every row's fields in every row."""
    if isinstance(value, dict):
        if None in value.values():
            note("null fields in calls or tools left out")
        return {k: without_nulls(v, note) for k, v in value.items() if v is not None}
    return [without_nulls(v, note) for v in value] if isinstance(value, list | tuple) else value
