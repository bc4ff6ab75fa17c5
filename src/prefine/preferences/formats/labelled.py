"""Single answers with a thumbs-up or -down: KTO's data."""

from __future__ import annotations

from typing import Any

from prefine.preferences.formats.format import Format, Row, Skip, is_messages, messages_of, one, refuse_images, side, user, with_input
from prefine.preferences.records import Labelled

YES = (True, 1, "true", "True", "1", "desirable", "thumbs_up", "good")
NO = (False, 0, -1, "false", "False", "0", "undesirable", "thumbs_down", "bad")


def may_be_label(row: Row) -> bool:
    """Whether a row's label could be a thumb: other columns of that name hold topics and scores."""
    value: Any = row.get("label")
    return not isinstance(value, list | dict) and (value is None or value in YES or value in NO)


def _label(row: Row) -> bool:
    value: Any = row["label"]
    if isinstance(value, list | dict):
        raise Skip("label is neither true nor false")
    if value in YES:
        return True
    if value in NO:
        return False
    raise Skip("label is neither true nor false")


def _convert(row: Row, number: int) -> Labelled:
    refuse_images(row)
    label = _label(row)
    if "completion" in row:
        asked, answer = with_input(row, row["prompt"]), row["completion"]
        if isinstance(asked, str) and not isinstance(answer, str):
            asked = [user(asked)]
        prompt = asked if isinstance(asked, str) else messages_of(asked, "prompt is not text")
        return Labelled(prompt, side(answer, not isinstance(prompt, str)), label, number)
    messages = messages_of(row["messages"])
    if messages[-1]["role"] != "assistant":
        raise Skip("the last turn is not the assistant's")
    return Labelled(messages[:-1], messages[-1:], label, number)


LABELLED = Format(
    "labelled",
    "single responses with a label: prompt and completion, or messages (KTO)",
    ("prompt", "completion", "label"),
    lambda r: "label" in r and ({"prompt", "completion"} <= r.keys() or is_messages(r.get("messages"))),
    one(_convert),
)
