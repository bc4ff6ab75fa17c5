"""Pairs under their own names, and the formats of sets that only name them otherwise."""

from __future__ import annotations

from prefine.preferences.formats.format import (
    Format,
    Row,
    assistant,
    chat_prompt,
    holds_conversations,
    is_messages,
    messages_of,
    one,
    refuse_images,
    scores_of,
    side,
    with_input,
)
from prefine.preferences.formats.transcripts import is_transcript
from prefine.preferences.records import Pair


def _convert(row: Row, number: int) -> Pair:
    refuse_images(row)
    prompt, chosen, rejected = row["prompt"], row["chosen"], row["rejected"]
    scores = scores_of(row)
    if isinstance(prompt, str):
        asked_text = with_input(row, prompt)
        if isinstance(chosen, str) and isinstance(rejected, str):
            return Pair(asked_text, chosen, rejected, number, scores)
        return Pair(chat_prompt(asked_text), side(chosen, True), side(rejected, True), number, scores)
    asked = messages_of(prompt, "prompt is not text")
    better, worse = side(chosen, True), side(rejected, True)
    if better[: len(asked)] == asked == worse[: len(asked)]:  # some exports repeat the prompt inside both answers
        better, worse = better[len(asked) :], worse[len(asked) :]
    return Pair(asked, better, worse, number, scores)


def _is_pairs(row: Row) -> bool:
    if not {"prompt", "chosen", "rejected"} <= row.keys() or (is_transcript(row["chosen"]) and is_transcript(row["rejected"])):
        return False
    return is_messages(row["prompt"]) or not holds_conversations(row)


PAIRS = Format(
    "pairs",
    "prompt, chosen, rejected: text, messages, or a prompt of messages with responses as text",
    ("prompt", "chosen", "rejected"),
    _is_pairs,
    one(_convert),
)


def _instruction(row: Row, number: int) -> Pair:
    refuse_images(row)
    names = ("chosen_response", "rejected_response") if "chosen_response" in row else ("chosen", "rejected")
    asked = chat_prompt(with_input(row, row["instruction"]))
    return Pair(asked, side(row[names[0]], True), side(row[names[1]], True), number, scores_of(row))


ARGILLA = Format(
    "argilla",
    "instruction, chosen_response, rejected_response with ratings (argilla/ultrafeedback-binarized-preferences)",
    ("instruction", "chosen_response", "rejected_response"),
    lambda r: {"instruction", "chosen_response", "rejected_response"} <= r.keys(),
    one(_instruction),
)
ALPACA = Format(
    "alpaca",
    "instruction, input, chosen, rejected (LLaMA-Factory's alpaca format)",
    ("instruction", "chosen", "rejected"),
    lambda r: {"instruction", "chosen", "rejected"} <= r.keys() and "prompt" not in r and not holds_conversations(r),
    one(_instruction),
)


def _system_question(row: Row, number: int) -> Pair:
    asked = row["question"] if "question" in row else row["input"]
    return Pair(chat_prompt(asked), assistant(row["chosen"]), assistant(row["rejected"]), number, scores_of(row))


def _asks(row: Row) -> bool:
    return bool({"question", "input"} & row.keys()) and not {"prompt", "instruction"} & row.keys()


ORCA = Format(
    "orca",
    "system, question (or input), chosen, rejected (Intel/orca_dpo_pairs)",
    ("system", "question", "chosen", "rejected"),
    lambda r: {"system", "chosen", "rejected"} <= r.keys() and _asks(r),
    one(_system_question),
)
