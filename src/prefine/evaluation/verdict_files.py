"""Verdicts on disk, from any judge: AlpacaEval's annotations, Arena-Hard's and MT-Bench's judgments, and our own.

Each becomes a list of :class:`Judged`. A row without a verdict is counted as a failure, never as a tie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefine.errors import DataError
from prefine.evaluation.style import NAMES, Style, style_of
from prefine.preferences.source import read_rows

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Judged:
    """One judged prompt: how far the second model wins over the first, 0 to 1.

    ``item`` names the prompt, by its text where there is one, so that two files are matched by it and not by place.
    ``asked`` is False where the judge was not: two equal answers. ``style`` counts both answers' headings, lists and the like.
    """

    item: str
    win: float
    cluster: str
    lengths: tuple[int, int] | None = None
    order: str = ""
    category: str = ""
    asked: bool = True
    style: tuple[Style, Style] | None = None


@dataclass
class VerdictFile:
    """The verdicts of a file.

    Attributes:
        models: (baseline, model).
        failures: row numbers without a usable verdict.
        failed_votes: verdicts that were asked for and are not there.
        judge: who judged, where our own files say.
        lone: items some of whose verdicts are not there.
    """

    source: str
    form: str
    models: tuple[str, str]
    judged: list[Judged] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    failed_votes: int = 0
    judge: str = ""
    lone: set[str] = field(default_factory=set)

    @property
    def counted(self) -> list[Judged]:
        """All but verdicts in one order whose other order failed.

        The missing one would have made good for the judge's
        leaning to what it sees first.
        """
        return [j for j in self.judged if not j.order or j.item not in self.lone]

    @property
    def failed_share(self) -> float:
        """Share of the verdicts asked for that are not there."""
        asked = self.failed_votes + sum(j.asked for j in self.judged)
        return self.failed_votes / asked if asked else 0.0


def _alpaca(row: Row) -> list[Judged]:
    raw = row["preference"]
    if raw == 0 and not isinstance(raw, bool):
        raw = 1.5  # how that project's older files write a draw
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw) or not 1 <= raw <= 2:
        return []
    lengths = (len(str(row["output_1"])), len(str(row["output_2"]))) if "output_1" in row and "output_2" in row else None
    text = str(row["instruction"])
    style = (style_of(str(row["output_1"])), style_of(str(row["output_2"]))) if lengths else None
    return [Judged(text, raw - 1, text, lengths, category=str(row.get("dataset") or ""), style=style)]


ARENA_HARD = {"A>>B": 1.0, "A>B": 1.0, "A=B": 0.5, "B>A": 0.0, "B>>A": 0.0}
"""How far the answer shown first wins. Arena-Hard gives ``>>`` three votes; here a verdict is a verdict."""


def _arena_hard(row: Row) -> list[Judged]:
    item = str(row.get("question_id", row.get("uid")))
    out = []
    for place, game in enumerate(row["games"]):
        score = (game or {}).get("score")
        if score in ARENA_HARD:
            # In the first game the baseline is shown first, in the second the model.
            first = ARENA_HARD[score]
            out.append(Judged(item, 1 - first if place == 0 else first, item, order="base first" if place == 0 else "model first"))
    return out


def _mt_bench(row: Row) -> list[Judged]:
    turn = f"turn {row.get('turn', 1)}"
    item = f"{row['question_id']} {turn}"
    out = []
    for key, order in (("g1_winner", "base first"), ("g2_winner", "model first")):
        winner = row.get(key)
        if winner in ("model_1", "model_2", "tie"):
            out.append(
                Judged(item, {"model_1": 0.0, "tie": 0.5, "model_2": 1.0}[str(winner)], str(row["question_id"]), order=order, category=turn)
            )
    return out


def _own(row: Row) -> list[Judged]:
    win = row["tuned_wins"]
    if win is None:
        return []
    if isinstance(win, bool) or not isinstance(win, int | float) or not 0 <= win <= 1:
        raise ValueError(f"tuned_wins is {win!r}, expected 0 to 1")
    item = next((str(row[k]) for k in ("item", "prompt", "row", "cluster") if row.get(k) is not None), None)
    if item is None:
        raise ValueError("nothing names its prompt: item, prompt, row or cluster")
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


def _asked_of_arena_hard(row: Row) -> int:
    return len(row["games"])


def _asked_of_mt_bench(row: Row) -> int:
    return sum(key in row for key in ("g1_winner", "g2_winner"))


FORMS: dict[str, tuple[Callable[[Row], bool], Callable[[Row], list[Judged]], Callable[[Row], tuple[str, str]]]] = {
    "alpaca_eval": (
        lambda r: {"preference", "instruction"} <= r.keys(),
        _alpaca,
        lambda r: (str(r.get("generator_1", "baseline")), str(r.get("generator_2", "model"))),
    ),
    "arena-hard": (lambda r: isinstance(r.get("games"), list), _arena_hard, lambda r: ("baseline", str(r.get("model", "model")))),
    "mt-bench": (lambda r: {"g1_winner", "model_1", "model_2"} <= r.keys(), _mt_bench, lambda r: (str(r["model_1"]), str(r["model_2"]))),
    "prefine": (lambda r: "tuned_wins" in r, _own, lambda r: (str(r.get("base", "base")), str(r.get("tuned", "tuned")))),
}


ASKED: dict[str, Callable[[Row], int]] = {"arena-hard": _asked_of_arena_hard, "mt-bench": _asked_of_mt_bench}
"""How many verdicts a row was to hold; 1 for the other forms."""


def read_verdicts(source: str) -> VerdictFile:
    """Read verdicts of any of :data:`FORMS`.

    Raises:
        DataError: no form fits, rows differ in form or models, or no row has a verdict.
    """
    return verdicts_of(read_rows(source), source)


def is_verdicts(row: Row) -> bool:
    """Whether a row is a verdict of one of :data:`FORMS`."""
    return any(sniff(row) for sniff, _, _ in FORMS.values())


def verdicts_of(rows: Iterable[tuple[int, Row]], source: str) -> VerdictFile:
    """:func:`read_verdicts` of rows in memory, with their numbers."""
    out: VerdictFile | None = None
    for number, row in rows:
        form = next((name for name, (sniff, _, _) in FORMS.items() if sniff(row)), None)
        if form is None:
            raise DataError(f"{source}, row {number}: no verdicts of {', '.join(FORMS)}; columns found: {', '.join(map(str, row))}")
        _, read, models = FORMS[form]
        if out is None:
            out = VerdictFile(source, form, models(row), judge=str(row.get("judge") or "") if form == "prefine" else "")
        if (form, models(row)) != (out.form, out.models):
            raise DataError(f"{source}, row {number}: judges {' against '.join(models(row))}, earlier rows {' against '.join(out.models)}")
        try:
            judged = read(row)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{source}, row {number}: not a readable verdict ({type(error).__name__}: {error})") from error
        missing = (ASKED[form](row) if form in ASKED else 1) - len(judged)
        out.failed_votes += missing
        if missing:
            # Our own rows hold an order each: the other one is on a row of its own.
            out.lone |= {j.item for j in judged} or ({str(row.get("item"))} if row.get("order") else set())
        if not judged:
            out.failures.append(number)
        out.judged += judged
    if out is None or not out.judged:
        expected = (
            "; AlpacaEval's preference is a number from 1 to 2, or 0 for a draw" if out is not None and out.form == "alpaca_eval" else ""
        )
        raise DataError(f"{source}: no row has a verdict{expected}")
    if not out.counted:
        raise DataError(f"{source}: no prompt has a verdict in both orders, and one alone would lean to what the judge sees first")
    return out


def match(first: Sequence[Judged], second: Sequence[Judged]) -> tuple[list[float], list[float], list[str], int]:
    """Two files' wins on the items both have, matched by item; clusters; how many items only one of them has."""

    def by_item(judged: Sequence[Judged]) -> dict[str, list[float]]:
        out: dict[str, list[float]] = {}
        for j in judged:
            out.setdefault(j.item, []).append(j.win)
        return out

    a, b = by_item(first), by_item(second)
    both = [item for item in a if item in b]
    means = [[sum(side[item]) / len(side[item]) for item in both] for side in (a, b)]
    clusters = {j.item: j.cluster for j in first}
    return means[0], means[1], [clusters[i] for i in both], len(a) + len(b) - 2 * len(both)
