"""Answers on disk: our own, AlpacaEval's ``model_outputs.json``, MT-Bench's ``model_answer``; and writing them, resumably."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefine.errors import ConfigError, DataError, some
from prefine.evaluation.questions import Question, user_turn
from prefine.generation.engine import Answer, Engine, Failure, Request, Sampling
from prefine.preferences.reasoning import split_reasoning
from prefine.preferences.records import identity, plain_text
from prefine.preferences.source import read_rows
from prefine.runs import append_json, read_jsonl, write_jsonl

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Answered:
    """A question with one model's answers, one a turn.

    Attributes:
        ended, num_tokens: one a turn; empty where the file does not tell.
        repeat: how many earlier rows of the file ask the same.
    """

    question: Question
    answers: tuple[str, ...]
    ended: tuple[bool, ...] = ()
    num_tokens: tuple[int, ...] = ()
    repeat: int = 0

    @property
    def match_key(self) -> str:
        """What names the question in another file: its words, or its id where a file has no words; numbered where it is asked again."""
        asked = plain_text(self.question.prompt)
        words = "\n".join((asked, *self.question.later_turns)) if asked else self.question.key
        return f"{words}\n{_again(self.repeat)}" if self.repeat else words

    def repeated(self, times: int) -> Answered:
        """The same as the answer to a question that ``times`` earlier rows ask; counted with theirs."""
        q = self.question
        question = replace(q, key=f"{q.key} {_again(times)}", cluster=q.cluster or q.key)
        return replace(self, question=question, repeat=times)


def _again(times: int) -> str:
    return f"(asked again, {times})"


def without_reasoning(answered: Sequence[Answered]) -> list[Answered]:
    """The same with their final responses alone, for a judge."""
    return [replace(a, answers=tuple(split_reasoning(text)[1] for text in a.answers)) for a in answered]


@dataclass
class AnswerFile:
    """One model's answers; ``failures`` are rows without one, ``repeated`` counts rows that ask what an earlier one asks."""

    source: str
    model: str
    answered: list[Answered] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    repeated: int = 0


def _own(row: Row) -> Answered:
    prompt = row["prompt"]
    question = Question(
        str(row["key"]),
        prompt if isinstance(prompt, str) else _messages(prompt),
        tuple(row.get("later_turns") or ()),
        str(row.get("category") or ""),
        str(row.get("cluster") or row["key"]),
        tuple(row.get("references") or ()),
    )
    if row.get("failure"):
        return Answered(question, ())
    return Answered(question, _texts(row["answers"]), tuple(row.get("ended") or ()), tuple(row.get("num_tokens") or ()))


def _texts(answers: Any) -> tuple[str, ...]:
    """Answers up to the first that is missing."""
    if not isinstance(answers, list | tuple):
        raise TypeError("its responses are not a list")
    return tuple(map(str, itertools.takewhile(lambda text: text is not None, answers)))


def _messages(prompt: Any) -> tuple[dict[str, Any], ...]:
    if not isinstance(prompt, list | tuple) or not prompt or not all(isinstance(m, dict) for m in prompt):
        raise TypeError("its prompt is neither text nor messages")
    return tuple(prompt)


def _alpaca(row: Row) -> Answered:
    text = str(row["instruction"])
    question = Question(text, user_turn(text), category=str(row.get("dataset") or ""), cluster=" ".join(text.split()))
    return Answered(question, () if row["output"] is None else (str(row["output"]),))


def _mt_bench(row: Row) -> Answered:
    turns = row["choices"][0]["turns"]
    key, texts = str(row["question_id"]), _texts(turns)
    return Answered(Question(key, "", ("",) * (len(turns) - 1), cluster=key), texts)


FORMATS: dict[str, tuple[set[str], str, Callable[[Row], Answered]]] = {
    "prefine": ({"key", "prompt", "model"}, "model", _own),
    "alpaca_eval": ({"instruction", "output"}, "generator", _alpaca),
    "mt-bench": ({"question_id", "choices"}, "model_id", _mt_bench),
}
"""A format's telling columns, the one that names the model, and its reader."""


def is_answers(row: Row) -> bool:
    """Whether a row is an answer of one of :data:`FORMATS`."""
    return any(columns <= row.keys() for columns, _, _ in FORMATS.values())


def read_answers(source: str, questions: Sequence[Question] | None = None) -> AnswerFile:
    """Read a model's answers.

    A question that several rows ask is told apart by number, failures included, so that two files' rows are matched in order.

    Args:
        questions: supply prompts, categories and references by id or words, where the file has none.

    Raises:
        DataError: a row of none of :data:`FORMATS`, two models in a file, or no answers.
    """
    asked = {q.key: q for q in questions or ()} | {plain_text(q.prompt): q for q in questions or ()}
    out: AnswerFile | None = None
    seen: Counter[str] = Counter()
    for number, row in read_rows(source):
        format = next(((name, read) for columns, name, read in FORMATS.values() if columns <= row.keys()), None)
        if format is None:
            raise DataError(
                f"{source}, row {number}: no response of {', '.join(FORMATS)}; columns found: {some(list(map(str, row)))}", code="PF-D01"
            )
        try:
            answered = format[1](row)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise DataError(f"{source}, row {number}: not a readable response ({type(error).__name__}: {error})") from error
        model = str(row.get(format[0]) or Path(source).stem)
        out = out or AnswerFile(source, model)
        if model != out.model:
            raise DataError(f"{source}, row {number}: a response of {model}, earlier rows of {out.model}; give one file a model")
        known = asked.get(answered.question.key) or asked.get(plain_text(answered.question.prompt))
        if known is not None:
            answered = replace(answered, question=known)
        times = seen[answered.match_key]
        seen[answered.match_key] += 1
        if times:
            answered = answered.repeated(times)
            out.repeated += 1
        if answered.answers:
            out.answered.append(answered)
        else:
            out.failures.append(answered.question.key)
    if out is None or not out.answered:
        raise DataError(f"{source}: no row has a response")
    return out


def answer_row(answered: Answered, model: str, failure: str = "") -> dict[str, Any]:
    """One line of our own format."""
    q = answered.question
    row: dict[str, Any] = {"key": q.key, "model": model, "prompt": q.prompt if isinstance(q.prompt, str) else list(q.prompt)}
    for name in ("later_turns", "category", "cluster", "references"):
        value = getattr(q, name)
        if value and value != q.key:
            row[name] = list(value) if isinstance(value, tuple) else value
    row |= {"answers": list(answered.answers), "ended": list(answered.ended), "num_tokens": list(answered.num_tokens)}
    return row | ({"failure": failure} if failure else {})


def answer_questions(
    engine: Engine,
    questions: Sequence[Question],
    sampling: Sampling,
    seed: int,
    output: Path,
    model: str,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[Answered], dict[str, str]]:
    """Answer all turns of all questions into a file; returns the answered, and failures by key.

    Each turn is kept in ``OUTPUT.part`` as it comes, so that a killed command goes on where it was;
    failures are tried again. When all is done the part becomes the output, in the questions' order.

    Args:
        progress: called with the number of turns just done, those found on disk included.

    Raises:
        ConfigError: the file on disk was made with another model, other settings or other questions.
    """
    settings = _settings(engine, questions, sampling, seed, model)
    part = _Part(output, settings)
    progress(sum(len(t) for t in part.turns.values()))
    failures: dict[str, str] = {}
    for turn in range(max((1 + len(q.later_turns) for q in questions), default=0)):
        open_ones = [q for q in questions if turn <= len(q.later_turns) and q.key not in failures and turn not in part.turns[q.key]]
        requests = [Request(q.asked(part.texts(q, turn)), q.seed(seed, turn), q.tools, q.template_kwargs) for q in open_ones]
        for place, answer in engine.answers(requests, sampling) if requests else ():
            if isinstance(answer, Failure):
                failures[open_ones[place].key] = answer.reason
            else:
                part.add(open_ones[place].key, turn, answer)
            progress(1)
    done = [part.answered(q) for q in questions]
    rows = (answer_row(a, model, failures.get(a.question.key, "")) | {"settings": settings} for a in done)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_jsonl(output, rows)
    part.path.unlink(missing_ok=True)
    return [a for a in done if a.question.key not in failures], failures


class _Part:
    """Turns answered so far: from the finished file of an earlier run, and from the part of a killed one."""

    def __init__(self, output: Path, settings: dict[str, Any]) -> None:
        self.path = output.with_name(output.name + ".part")
        self.settings = settings
        self.turns: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        output.parent.mkdir(parents=True, exist_ok=True)
        for row in self._rows(output):
            for turn, text in enumerate(row["answers"]):
                self.turns[row["key"]][turn] = {"text": text, "ended": row["ended"][turn], "num_tokens": row["num_tokens"][turn]}
        kept = list(self._rows(self.path))
        for row in kept:
            self.turns[row["key"]][row["turn"]] = row
        if self.path.exists():
            write_jsonl(self.path, kept)  # without the broken line a killed writer left, which the next one would join

    def _rows(self, path: Path) -> Iterator[dict[str, Any]]:
        for row in read_jsonl(path) if path.exists() else ():
            was = row.get("settings") or {}
            if was != self.settings:
                differing = [f"{k} was {was.get(k)!r} and is now {v!r}" for k, v in self.settings.items() if was.get(k) != v]
                raise ConfigError(f"{path}: holds other responses ({'; '.join(differing)}); give another name for the output, or delete it")
            yield row

    def add(self, key: str, turn: int, answer: Answer) -> None:
        """Keep an answer."""
        row = {"key": key, "turn": turn, "text": answer.text, "ended": answer.ended, "num_tokens": answer.num_tokens}
        self.turns[key][turn] = row
        append_json(self.path, row | {"settings": self.settings})

    def texts(self, question: Question, turns: int) -> list[str]:
        """Answers before a turn."""
        return [self.turns[question.key][t]["text"] for t in range(turns)]

    def answered(self, question: Question) -> Answered:
        """All of a question's turns that are there."""
        turns = [self.turns[question.key][t] for t in sorted(self.turns[question.key])]
        texts, ended, tokens = (tuple(t[name] for t in turns) for name in ("text", "ended", "num_tokens"))
        return Answered(question, texts, ended, tokens)


def _settings(engine: Engine, questions: Sequence[Question], sampling: Sampling, seed: int, model: str) -> dict[str, Any]:
    """What decides the answers."""
    asked = [(q.key, identity(q.prompt), q.later_turns, q.tools, *([q.template_kwargs] if q.template_kwargs else [])) for q in questions]
    whole = json.dumps(asked, sort_keys=True, default=str).encode("utf-8", "surrogatepass")
    prompts = f"{len(questions)} ({hashlib.sha256(whole).hexdigest()[:12]})"
    encoder = getattr(engine, "encoder", None)
    kwargs = {} if encoder is None else encoder.renderer.template_kwargs
    beside = {"chat_template_kwargs": kwargs} if kwargs else {}
    return {"model": model, "engine": engine.name, **vars(sampling), "seed": seed, "prompts": prompts} | beside
