"""Rows of a source that pass a test, into a file; the others, each with its reason, into another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefine.api.reading import SourceOptions, reading_lines
from prefine.api.sieve import Sieve
from prefine.api.tables import Shows
from prefine.errors import ConfigError, DataError
from prefine.preferences.convert import PairSource, as_pairs, canonical
from prefine.preferences.records import Dropped, Example, Labelled, Pair


@dataclass
class SelectOptions(SourceOptions):
    """Where the kept rows go, and the others."""

    output: str = field(default="", metadata={"help": "File to write: .jsonl, .jsonl.gz or .parquet (also as the last word)."})
    rejected: str | None = field(default=None, metadata={"help": "File for the rows that are left out, each with its reason."})


@dataclass(repr=False)
class Written(Shows):
    """What was written: the files, how many rows, how many were left out by reason."""

    files: Sequence[Path]
    rows: int
    dropped: Mapping[str, int]
    lines: Sequence[str]

    def parts(self) -> list[Any]:
        """What there is to see."""
        return [*self.lines]


def select(given: SelectOptions, command: str, reason: Callable[[Pair | Labelled], str | None]) -> Written:
    """Write the records for which ``reason`` is None; count the others under what it says. Ranked responses become pairs first."""
    settle_output(given, command)
    source = given.pairs()
    with Sieve(given.output, given.rejected) as sieve:
        for item in as_pairs(source.records(), source.reading):
            if isinstance(item, Dropped):
                sieve.drop(item)
                continue
            assert not isinstance(item, Example)  # the command reads preference data
            why = reason(item)
            if why is None:
                sieve.keep(canonical(item))
            else:
                sieve.drop(Dropped(item.row, why, canonical(item)))
        check_some_left(source, sieve)
    return written(source, sieve)


def check_some_left(source: PairSource, sieve: Sieve) -> None:
    """Refuse to write an empty file.

    Raises:
        DataError: no row is left.
    """
    if not sieve.kept:
        raise DataError(f"{source.name}: none of its {source.rows} rows is left ({sieve.reasons()})", code="PF-D04")


def written(source: PairSource, sieve: Sieve) -> Written:
    """What a sieve wrote of a source, with what reading it said."""
    head = f"{source.name} ({source.format}): {source.rows} rows in, {sieve.summary()}"
    return Written([Path(sieve.path)], sieve.kept, dict(sieve.dropped), [head, *reading_lines(source.summary())])


def settle_output(given: SelectOptions, command: str) -> None:
    """Take the last word for the output where no flag names one."""
    if not given.output and given.source and len(given.source) > 1:
        *given.source, given.output = given.source
    if not given.output:
        raise ConfigError(f"data {command} needs an OUTPUT: a file that ends in .jsonl, .jsonl.gz or .parquet")
    if any(Path(source).exists() and Path(source).resolve() == Path(given.output).resolve() for source in given.source or []):
        raise ConfigError(f"{given.output} is the source, and would be overwritten; give another OUTPUT")
