"""What ``convert``, ``dedup``, ``filter`` and ``sample`` share: read records, keep some, say why not the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from prefine.cli.data.reading import SourceOptions, print_reading
from prefine.cli.data.sieve import Sieve
from prefine.errors import ConfigError, DataError
from prefine.preferences.convert import as_pairs, canonical
from prefine.preferences.records import Dropped, Example, Labelled, Pair


@dataclass
class SelectOptions(SourceOptions):
    """Where the kept rows go, and the others."""

    output: str = field(default="", metadata={"help": "File to write: .jsonl, .jsonl.gz or .parquet (also as the last word)."})
    rejected: str | None = field(default=None, metadata={"help": "File for the rows that are left out, each with its reason."})


def select(given: SelectOptions, command: str, reason: Callable[[Pair | Labelled], str | None]) -> int:
    """Write the records for which ``reason`` is None; count the others under what it says. Ranked answers become pairs first."""
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
        if not sieve.kept:
            raise DataError(f"{source.name}: none of its {source.rows} rows is left ({sieve.reasons()})")
    print(f"{source.name} ({source.format}): {source.rows} rows in, {sieve.summary()}")
    print_reading(source)
    return 0


def settle_output(given: SelectOptions, command: str) -> None:
    """Take the last word for the output where no flag names one."""
    if not given.output and given.source and len(given.source) > 1:
        *given.source, given.output = given.source
    if not given.output:
        raise ConfigError(f"data {command} needs an OUTPUT: a file that ends in .jsonl, .jsonl.gz or .parquet")
