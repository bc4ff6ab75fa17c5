"""Single answers with a thumbs-up or -down: KTO's data."""

from __future__ import annotations

from typing import Any

from prefine.preferences.formats.format import Format, Row, Skip, is_messages, messages_of, one, refuse_images, side, user, with_input
from prefine.preferences.formats.thumbs import UNRATED, thumb
from prefine.preferences.records import Labelled

PROMPTS = ("prompt", "question", "instruction", "query")
RESPONSES = ("completion", "response", "answer", "output")
LABELS = ("label", "thumb", "thumbs")
ELSEWHERE = frozenset(
    ("chosen", "rejected", "helpfulness", "annotation_id", "annotations", "completions", "answers", "responses", "generations", "choices")
)
"""Columns of other formats, of which one beside a label is something else."""


def may_be_label(row: Row) -> bool:
    """Whether a row's label could be a thumb: other columns of that name hold topics and scores."""
    value = _label(row)
    return value in (None, "") or thumb(value) is not None


def _label(row: Row) -> Any:
    return next((row[name] for name in LABELS if row.get(name) not in (None, "")), None)


def _convert(row: Row, number: int) -> Labelled:
    refuse_images(row)
    value = _label(row)
    if value in (None, ""):
        raise Skip(UNRATED)
    label = thumb(value)
    if label is None:
        raise Skip("label is neither true nor false")
    asked = next((name for name in PROMPTS if name in row), None)
    answered = next((name for name in RESPONSES if name in row), None)
    if asked is not None and answered is not None:
        prompt, answer = with_input(row, row[asked]), row[answered]
        # TRL's prompt and completion of text stay text; other texts are asked as a user's turn.
        if isinstance(prompt, str) and not (asked == "prompt" and answered == "completion" and isinstance(answer, str)):
            prompt = [user(prompt)]
        if not isinstance(prompt, str):
            prompt = messages_of(prompt, "prompt is not text")
        return Labelled(prompt, side(answer, not isinstance(prompt, str)), label, number)
    messages = messages_of(row["messages"])
    if messages[-1]["role"] != "assistant":
        raise Skip("the last turn is not the assistant's")
    return Labelled(messages[:-1], messages[-1:], label, number)


def is_plainly_labelled(row: Row) -> bool:
    """Whether a row has TRL's columns, or messages, with a label: rows of other names may be of a class, with an answer each."""
    return "label" in row and ({"prompt", "completion"} <= row.keys() or is_messages(row.get("messages")))


def _is_labelled(row: Row) -> bool:
    has = row.keys()
    if is_plainly_labelled(row):
        return True
    is_whole = not has.isdisjoint(PROMPTS) and not has.isdisjoint(RESPONSES)
    return is_whole and not has.isdisjoint(LABELS) and has.isdisjoint(ELSEWHERE) and not isinstance(_label(row), list | dict)


LABELLED = Format(
    "labelled",
    "single responses with a label, true or false, a thumb, good or bad: prompt and completion (or response), or messages (KTO)",
    ("prompt", "completion", "label"),
    _is_labelled,
    one(_convert),
)
