"""Prompts with one answer, or with none: the data of SFT and of retention."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prefine.errors import ColumnError, DataError
from prefine.preferences.records import PromptText
from prefine.preferences.source import read_rows

ANSWER_COLUMNS = ("completion", "answer", "response", "output", "chosen")
PROMPT_COLUMNS = ("prompt", "question", "instruction")
Example = tuple[PromptText, PromptText | None]


def to_examples(rows: Iterable[tuple[int, Mapping[str, Any]]], source: str) -> list[Example]:
    """Convert rows: ``messages``; a prompt with an answer; a prompt alone.

    Raises:
        ColumnError: none of these; DataError: no rows, or a row that is not text.
    """
    out: list[Example] = []
    for number, row in rows:
        messages = row.get("messages")
        if isinstance(messages, list | tuple) and messages:
            if messages[-1].get("role") == "assistant":
                out.append((tuple(messages[:-1]), (messages[-1],)))
            else:
                out.append((tuple(messages), None))
            continue
        prompt = next((row[c] for c in PROMPT_COLUMNS if row.get(c)), None)
        answer = next((row[c] for c in ANSWER_COLUMNS if row.get(c)), None)
        if prompt is None:
            raise ColumnError(
                f"{source}, row {number}: found columns {', '.join(row)}; expected 'messages', or one of "
                f"{', '.join(PROMPT_COLUMNS)} with one of {', '.join(ANSWER_COLUMNS)}"
            )
        prompt, answer = _record(prompt, source, number), None if answer is None else _record(answer, source, number)
        if isinstance(answer, str) and not isinstance(prompt, str):
            answer = ({"role": "assistant", "content": answer},)
        out.append((prompt, answer))
    if not out:
        raise DataError(f"{source}: empty, no rows to read")
    return out


def load_examples(source: str) -> list[Example]:
    """Read a source of :func:`to_examples`' forms."""
    return to_examples(read_rows(source), source)


def _record(value: Any, source: str, number: int) -> PromptText:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(m, dict) for m in value):
        return tuple(value)
    raise DataError(f"{source}, row {number}: expected text or messages, found {type(value).__name__}")
