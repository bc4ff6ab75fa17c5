"""What a judge is asked, and what its reply says. Pure: no server, no files.

The marks (``[[A]]``, ``[[7]]``) are those that MT-Bench made common (arXiv 2306.05685); the words are our own.
In every reply the *last* mark counts, since models often reason before they decide; a reply without one,
or cut inside its reasoning, is a failure and never a tie.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from prefine.evaluation.questions import Question
from prefine.preferences.reasoning import split_reasoning

PAIR_SYSTEM = (
    "You are an impartial judge. You read a conversation and two answers to it, and say which answer serves the user better. "
    "Look at correctness first, then at whether the instructions were followed, then at helpfulness and clarity. "
    "Neither length nor the order in which the answers stand is a merit. "
    "Reason briefly, then end with your verdict in exactly this form: [[A]] if A is better, [[B]] if B is better, [[C]] for a tie."
)
SINGLE_SYSTEM = (
    "You are an impartial judge. You read a conversation and rate its last answer for the user it was written for: "
    "correctness first, then whether the instructions were followed, then helpfulness, depth and clarity. Length is no merit. "
    "Reason briefly, then end with a rating from 1 to 10 in exactly this form: [[5]]."
)
LETTER_SYSTEM = (
    "You compare two answers to a conversation and name the one that people would rather have been given. "
    "Reply with a single letter, A or B, and nothing else."
)

PAIR_SCHEMA = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "verdict": {"type": "string", "enum": ["A", "B", "tie"]}},
    "required": ["reason", "verdict"],
    "additionalProperties": False,
}
SINGLE_SCHEMA = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "rating": {"type": "integer", "minimum": 1, "maximum": 10}},
    "required": ["reason", "rating"],
    "additionalProperties": False,
}


def conversation(question: Question, answers: tuple[str, ...]) -> str:
    """A conversation as text, the last answer left out."""
    asked = question.asked(answers[:-1])
    if isinstance(asked, str):
        return f"### User\n{asked}"
    return "\n\n".join(f"### {str(m.get('role', 'user')).capitalize()}\n{m.get('content') or ''}" for m in asked)


def _reference(question: Question, turn: int) -> str:
    return f"\n\n### Reference answer, which is correct\n{question.references[turn - 1]}" if len(question.references) >= turn else ""


def pair_text(question: Question, first: tuple[str, ...], second: tuple[str, ...], template: str | None = None) -> str:
    """What is asked about two answers, ``first`` shown as A.

    Later turns show each model's own conversation, since the question follows its own earlier answers.

    Args:
        template: the user's own words, with ``{question}``, ``{answer_a}``, ``{answer_b}``, ``{reference}``.
    """
    turn = len(first)
    asked, reference = conversation(question, first), _reference(question, turn)
    if template is not None:
        return fill(template, {"question": asked, "answer_a": first[-1], "answer_b": second[-1], "reference": reference.strip()})
    if turn == 1:
        return f"{asked}{reference}\n\n### Answer A\n{first[-1]}\n\n### Answer B\n{second[-1]}"
    sides = [
        f"## Conversation {name}\n{conversation(question, side)}\n\n### Last answer\n{side[-1]}"
        for name, side in (("A", first), ("B", second))
    ]
    return f"{sides[0]}\n\n{sides[1]}{reference}\n\nJudge the last answer of each conversation."


def single_text(question: Question, answers: tuple[str, ...], template: str | None = None) -> str:
    """What is asked about one answer; a template has ``{question}``, ``{answer}``, ``{reference}``."""
    asked, reference = conversation(question, answers), _reference(question, len(answers))
    if template is not None:
        return fill(template, {"question": asked, "answer": answers[-1], "reference": reference.strip()})
    return f"{asked}{reference}\n\n### Answer to rate\n{answers[-1]}"


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put values in a template's braces, in one pass: what is put in is never read as a template."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), template)


WINNERS = {"A": 1.0, "B": 0.0, "C": 0.5, "TIE": 0.5}
PAIR_MARK = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]|\"verdict\"\s*:\s*\"\s*(A|B|C|tie)\b", re.IGNORECASE)
NUMBER = r"(\d+(?:\.\d+)?)"
SINGLE_MARK = re.compile(rf"\[\[\s*{NUMBER}\s*(?:/\s*10)?\s*\]\]|\"rating\"\s*:\s*\"?{NUMBER}(?![\d.])", re.IGNORECASE)


def _said(text: str) -> str:
    """The reply after its reasoning; nothing where it was cut inside."""
    _, mark, rest = text.rpartition("</think>")
    return rest if mark else split_reasoning(text)[1]


def parse_pair(text: str) -> float | None:
    """How far A wins by the last verdict in a reply: 1, 0.5, 0; None without one."""
    marks = PAIR_MARK.findall(_said(text))
    return WINNERS[(marks[-1][0] or marks[-1][1]).upper()] if marks else None


def parse_rating(text: str) -> float | None:
    """The last rating in a reply, 1 to 10; None without one, or outside."""
    marks = SINGLE_MARK.findall(_said(text))
    if not marks:
        return None
    value = float(marks[-1][0] or marks[-1][1])
    return value if 1 <= value <= 10 else None


def preference_of(logprobs: Mapping[str, float] | None) -> float | None:
    """How far A wins by the probabilities of the letters, as AlpacaEval 2 takes it: P(A) / (P(A) + P(B)).

    None where the server gave no log-probs, or neither letter is among the likeliest.
    """
    mass = {"A": 0.0, "B": 0.0}
    for token, logprob in (logprobs or {}).items():
        letter = token.strip().strip("\"'[(").upper()
        if letter in mass and not math.isnan(logprob):
            mass[letter] += math.exp(min(0.0, logprob))
    total = mass["A"] + mass["B"]
    return mass["A"] / total if total > 0 else None


def response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A structured-output request."""
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": dict(schema)}}
