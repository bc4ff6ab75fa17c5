"""Verdicts on disk, from any judge: AlpacaEval's annotations, Arena-Hard's and MT-Bench's judgments, and our own.

Each becomes a list of :class:`Judged`. A verdict that is not there is counted as a failure, never as a tie, and the one in the
other order is left out with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from prefine.errors import DataError, some
from prefine.evaluation.style import NAMES, Style, style_of
from prefine.preferences.source import read_rows

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Judged:
    """One judged prompt: how far the second model wins over the first, 0 to 1.

    ``item`` names the prompt, by its text where there is one, so that two files are matched by it and not by place.
    ``asked`` is False where the judge was not: two equal answers. ``style`` counts both answers' headings, lists and the like.
    ``weight``: votes that it counts for. ``alone``: the verdict in the other order failed, which would have made good for the
    judge's leaning to what it sees first.
    """

    item: str
    win: float
    cluster: str
    lengths: tuple[int, int] | None = None
    order: str = ""
    category: str = ""
    asked: bool = True
    style: tuple[Style, Style] | None = None
    weight: int = 1
    alone: bool = False


@dataclass(frozen=True)
class OtherCount:
    """How the project that a file is from counts it, or another way that may be expected; in words that hold the rate too."""

    words: str
    win_rate: float


@dataclass
class VerdictFile:
    """The verdicts of a file.

    Attributes:
        models: (baseline, model).
        failures: row numbers without a usable verdict.
        failed_votes: verdicts that were asked for and are not there.
        unread: verdicts beyond those that the format knows.
        judge: who judged, where our own files say.
    """

    source: str
    format: str
    models: tuple[str, str]
    judged: list[Judged] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    failed_votes: int = 0
    unread: int = 0
    judge: str = ""

    @property
    def counted(self) -> list[Judged]:
        """All but verdicts in one order whose other order failed."""
        return [j for j in self.judged if not j.alone]

    @property
    def votes(self) -> list[Judged]:
        """What is counted, each as often as it weighs."""
        return [j for j in self.counted for _ in range(j.weight)]

    @property
    def failed_share(self) -> float:
        """Share of the verdicts asked for that are not there."""
        asked = self.failed_votes + sum(j.asked for j in self.judged)
        return self.failed_votes / asked if asked else 0.0


def alpaca_preference(raw: Any) -> float | None:
    """AlpacaEval's preference, 1 (the baseline wins) to 2, of a number or its text; 0 is its older files' draw. None: it is none."""
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        return None
    try:
        value = float(raw)
    except ValueError:
        return None
    value = value or 1.5
    return value if 1 <= value <= 2 else None


def _alpaca(row: Row) -> list[Judged]:
    preference = alpaca_preference(row["preference"])
    if preference is None:
        return []
    lengths = (len(str(row["output_1"])), len(str(row["output_2"]))) if "output_1" in row and "output_2" in row else None
    text = str(row["instruction"])
    style = (style_of(str(row["output_1"])), style_of(str(row["output_2"]))) if lengths else None
    return [Judged(text, preference - 1, " ".join(text.split()), lengths, category=str(row.get("dataset") or ""), style=style)]


GAMES = 2
"""Verdicts of a prompt in Arena-Hard and MT-Bench: the baseline is shown first, then the model."""
ARENA_HARD = {
    **{"A>>B": (1.0, 3), "A>B": (1.0, 1), "A=B": (0.5, 1), "B>A": (0.0, 1), "B>>A": (0.0, 3)},
    **{"B<<A": (1.0, 3), "B<A": (1.0, 1), "B=A": (0.5, 1), "A<B": (0.0, 1), "A<<B": (0.0, 3)},
}
"""How far the answer shown first wins, and for how many votes: those of Arena-Hard's ``show_result.py``."""


def _arena_hard(row: Row) -> list[Judged]:
    item = str(row["question_id"] if "question_id" in row else row["uid"])
    out = []
    for order, game in zip(("base first", "model first"), row["games"] or (), strict=False):
        score = (game or {}).get("score")
        if score in ARENA_HARD:
            first, weight = ARENA_HARD[score]
            out.append(Judged(item, 1 - first if order == "base first" else first, item, order=order, weight=weight))
    return out


def _mt_bench(row: Row) -> list[Judged]:
    turn = f"turn {row.get('turn', 1)}"
    item = f"{row['question_id']} {turn}"
    out: list[Judged] = []
    if -1 in (row.get("m1_score"), row.get("m2_score")):
        return out  # a pair made of two single ratings, one of which FastChat did not find in the judge's words
    for key, order in (("g1_winner", "base first"), ("g2_winner", "model first")):
        winner = row.get(key)
        if winner in ("model_1", "model_2", "tie"):
            out.append(
                Judged(item, {"model_1": 0.0, "tie": 0.5, "model_2": 1.0}[str(winner)], str(row["question_id"]), order=order, category=turn)
            )
    return out


def _item_of(row: Row) -> str:
    item = next((str(row[k]) for k in ("item", "prompt", "row", "cluster") if row.get(k) is not None), None)
    if item is None:
        raise ValueError("nothing names its prompt: item, prompt, row or cluster")
    return item


def _own(row: Row) -> list[Judged]:
    win = row["tuned_wins"]
    if win is None:
        return []
    if isinstance(win, bool) or not isinstance(win, int | float) or not 0 <= win <= 1:
        raise ValueError(f"tuned_wins is {win!r}, expected 0 to 1")
    item = _item_of(row)
    lengths = row.get("lengths")
    if lengths is not None and (not isinstance(lengths, list | tuple) or len(lengths) != 2):
        raise ValueError("lengths should be two numbers")
    category = ", ".join(str(part) for part in (row.get("category"), f"turn {row['turn']}" if "turn" in row else "") if part)
    cluster = item if row.get("cluster") is None else str(row["cluster"])
    sizes = None if lengths is None else (int(lengths[0]), int(lengths[1]))
    asked = row.get("asked", True) is not False
    return [Judged(item, float(win), cluster, sizes, str(row.get("order", "")), category, asked, _style(row.get("style")))]


def _style(counts: Any) -> tuple[Style, Style] | None:
    if counts is None:
        return None
    if len(counts) != 2 or any(len(side) != len(NAMES) for side in counts):
        raise ValueError(f"style should be two lists of {len(NAMES)} counts")
    base, tuned = ((int(a), int(b), int(c), int(d), int(e)) for a, b, c, d, e in counts)
    return base, tuned


FORMATS: dict[str, tuple[Callable[[Row], bool], Callable[[Row], list[Judged]], Callable[[Row], tuple[str, str]]]] = {
    "alpaca_eval": (
        lambda r: {"preference", "instruction"} <= r.keys(),
        _alpaca,
        lambda r: (str(r.get("generator_1", "baseline")), str(r.get("generator_2", "model"))),
    ),
    "arena-hard": (
        lambda r: "games" in r and isinstance(r["games"], list | None),
        _arena_hard,
        lambda r: ("baseline", str(r.get("model", "model"))),
    ),
    "mt-bench": (lambda r: {"g1_winner", "model_1", "model_2"} <= r.keys(), _mt_bench, lambda r: (str(r["model_1"]), str(r["model_2"]))),
    "prefine": (lambda r: "tuned_wins" in r, _own, lambda r: (str(r.get("base", "base")), str(r.get("tuned", "tuned")))),
}


IN_GAMES = ("arena-hard", "mt-bench")
"""Formats with :data:`GAMES` verdicts a row; the others have one."""


def read_verdicts(source: str) -> VerdictFile:
    """Read verdicts of any of :data:`FORMATS`.

    Raises:
        DataError: no format fits, rows differ in format or models, or no row has a verdict.
    """
    return verdicts_of(read_rows(source), source)


def is_verdicts(row: Row) -> bool:
    """Whether a row is a verdict of one of :data:`FORMATS`."""
    return any(sniff(row) for sniff, _, _ in FORMATS.values())


def verdicts_of(rows: Iterable[tuple[int, Row]], source: str) -> VerdictFile:
    """:func:`read_verdicts` of rows in memory, with their numbers."""
    out: VerdictFile | None = None
    halved: set[str] = set()
    for number, row in rows:
        format = next((name for name, (sniff, _, _) in FORMATS.items() if sniff(row)), None)
        if format is None:
            raise DataError(
                f"{source}, row {number}: no verdicts of {', '.join(FORMATS)}; columns found: {some(list(map(str, row)))}", code="PF-D01"
            )
        _, read, models = FORMATS[format]
        if out is None:
            out = VerdictFile(source, format, models(row), judge=str(row.get("judge") or "") if format == "prefine" else "")
        if (format, models(row)) != (out.format, out.models):
            raise DataError(f"{source}, row {number}: judges {' against '.join(models(row))}, earlier rows {' against '.join(out.models)}")
        try:
            judged = read(row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{source}, row {number}: not a readable verdict ({type(error).__name__}: {error})") from error
        missing = (GAMES if format in IN_GAMES else 1) - len(judged)
        out.failed_votes += missing
        if missing and format in IN_GAMES:
            judged = [replace(j, alone=True) for j in judged]
        elif missing and row.get("order"):
            halved.add(_item_of(row))  # our own rows hold an order each: the other one is on a row of its own
        out.unread += max(0, len(row.get("games") or ()) - GAMES) if format == "arena-hard" else 0
        if not judged:
            out.failures.append(number)
        out.judged += judged
    if out is not None:
        out.judged = [replace(j, alone=True) if j.order and j.item in halved else j for j in out.judged]
    if out is None or not out.judged:
        expected = (
            "; AlpacaEval's preference is a number from 1 to 2, or 0 for a draw" if out is not None and out.format == "alpaca_eval" else ""
        )
        raise DataError(f"{source}: no row has a verdict{expected}")
    if not out.counted:
        raise DataError(f"{source}: no prompt has a verdict in both orders, and one alone would lean to what the judge sees first")
    return out


def other_count(file: VerdictFile) -> OtherCount | None:
    """Another count of the same verdicts, where the format's project has rules of its own.

    Arena-Hard's weight of ``>>`` is taken over: told is the rate without it. FastChat takes two games that disagree for a tie,
    a tie and a win too, which here are half a point and a whole one.
    """
    judged = file.counted
    if file.format == "arena-hard":
        heavy = sum(j.weight > 1 for j in judged)
        rate = sum(j.win for j in judged) / len(judged)
        words = f"{heavy} of {len(judged)} verdicts are >> and weigh three, as in Arena-Hard's show_result; weighed once {_percent(rate)}"
        more = f"; {file.unread} games beyond a prompt's second are not read, as there" if file.unread else ""
        return OtherCount(words + more, rate) if heavy or more else None
    if file.format != "mt-bench":
        return None
    pairs = [a.win if a.win == b.win else 0.5 for a, b in zip(judged[::GAMES], judged[1::GAMES], strict=True)]
    won, lost = pairs.count(1.0), pairs.count(0.0)
    rate = sum(pairs) / len(pairs)
    here = sum(j.win for j in judged) / len(judged)
    words = (
        f"FastChat's show_result takes two games that disagree for a tie: {won} wins, {lost} losses, {len(pairs) - won - lost} ties, "
        f"adjusted win rate {_percent(rate)}; here each game counts" + ("" if math.isclose(rate, here) else f", hence {_percent(here)}")
    )
    return OtherCount(words, rate)


def _percent(rate: float) -> str:
    return f"{100 * rate:.1f} %"


def match(first: Sequence[Judged], second: Sequence[Judged]) -> tuple[list[float], list[float], list[str], int]:
    """Two files' wins on the items both have, matched by item; clusters; how many items only one of them has."""

    def by_item(judged: Sequence[Judged]) -> dict[str, list[float]]:
        out: dict[str, list[float]] = {}
        for j in judged:
            out.setdefault(j.item, []).extend([j.win] * j.weight)
        return out

    a, b = by_item(first), by_item(second)
    both = [item for item in a if item in b]
    means = [[sum(side[item]) / len(side[item]) for item in both] for side in (a, b)]
    clusters = {j.item: j.cluster for j in first}
    return means[0], means[1], [clusters[i] for i in both], len(a) + len(b) - 2 * len(both)
