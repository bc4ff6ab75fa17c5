"""``prefine data filter``: without rows that a check of the audit finds."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefine.audit.check import ROW_CHECKS
from prefine.audit.row_checks import flags
from prefine.cli.data.reading import read_options
from prefine.cli.data.select import SelectOptions, select
from prefine.errors import ConfigError, nearest
from prefine.preferences.convert import answers_of
from prefine.preferences.records import Pair, Record, plain_text

NAMES = [check.name for check in ROW_CHECKS]


@dataclass
class FilterOptions(SelectOptions):
    """Options of ``prefine data filter``."""

    drop: list[str] | None = field(default=None, metadata={"help": f"Checks whose rows go: {', '.join(NAMES)}."})
    min_score_gap: float | None = field(default=None, metadata={"help": "Least difference of a pair's scores; pairs without scores go."})
    min_words: int | None = field(default=None, metadata={"help": "Fewest words of an answer."})
    max_words: int | None = field(default=None, metadata={"help": "Most words of an answer."})


def main(argv: list[str]) -> int:
    """Keep the rows that pass."""
    given = read_options(FilterOptions, "filter", "Leaves out rows that a check of the audit finds, or by score and length.", argv)
    if given is None:
        return 0
    names = set(given.drop or [])
    for name in names - set(NAMES):
        raise ConfigError(f"--drop {name}: no such check of one row{nearest(name, NAMES)} Checks: {', '.join(NAMES)}")
    if not names and given.min_score_gap is None and given.min_words is None and given.max_words is None:
        raise ConfigError("data filter has nothing to do: give --drop, --min-score-gap, --min-words or --max-words")
    return select(given, "filter", lambda record: _reason(record, given, names))


def _reason(record: Record, given: FilterOptions, names: set[str]) -> str | None:
    found = next((f for f in flags(record) if f in names), None) if names else None
    if found is not None:
        return found
    if given.min_score_gap is not None:
        if not isinstance(record, Pair) or record.scores is None:
            return "no scores"
        if record.scores[0] - record.scores[1] < given.min_score_gap:
            return "scores too close"
    sizes = [len(plain_text(a).split()) for a in answers_of(record)]
    if given.min_words is not None and min(sizes) < given.min_words:
        return "answer too short"
    return "answer too long" if given.max_words is not None and max(sizes) > given.max_words else None
