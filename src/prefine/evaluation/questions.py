"""What a model is asked: any preference data's prompts, a plain list, MT-Bench's and AlpacaEval's published formats."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prefine.errors import DataError, MissingFile
from prefine.preferences.convert import Reading
from prefine.preferences.draws import prompt_text_key
from prefine.preferences.examples import EXAMPLES, ExampleSource, to_examples
from prefine.preferences.records import Dropped, PromptText, plain_text
from prefine.preferences.source import read_rows

Row = Mapping[str, Any]
REFERENCED = ("math", "reasoning", "coding")
ALPACA_COLUMNS = {"instruction", "dataset", "output", "generator"}


@dataclass(frozen=True)
class Question:
    """A prompt, and the user's later turns where the conversation goes on.

    Attributes:
        key: its published id, or a hash of its text; unique in a file.
        cluster: what it is counted with: questions that vary one theme are not independent.
        references: reference answers, one a turn, for a judge.
    """

    key: str
    prompt: PromptText
    later_turns: tuple[str, ...] = ()
    category: str = ""
    cluster: str = ""
    references: tuple[str, ...] = ()
    tools: tuple[Any, ...] | None = None
    template_kwargs: Mapping[str, Any] | None = None

    def asked(self, answers: Sequence[str]) -> PromptText:
        """The prompt of the turn after ``answers``: the conversation so far."""
        if not answers:
            return self.prompt
        assert not isinstance(self.prompt, str)
        turns = [
            m
            for answer, turn in zip(answers, self.later_turns, strict=False)
            for m in ({"role": "assistant", "content": answer}, {"role": "user", "content": turn})
        ]
        return (*self.prompt, *turns)

    def seed(self, seed: int, turn: int) -> int:
        """The seed of one turn's answer: of the run's seed and the question, not of its place."""
        return int.from_bytes(hashlib.sha256(f"{seed} {turn} {self.key}".encode()).digest()[:8], "little")


def user_turn(text: str) -> PromptText:
    """One message of the user."""
    return ({"role": "user", "content": text},)


def _mt_bench(rows: Iterable[tuple[int, Row]], source: str) -> Iterator[Question]:
    for number, row in rows:
        turns = row.get("turns")
        if not isinstance(turns, list | tuple) or not turns or not all(isinstance(t, str) and t for t in turns):
            raise DataError(f"{source}, row {number}: 'turns' should be a list of the user's turns, as text")
        category = str(row.get("category") or "")
        # MT-Bench's questions carry hints for other categories too, which its judge is not shown.
        references = row.get("reference") if not category or category in REFERENCED else None
        yield Question(
            str(row.get("question_id", number)),
            user_turn(turns[0]),
            tuple(turns[1:]),
            category,
            references=tuple(map(str, references)) if isinstance(references, list | tuple) else (),
        )


def _instructions(rows: Iterable[tuple[int, Row]], source: str) -> Iterator[Question]:
    for number, row in rows:
        text = row.get("instruction")
        if not isinstance(text, str) or not text:
            raise DataError(f"{source}, row {number}: 'instruction' should be text")
        yield Question("", user_turn(text), category=str(row.get("dataset") or ""))


def read_questions(
    source: str, reading: Reading | None = None, raw: bool = False, heard: list[dict[str, Any]] | None = None
) -> list[Question]:
    """Questions of a source, each once.

    A ``.txt`` file has one prompt a line. Prompts are asked as they are trained on: those of a list become a user's turn,
    for the chat template; text beside answers of text (``prompt`` with ``completion``, or with ``chosen``) stays text.

    Args:
        reading: how preference data is to be read; a format given there rules out the other formats.
        raw: ask prompts of a list as they stand, without the chat template.
        heard: takes what reading did, as :meth:`PairSource.summary` has it.

    Raises:
        DataError, ColumnError, MissingFile: not readable, empty, or no prompts in it.
    """
    reading = reading or Reading()
    found = list(_text(source) if source.endswith(".txt") else _rows(source, reading, heard))
    out: dict[str, Question] = {}
    for question in found:
        if raw and not isinstance(question.prompt, str) and len(question.prompt) == 1 and not question.later_turns:
            question = replace(question, prompt=str(question.prompt[0]["content"]))
        key = question.key or f"{prompt_text_key(question):016x}"
        known = out.setdefault(key, replace(question, key=key, cluster=question.cluster or key))
        if (known.prompt, known.later_turns) != (question.prompt, question.later_turns) and question.key:
            raise DataError(f"{source}: two questions have the id {key!r}")
    if not out:
        raise DataError(f"{source}: no prompts in it")
    return list(out.values())


def _text(source: str) -> Iterator[Question]:
    if not Path(source).is_file():
        raise MissingFile(f"{source}: no such file")
    try:
        lines = Path(source).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: not UTF-8 text ({error.reason} at byte {error.start}); convert it with iconv", code="PF-D06") from error
    for line in lines:
        if line.strip():
            yield Question("", user_turn(line.strip()))


def _rows(source: str, reading: Reading, heard: list[dict[str, Any]] | None) -> Iterator[Question]:
    rows = read_rows(source)
    head = list(itertools.islice(rows, 20))
    if not head:
        raise DataError(f"{source}: empty, no rows to read", code="PF-D03")
    first = head[0][1]
    whole = itertools.chain(head, rows)
    if reading.format is None and not reading.columns:
        if "turns" in first:
            return _mt_bench(whole, source)
        if "instruction" in first and first.keys() <= ALPACA_COLUMNS:
            return _instructions(whole, source)
    return _of_examples(source, reading, heard)


def _of_examples(source: str, reading: Reading, heard: list[dict[str, Any]] | None) -> Iterator[Question]:
    """Prompts as they are trained on; an answer that the data has is the reference, unless it is preference data."""
    found = ExampleSource(source, reading)
    usable = False
    for item in to_examples(found.items(source), reading):
        if isinstance(item, Dropped):
            found.dropped[item.reason].append(item.number)
            continue
        if item.prompt == "":
            raise DataError(f"{source}, row {item.row}: text alone, no prompt")
        if not isinstance(item.prompt, str) and item.answer is None and item.prompt[-1].get("role") not in ("user", "tool"):
            found.dropped["the conversation does not end with the user's turn"].append(item.row)
            continue
        usable = True
        is_reference = item.answer is not None and found.format == EXAMPLES.name
        reference = (plain_text(item.answer),) if is_reference and item.answer is not None else ()
        yield Question("", item.prompt, (), item.category, item.cluster, reference, item.tools, item.template_kwargs)
    if heard is not None:
        heard.append(found.summary())
    if not usable:
        raise DataError(f"{source}: no prompts in it ({found.reasons()})")


def with_references(questions: Sequence[Question], source: str) -> list[Question]:
    """Questions with the reference answers of MT-Bench's file, by question id; most questions have none.

    Raises:
        DataError: a row that is not such an answer, or no question has one.
    """
    answers: dict[str, tuple[str, ...]] = {}
    for number, row in read_rows(source):
        try:
            answers[str(row["question_id"])] = tuple(map(str, row["choices"][0]["turns"]))
        except (KeyError, TypeError, IndexError) as error:
            raise DataError(
                f"{source}, row {number}: expected question_id and choices[0].turns, as in MT-Bench's reference answers"
            ) from error
    if not any(q.key in answers for q in questions):
        raise DataError(f"{source}: none of its question ids is among the questions", code="PF-D04")
    return [replace(q, references=answers.get(q.key, q.references)) for q in questions]
