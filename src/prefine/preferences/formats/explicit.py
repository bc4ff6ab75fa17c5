"""Pairs under their own names, and the forms of sets that only name them otherwise."""

from __future__ import annotations

from typing import Any

from prefine.preferences.formats.format import (
    Format,
    Row,
    Skip,
    assistant,
    chat_prompt,
    is_messages,
    messages_of,
    one,
    refuse_images,
    scores_of,
    side,
    tools_of,
)
from prefine.preferences.formats.transcripts import is_transcript
from prefine.preferences.records import Pair


def _filled(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _convert(row: Row, number: int) -> Pair:
    refuse_images(row)
    prompt, chosen, rejected = row["prompt"], row["chosen"], row["rejected"]
    scores, tools = scores_of(row), tools_of(row)
    if isinstance(prompt, str) and _filled(row.get("system")):
        return Pair(chat_prompt(prompt, row["system"]), side(chosen, True), side(rejected, True), number, scores, tools)
    if isinstance(prompt, str):
        if not isinstance(chosen, str) or not isinstance(rejected, str):
            raise Skip("answer is not text")
        return Pair(prompt, chosen, rejected, number, scores, tools)
    asked = messages_of(prompt, "prompt is not text")
    better, worse = side(chosen, True), side(rejected, True)
    if better[: len(asked)] == asked == worse[: len(asked)]:  # some exports repeat the prompt inside both answers
        better, worse = better[len(asked) :], worse[len(asked) :]
    return Pair(asked, better, worse, number, scores, tools)


def _is_pairs(row: Row) -> bool:
    if not {"prompt", "chosen", "rejected"} <= row.keys() or (is_transcript(row["chosen"]) and is_transcript(row["rejected"])):
        return False
    return is_messages(row["prompt"]) or not (is_messages(row["chosen"]) and is_messages(row["rejected"]))


PAIRS = Format(
    "pairs",
    "prompt, chosen, rejected: text, messages, or a prompt of messages with answers as text",
    ("prompt", "chosen", "rejected"),
    _is_pairs,
    one(_convert),
)


def _instruction(row: Row, number: int) -> Pair:
    refuse_images(row)
    asked = row["instruction"]
    if _filled(row.get("input")):
        asked = f"{asked}\n{row['input']}"
    names = ("chosen_response", "rejected_response") if "chosen_response" in row else ("chosen", "rejected")
    return Pair(
        chat_prompt(asked, row.get("system")), assistant(row[names[0]]), assistant(row[names[1]]), number, scores_of(row), tools_of(row)
    )


ARGILLA = Format(
    "argilla",
    "instruction, chosen_response, rejected_response with ratings (argilla/ultrafeedback-binarized-preferences)",
    ("instruction", "chosen_response", "rejected_response"),
    lambda r: {"instruction", "chosen_response", "rejected_response"} <= r.keys(),
    one(_instruction),
)
ALPACA = Format(
    "alpaca",
    "instruction, input, chosen, rejected (LLaMA-Factory's alpaca form)",
    ("instruction", "chosen", "rejected"),
    lambda r: {"instruction", "chosen", "rejected"} <= r.keys() and "prompt" not in r and not is_messages(r["chosen"]),
    one(_instruction),
)


def _system_question(row: Row, number: int) -> Pair:
    asked = row["question"] if "question" in row else row["input"]
    return Pair(chat_prompt(asked, row["system"]), assistant(row["chosen"]), assistant(row["rejected"]), number, scores_of(row))


def _asks(row: Row) -> bool:
    return bool({"question", "input"} & row.keys()) and not {"prompt", "instruction"} & row.keys()


ORCA = Format(
    "orca",
    "system, question (or input), chosen, rejected (Intel/orca_dpo_pairs)",
    ("system", "question", "chosen", "rejected"),
    lambda r: {"system", "chosen", "rejected"} <= r.keys() and _asks(r),
    one(_system_question),
)
