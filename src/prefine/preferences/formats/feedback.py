"""What chat tools and graders export of opinions on single responses: thumbs and passes.

A response of which opinions differ, or of which nobody said anything that is yes or no, is dropped with that reason.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefine.preferences.formats.conversations import conversation, reply
from prefine.preferences.formats.format import Format, Row, Skip, messages_of, one
from prefine.preferences.formats.thumbs import UNRATED, agreed, rated
from prefine.preferences.records import Dropped, Labelled, Message

REASONING = re.compile(r'<details type="reasoning"[^>]*>\s*(?:<summary>.*?</summary>)?(.*?)</details>\s*', re.DOTALL)


# ---- Open WebUI


def _nodes(holders: Sequence[Mapping[str, Any]]) -> Mapping[Any, Any]:
    """A chat's messages by id; they are a tree."""
    histories = [h["history"]["messages"] for h in holders if isinstance(h.get("history"), Mapping) and h["history"].get("messages")]
    nodes = histories[0] if histories else {}
    nodes = {m.get("id"): m for m in nodes if isinstance(m, Mapping)} if isinstance(nodes, list) else nodes
    return nodes if isinstance(nodes, Mapping) else {}


def _holders(chat: Any) -> list[Mapping[str, Any]]:
    """A chat, and what it lies in: its settings may stand at any depth."""
    holders = [chat]
    while isinstance(chat.get("chat"), Mapping):
        chat = chat["chat"]
        holders.append(chat)
    return holders


def _up_to(place: Any, holders: Sequence[Mapping[str, Any]]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """What was asked up to a response, and the response."""
    nodes, path, seen = _nodes(holders), [], set()
    while place is not None and isinstance(nodes.get(place), Mapping) and place not in seen:
        seen.add(place)
        path.append(nodes[place])
        place = nodes[place].get("parentId")
    if not path or place is not None or path[0].get("role") != "assistant":
        raise Skip("the rated response is not in its snapshot")
    files = [f for m in path if isinstance(m.get("files"), list) for f in m["files"] if isinstance(f, Mapping)]
    if any(str(f.get("type")) == "image" for f in files):
        raise Skip("holds images or other parts that are not text; only text is trained on")
    if files:
        raise Skip("rests on attached files, whose text is not in the export")
    if path[0].get("error"):
        raise Skip("the model gave no response")
    systems = [system for h in holders for system in (h.get("system"), (h.get("params") or {}).get("system"))]
    system = next((text for text in systems if isinstance(text, str) and text.strip()), None)
    messages = messages_of([_with_reasoning(m) for m in reversed(path)])
    head = ({"role": "system", "content": system},) if system and messages[0]["role"] != "system" else ()
    return (*head, *messages[:-1]), messages[-1:]


def _open_webui(row: Row, number: int) -> Labelled:
    label = agreed([row["data"].get("rating")])
    prompt, response = _up_to(row["meta"].get("message_id"), _holders(row["snapshot"]))
    return Labelled(prompt, response, label, number)


def _open_webui_chats(rows: Sequence[tuple[int, Row]]) -> Iterator[Labelled | Dropped]:
    """The rated responses of whole chats, wherever in their trees they stand."""
    for number, row in rows:
        holders = _holders(row["chat"])
        rated = {m.get("id", key): _rating(m) for key, m in _nodes(holders).items() if isinstance(m, Mapping)}
        if not any(rating is not None for rating in rated.values()):
            raise Skip(UNRATED)
        for place, rating in rated.items():
            if rating is None:
                continue
            try:
                yield Labelled(*_up_to(place, holders), agreed([rating]), number)
            except Skip as skip:
                yield Dropped(number, str(skip), row)


def _rating(message: Mapping[str, Any]) -> Any:
    annotation = message.get("annotation")
    return annotation.get("rating") if isinstance(annotation, Mapping) else None


def _with_reasoning(message: Mapping[str, Any]) -> Message:
    """A message whose reasoning, which is written into its text, is a field of its own."""
    content = message.get("content")
    if not isinstance(content, str):
        return {"role": message.get("role"), "content": content}
    if '<details type="' in REASONING.sub("", content):
        raise Skip("holds tool calls that are written into its text")
    parts = [part.strip() for part in REASONING.findall(content)]
    parts = [html.unescape(part) if part.startswith("&gt;") else part for part in parts]  # as newer versions write it
    found = [re.sub(r"^> ?", "", part, flags=re.MULTILINE) for part in parts]
    reasoning = {"reasoning_content": "\n".join(found)} if found else {}
    return {"role": message.get("role"), "content": REASONING.sub("", content).strip() if found else content} | reasoning


OPEN_WEBUI = Format(
    "open-webui",
    "feedback of Open WebUI: data.rating 1 or -1, meta.message_id, the chat as a snapshot",
    ("data", "meta", "snapshot"),
    lambda r: all(isinstance(r.get(n), dict) for n in ("data", "meta", "snapshot")) and "message_id" in r["meta"] and "rating" in r["data"],
    one(_open_webui),
)


OPEN_WEBUI_CHATS = Format(
    "open-webui-chats",
    "chats of Open WebUI: chat.history.messages, with annotation.rating 1 or -1 of responses",
    ("id", "chat"),
    lambda r: isinstance(r.get("chat"), dict) and isinstance(r["chat"].get("history"), dict) and "messages" in r["chat"]["history"],
    _open_webui_chats,
    reads=("id", "user_id", "title", "updated_at", "created_at", "share_id", "archived", "pinned", "meta", "folder_id"),
)


# ---- graders


def _promptfoo(result: Row, number: int) -> Labelled:
    response = result.get("response")
    if not isinstance(response, Mapping) or response.get("error") or result.get("failureReason") == 2 or response.get("output") is None:
        raise Skip("the model gave no response")
    prompt, output = result.get("prompt") or {}, response["output"]
    raw = prompt.get("raw") if isinstance(prompt, Mapping) else prompt
    answered = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
    graded = result.get("gradingResult") or {}
    if isinstance(graded, Mapping) and str(graded.get("reason")).startswith("No assertions"):
        raise Skip("nothing was checked")
    if isinstance(graded, Mapping) and str(graded.get("reason")).startswith("Manual result") and not _has_thumb(graded):
        raise Skip(UNRATED)  # a thumb that was taken back leaves what it said
    label = agreed([graded.get("pass", result.get("success")) if isinstance(graded, Mapping) else result.get("success")])
    return Labelled(conversation(raw), reply(answered), label, number)


def _has_thumb(graded: Mapping[str, Any]) -> bool:
    """Whether a person's thumb is among the results: newer versions list it, older ones list no results at all."""
    parts = graded.get("componentResults")
    kinds = [p["assertion"].get("type") for p in parts or () if isinstance(p, Mapping) and isinstance(p.get("assertion"), Mapping)]
    return parts is None or "human" in kinds


PROMPTFOO = Format(
    "promptfoo",
    "results of promptfoo eval (.json, .jsonl): prompt.raw, response.output, gradingResult.pass",
    ("prompt", "response", "gradingResult"),
    lambda r: isinstance(r.get("prompt"), dict) and isinstance(r.get("response"), dict) and bool({"gradingResult", "success"} & r.keys()),
    one(_promptfoo),
    reads=("success", "failureReason"),
)


def _openai_evals(row: Row, number: int) -> Labelled:
    sample: Any = row.get("sample") if isinstance(row.get("sample"), dict) else {}
    if sample.get("error") or not sample.get("output"):
        raise Skip("the model gave no response")
    asked = sample.get("input") or row.get("datasource_item")
    verdicts = [r["passed"] for r in row.get("results") or () if isinstance(r, Mapping) and isinstance(r.get("passed"), bool)]
    label = agreed([all(verdicts)] if verdicts else [row.get("status")])
    return Labelled(conversation(asked), reply(sample["output"]), label, number)


OPENAI_EVALS = Format(
    "openai-evals",
    "output items of an OpenAI eval's run: sample.input, sample.output, results with passed",
    ("object", "sample", "results"),
    lambda r: r.get("object") == "eval.run.output_item",
    one(_openai_evals),
    reads=("status", "datasource_item"),
)


def _stored_completion(row: Row, number: int) -> Labelled:
    choices = row["choices"]
    asked = next((row[name] for name in ("messages", "input") if row.get(name)), None) or (row.get("request") or {}).get("messages")
    asked = asked.get("data") if isinstance(asked, Mapping) else asked  # a page of the endpoint that lists them
    if not asked:
        raise Skip("its prompt is not in it; add what chat/completions/ID/messages lists as 'messages'")
    if len(choices) != 1:
        raise Skip("several responses with one label")
    if choices[0].get("finish_reason") == "length":
        raise Skip("the response is truncated")
    metadata = row.get("metadata")
    label = rated([(k, v) for k, v in metadata.items() if k not in ("user", "user_id")] if isinstance(metadata, Mapping) else [])
    parts = ("role", "content", "tool_calls", "tool_call_id")
    messages = [{k: m[k] for k in parts if m.get(k) is not None} | {"content": m.get("content") or m.get("content_parts")} for m in asked]
    return Labelled(conversation(messages), reply(choices), label, number)


OPENAI_STORED = Format(
    "openai-stored",
    "OpenAI's stored completions, each with its messages; what was said of it in metadata (feedback, thumb, user_rating)",
    ("object", "choices", "metadata"),
    lambda r: r.get("object") == "chat.completion" and isinstance(r.get("choices"), list) and "metadata" in r,
    one(_stored_completion),
    reads=("metadata", "request"),
)
