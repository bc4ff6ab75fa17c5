"""One prompt with a list of rated or ranked answers: UltraFeedback, Nectar, and lists with scores beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from prefine.preferences.formats.format import Format, Row, Skip, chat_prompt, is_messages, messages_of, number_of, side, with_input
from prefine.preferences.formats.transcripts import is_transcript, parse_transcript
from prefine.preferences.records import Dropped, PromptText, Ranked

PROMPTS = ("prompt", "instruction", "question")
LISTS = ("completions", "answers", "responses", "generations")
TEXTS = ("response", "answer", "text", "content", "completion")
SCORES = ("fine-grained_score", "overall_score", "score", "rating", "rank")
"""In this order; a rank counts from the best, so it is negated. UltraFeedback's overall_score is known to be noisy."""
LISTS_OF_SCORES = ("scores", "ratings", "ranks", "rankings")


Answer: TypeAlias = tuple[Any, Any, int, Row]
"""An answer's text and score, and the row it stands in."""


def ranked(prompt: PromptText, answers: Iterable[Answer]) -> Iterator[Ranked | Dropped]:
    """The answers that have text and a score as one record, and a count of those that have not.

    Raises:
        Skip: fewer than two have.
    """
    usable, rest = [], []
    for text, score, number, row in answers:
        value = number_of(score)
        if value is None or not (is_messages(text) or (isinstance(text, str) and text.strip())):
            rest.append(Dropped(number, "an answer of several has no text or no score", row))
        else:
            usable.append((text, value, number))
    if len(usable) < 2:
        raise Skip("fewer than two answers with a score")
    yield Ranked(prompt, tuple(side(a, True) for a, _, _ in usable), tuple(s for _, s, _ in usable), usable[0][2])
    yield from rest


def _prompt(row: Row) -> PromptText:
    value = next(row[name] for name in PROMPTS if name in row)
    if is_messages(value):
        return messages_of(value)
    if is_transcript(value):  # Nectar's ends with an open "Assistant:" turn
        messages = parse_transcript(value)
        return messages[:-1] if messages[-1]["role"] == "assistant" and not messages[-1]["content"] else messages
    return chat_prompt(with_input(row, value))


def _convert(rows: Sequence[tuple[int, Row]]) -> Iterator[Ranked | Dropped]:
    for number, row in rows:
        answers = next(row[name] for name in LISTS if name in row)
        if all(isinstance(a, dict) for a in answers):
            texts = [next((a[t] for t in TEXTS if t in a), None) for a in answers]
            scores = [_score(a) for a in answers]
        else:
            name = next(n for n in LISTS_OF_SCORES if n in row)
            texts, scores = list(answers), [number_of(s) for s in row[name] or []]
            if len(scores) != len(texts):
                raise Skip("answers and scores differ in number")
            if name in ("ranks", "rankings"):
                scores = [None if s is None else -s for s in scores]
        yield from ranked(_prompt(row), ((t, s, number, row) for t, s in zip(texts, scores, strict=True)))


def _score(answer: dict[str, Any]) -> float | None:
    for name in SCORES:
        if name in answer:
            value = number_of(answer[name])
            return value if name != "rank" or value is None else -value
    return None


def _is_rated(row: Row) -> bool:
    answers = next((row[name] for name in LISTS if isinstance(row.get(name), list | tuple)), None)
    if answers is None or not any(name in row for name in PROMPTS) or {"chosen", "rejected"} & row.keys():
        return False
    if answers and all(isinstance(a, dict) for a in answers):
        return any(t in answers[0] for t in TEXTS) and any(s in answers[0] for s in SCORES)
    return any(isinstance(row.get(name), list | tuple) for name in LISTS_OF_SCORES)


RATED = Format(
    "rated",
    "a prompt with a list of rated or ranked responses (openbmb/UltraFeedback, berkeley-nest/Nectar), or with scores in a list beside",
    ("prompt", "answers", "scores"),
    _is_rated,
    _convert,
)


def _stack_exchange(rows: Sequence[tuple[int, Row]]) -> Iterator[Ranked | Dropped]:
    for number, row in rows:
        answers = [a if isinstance(a, dict) else {} for a in row["answers"]]
        yield from ranked(chat_prompt(row["question"]), ((a.get("text"), a.get("pm_score"), number, row) for a in answers))


def _is_stack_exchange(row: Row) -> bool:
    answers = row.get("answers")
    return "question" in row and isinstance(answers, list | tuple) and any(isinstance(a, dict) and "pm_score" in a for a in answers)


STACK_EXCHANGE = Format(
    "stack-exchange",
    "question, `answers` with text and pm_score (HuggingFaceH4/stack-exchange-preferences)",
    ("question", "answers"),
    _is_stack_exchange,
    _stack_exchange,
)
