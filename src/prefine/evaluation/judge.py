"""Judges: who says which of two answers is better.

Most judges score an answer by itself (:class:`Scorer`); :class:`ByScore` makes a judge of any of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from prefine.evaluation.answers import Answered, AnswerFile, without_reasoning
from prefine.evaluation.questions import Question
from prefine.evaluation.style import style_of
from prefine.evaluation.verdict_files import Judged
from prefine.preferences.reasoning import split_reasoning
from prefine.preferences.records import PromptText, plain_text
from prefine.scoring.score_function import calls_by, scores_or_reasons, where_raised

TIE = 1e-9
"""Scores that differ by less are a tie."""


@dataclass(frozen=True)
class Comparison:
    """Two models' answers to one question, up to the turn that is judged: the last of each.

    ``ended`` says whether base and tuned ended by themselves, where it is known. ``repeat`` is the answers'. ``reasoning`` is what precedes
    the last of each, which is no part of what is judged; None where there is none. ``whole`` is both with it.
    """

    question: Question
    base: tuple[str, ...]
    tuned: tuple[str, ...]
    ended: tuple[bool | None, bool | None] = (None, None)
    repeat: int = 0
    reasoning: tuple[str | None, str | None] = (None, None)
    whole: tuple[tuple[str, ...], tuple[str, ...]] | None = None

    @property
    def sides(self) -> tuple[Answered, Answered]:
        """Base and tuned as answers to the question."""
        return self._sides(self.base, self.tuned)

    @property
    def whole_sides(self) -> tuple[Answered, Answered]:
        """The same with their reasoning, as they were sampled."""
        return self._sides(*(self.whole or (self.base, self.tuned)))

    def _sides(self, base: tuple[str, ...], tuned: tuple[str, ...]) -> tuple[Answered, Answered]:
        ended = [() if e is None else (e,) * len(self.base) for e in self.ended]
        return Answered(self.question, base, ended[0]), Answered(self.question, tuned, ended[1])

    @property
    def is_unanswered(self) -> bool:
        """Whether both responses end within their reasoning, so that there is nothing to compare."""
        return all(thought is not None and not side[-1] for thought, side in zip(self.reasoning, (self.base, self.tuned), strict=True))

    @property
    def turn(self) -> int:
        """The turn that is judged, from 1."""
        return len(self.base)

    @property
    def prompt(self) -> PromptText:
        """What was asked in the judged turn, as the base's conversation has it."""
        return self.question.asked(self.base[:-1])


@dataclass(frozen=True)
class Vote:
    """One verdict on a comparison.

    Attributes:
        win: how far the tuned answer wins, 1 to 0, 0.5 a tie; None where the judge gave none.
        order: ``base first`` or ``model first`` where the judge saw an order.
        raw: what the judge said, every attempt; the last counts.
        failure: why there is no verdict.
        scores: of base and tuned, where the judge scores them.
        asked: whether the judge was asked at all: equal answers are a tie by themselves.
    """

    win: float | None
    order: str = ""
    raw: tuple[str, ...] = ()
    failure: str = ""
    scores: tuple[float, float] | None = None
    asked: bool = True


class Judge(Protocol):
    """Says which answer is better."""

    name: str

    def judge(self, comparisons: Sequence[Comparison]) -> Iterator[tuple[int, Vote]]:
        """Each comparison's place with a vote, as they come; a judge that looks at both orders votes twice."""
        ...


@dataclass(frozen=True)
class Score:
    """An answer's score, higher is better; None with the reason where there is none."""

    value: float | None
    raw: tuple[str, ...] = ()
    failure: str = ""


class Scorer(Protocol):
    """Scores answers one by one."""

    name: str

    def score(self, answered: Sequence[Answered]) -> Iterator[tuple[int, Score]]:
        """Each answer's place with its score, as they come; what is scored is its last turn."""
        ...


class ByScore:
    """A judge that scores both answers; the higher wins."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.name = scorer.name

    def message_rewards(self, prompts: Sequence[PromptText], answers: Sequence[str]) -> list[float | None]:
        """A score for each answer, None where there is none: a judge as a reward (:class:`prefine.scoring.roles.MessageReward`)."""
        asked = [Answered(Question(str(i), p), (a,)) for i, (p, a) in enumerate(zip(prompts, answers, strict=True))]
        found = dict(self.scorer.score(without_reasoning(asked)))
        return [found[i].value for i in range(len(asked))]

    def judge(self, comparisons: Sequence[Comparison]) -> Iterator[tuple[int, Vote]]:
        """One vote a comparison, once both its answers are scored."""
        whole = getattr(self.scorer, "reads_reasoning", False)
        sides = [a for c in comparisons for a in (c.whole_sides if whole else c.sides)]
        scores: dict[int, Score] = {}
        for at, score in self.scorer.score(sides):
            scores[at] = score
            place = at // 2
            if 2 * place in scores and 2 * place + 1 in scores:
                base, tuned = sides[2 * place], sides[2 * place + 1]
                is_same = (base.answers, base.ended) == (tuned.answers, tuned.ended)
                yield place, vote_by_score(scores.pop(2 * place), scores.pop(2 * place + 1), is_same)


def vote_by_score(base: Score, tuned: Score, is_same: bool = False) -> Vote:
    """The higher score wins; equal to 1e-9 is a tie, and so is one response twice: where its scores differ, that is rounding or noise."""
    raw = (*base.raw, *tuned.raw)
    if base.value is None or tuned.value is None:
        return Vote(None, raw=raw, failure=base.failure or tuned.failure)
    is_tie = is_same or abs(tuned.value - base.value) < TIE
    return Vote(0.5 if is_tie else float(tuned.value > base.value), raw=raw, scores=(base.value, tuned.value))


class FunctionScorer:
    """Scores by a function of the question with its answers up to the scored turn; one that raises or gives NaN is a counted failure."""

    def __init__(self, name: str, function: Callable[[Answered], float]) -> None:
        self.name = name
        self.function = function

    def score(self, answered: Sequence[Answered]) -> Iterator[tuple[int, Score]]:
        """In order."""
        for place, one in enumerate(answered):
            try:
                value = float(self.function(one))
            except Exception as error:  # the user's code: whatever it raises is a failure of this answer alone
                yield place, Score(None, failure=where_raised(error))
                continue
            yield place, Score(value) if math.isfinite(value) else Score(None, failure=f"the score is {value}")


class TextFunctionScorer:
    """Scores by a user's function of texts; a response on which it raises or gives no number is a counted failure.

    Args:
        function: of one prompt and response, of lists of both, or of TRL's kind, as its parameters' names say
            (:func:`prefine.scoring.score_function.calls_by`); where they do not, of one.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self.function = name, function

    def score(self, answered: Sequence[Answered]) -> Iterator[tuple[int, Score]]:
        """In order."""
        kind = calls_by(self.function, "one")
        asked = [a.question.asked(a.answers[:-1]) for a in answered]
        prompts: list[Any] = [plain_text(p) for p in asked]
        responses: list[Any] = [a.answers[-1] for a in answered]
        if kind == "trl":  # messages where the prompt is, as TRL gives them
            prompts = [p if isinstance(p, str) else list(p) for p in asked]
            responses = [r if isinstance(p, str) else [{"role": "assistant", "content": r}] for p, r in zip(asked, responses, strict=True)]
        for place, (value, failure) in enumerate(scores_or_reasons(self.function, prompts, responses, kind)):
            if failure or value is None or not math.isfinite(value):
                yield place, Score(None, failure=failure or f"the score is {value}")
            else:
                yield place, Score(value)


def matches_reference(answered: Answered) -> float:
    """1 where the last answer is the reference answer, case and white space aside.

    Raises:
        ValueError: the question has no reference for this turn.
    """
    references, turn = answered.question.references, len(answered.answers)
    if len(references) < turn:
        raise ValueError("the question has no reference answer (--questions with responses, or --references)")
    return float(_plain(answered.answers[-1]) == _plain(references[turn - 1]))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


@dataclass
class FakeJudge:
    """A judge for tests: prefers by a rule, favours the first position or fails as told.

    Args:
        wins: how far the tuned answer wins.
        first_bonus: probability-free bias: of every ``first_bonus`` comparisons, one goes to the answer shown first.
        fails: of every ``fails`` comparisons, one has no verdict.
    """

    wins: Callable[[Comparison], float] = lambda c: (
        0.5 if len(c.tuned[-1]) == len(c.base[-1]) else float(len(c.tuned[-1]) > len(c.base[-1]))
    )
    first_bonus: int = 0
    fails: int = 0
    name: str = field(default="fake")

    def judge(self, comparisons: Sequence[Comparison]) -> Iterator[tuple[int, Vote]]:
        """Two votes a comparison, one an order."""
        for place, c in enumerate(comparisons):
            for order in ("base first", "model first"):
                if self.fails and place % self.fails == 0:
                    yield place, Vote(None, order, failure="told to fail")
                elif self.first_bonus and place % self.first_bonus == 0:
                    yield place, Vote(float(order == "model first"), order)
                else:
                    yield place, Vote(self.wins(c), order)


class HumanJudge:
    """Verdicts that people gave; a comparison nobody judged is a failure.

    Args:
        verdicts: how far the tuned answer wins, by :func:`item_of` or another of a comparison's names.
    """

    name = "human"

    def __init__(self, verdicts: Sequence[Judged]) -> None:
        self.verdicts: dict[str, list[float]] = {}
        for j in verdicts:
            self.verdicts.setdefault(j.item, []).append(j.win)

    def judge(self, comparisons: Sequence[Comparison]) -> Iterator[tuple[int, Vote]]:
        """One vote a person."""
        for place, c in enumerate(comparisons):
            given = next((self.verdicts[name] for name in items_of(c) if name in self.verdicts), [])
            yield from ((place, Vote(win)) for win in given)
            if not given:
                yield place, Vote(None, failure="nobody judged it")


def item_of(comparison: Comparison) -> str:
    """What names a comparison in files of verdicts: the question's words, and the turn where there are several."""
    words = Answered(comparison.question, comparison.base, repeat=comparison.repeat).match_key
    return f"{words}\nturn {comparison.turn}" if comparison.question.later_turns else words


def items_of(comparison: Comparison) -> tuple[str, ...]:
    """All names a comparison goes by in files of verdicts: its words, and the ids of MT-Bench's and Arena-Hard's judgments."""
    key = comparison.question.key
    return (item_of(comparison), f"{key} turn {comparison.turn}", key)


def compare(base: AnswerFile, tuned: AnswerFile, name: Callable[[Answered], str] = lambda a: a.match_key) -> tuple[list[Comparison], int]:
    """Comparisons of two files' answers, matched by question, a comparison a turn; and how many questions only one file has.

    Of a model that thinks the final response alone is compared.

    Args:
        name: what names a question in both, each once.
    """
    ours = {name(a): a for a in tuned.answered}
    assert len(ours) == len(tuned.answered), "a question is named twice"
    out = []
    both = 0
    for a in base.answered:
        b = ours.get(name(a))
        if b is None:
            continue
        both += 1
        for turn in range(1, 1 + min(len(a.answers), len(b.answers))):
            ended = tuple(side.ended[turn - 1] if len(side.ended) >= turn else None for side in (a, b))
            whole = (a.answers[:turn], b.answers[:turn])
            parts = [[split_reasoning(text) for text in side] for side in whole]
            finals = [tuple(final for _, final in part) for part in parts]
            reasoning = (parts[0][-1][0], parts[1][-1][0])
            out.append(Comparison(a.question, finals[0], finals[1], (ended[0], ended[1]), a.repeat, reasoning, whole))
    return out, len(base.answered) + len(tuned.answered) - 2 * both


def verdict_row(comparison: Comparison, vote: Vote, models: tuple[str, str], judge: str) -> dict[str, Any]:
    """A line of ``verdicts.jsonl``, as :func:`prefine.evaluation.verdict_files.read_verdicts` reads it."""
    q = comparison.question
    row: dict[str, Any] = {
        "key": q.key,
        "item": item_of(comparison),
        "cluster": q.cluster or q.key,
        "base": models[0],
        "tuned": models[1],
        "judge": judge,
        "tuned_wins": vote.win,
        "lengths": [len(comparison.base[-1]), len(comparison.tuned[-1])],
        "style": [list(style_of(comparison.base[-1])), list(style_of(comparison.tuned[-1]))],
    }
    for name, value in (
        ("category", q.category),
        ("order", vote.order),
        ("failure", vote.failure),
        ("raw", list(vote.raw)),
        ("scores", vote.scores),
    ):
        if value:
            row[name] = value
    if not vote.asked:
        row["asked"] = False
    return row | ({"turn": comparison.turn} if q.later_turns else {})
