"""OpenAssistant: message trees, and the same trees as flat messages with a parent each.

Every node with two or more ranked replies is one record: its conversation is the prompt,
its replies are the answers, best rank first. Deleted messages and what hangs below them
are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prefine.preferences.formats.format import Format, Row, Skip
from prefine.preferences.records import Message, Ranked

ROLES = {"prompter": "user", "assistant": "assistant", "system": "system"}


def _message(node: Row) -> Message:
    role = ROLES.get(str(node.get("role")))
    if role is None or not isinstance(node.get("text"), str):
        raise Skip("a message has no text or an unknown role")
    return {"role": role, "content": node["text"]}


def _walk(node: Row, before: tuple[Message, ...], number: int) -> Iterator[Ranked]:
    conversation = (*before, _message(node))
    replies = [r for r in node.get("replies") or [] if not r.get("deleted")]
    with_rank = [r for r in replies if isinstance(r.get("rank"), int) and not isinstance(r["rank"], bool)]
    if len(with_rank) >= 2:
        yield Ranked(conversation, tuple((_message(r),) for r in with_rank), tuple(-float(r["rank"]) for r in with_rank), number)
    for reply in replies:
        yield from _walk(reply, conversation, number)


def _trees(rows: Sequence[tuple[int, Row]]) -> Iterator[Ranked]:
    for number, row in rows:
        if row["prompt"].get("deleted"):
            raise Skip("the first message is deleted")
        found = list(_walk(row["prompt"], (), number))
        if not found:
            raise Skip("no message has two ranked replies")
        yield from found


def _flat(rows: Sequence[tuple[int, Row]]) -> Iterator[Ranked]:
    nodes: dict[Any, dict[str, Any]] = {row["message_id"]: dict(row) | {"replies": []} for _, row in rows}
    roots = []
    for node in nodes.values():
        parent = nodes.get(node["parent_id"])
        if parent is not None:
            parent["replies"].append(node)
        elif node["parent_id"] is None:
            roots.append(node)
        else:
            raise Skip("a message's parent is not among the rows before and after it")
    found = [r for root in roots if not root.get("deleted") for r in _walk(root, (), rows[0][0])]
    if not found:
        raise Skip("no message has two ranked replies")
    yield from found


OASST_TREES = Format(
    "oasst-trees",
    "message trees with ranked replies (OpenAssistant's export)",
    ("message_tree_id", "prompt"),
    lambda r: "message_tree_id" in r and isinstance(r.get("prompt"), dict) and "replies" in r["prompt"],
    _trees,
)
OASST_FLAT = Format(
    "oasst-messages",
    "messages with parent_id, text, role and rank, a tree's rows one after another (OpenAssistant/oasst1, oasst2)",
    ("message_id", "parent_id", "text", "role"),
    lambda r: {"message_id", "parent_id", "text", "role"} <= r.keys(),
    _flat,
    gather=lambda r: r.get("message_tree_id") or r["message_id"],
    reads=("message_id", "parent_id", "text", "role", "rank", "deleted", "message_tree_id"),
)
