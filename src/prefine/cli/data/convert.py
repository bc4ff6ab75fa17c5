"""``prefine data convert``: any source to the canonical form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from prefine.cli.data.reading import SourceOptions, read_options
from prefine.cli.data.sieve import Sieve
from prefine.errors import ConfigError, DataError, nearest
from prefine.preferences.convert import PairSource, canonical, labelled_of, pairs_of
from prefine.preferences.ranking import to_pairs
from prefine.preferences.records import Dropped, Labelled, Pair, Ranked, Record

TARGETS = ("pairs", "labelled", "same")


@dataclass
class ConvertOptions(SourceOptions):
    """Options of ``prefine data convert``."""

    output: str = field(default="", metadata={"help": "File to write: .jsonl, .jsonl.gz or .parquet (also as the last word)."})
    to: str = field(default="pairs", metadata={"help": "pairs, labelled (KTO's single answers), or same (ranked lists stay lists)."})
    rejected: str | None = field(default=None, metadata={"help": "File for the rows that are left out, each with its reason."})


def main(argv: list[str]) -> int:
    """Write the canonical form; print rows in, rows out, and a reason for each difference."""
    given = read_options(ConvertOptions, "convert", "Writes any source in the canonical form: prompt, chosen, rejected.", argv)
    if given is None:
        return 0
    if not given.output and given.source and len(given.source) > 1:
        *given.source, given.output = given.source
    if not given.output:
        raise ConfigError("data convert needs an OUTPUT: a file that ends in .jsonl, .jsonl.gz or .parquet")
    if given.to not in TARGETS:
        raise ConfigError(f"--to is {given.to!r}; expected one of {', '.join(TARGETS)}{nearest(given.to, TARGETS)}")
    source = given.pairs()
    with Sieve(given.output, given.rejected) as sieve:
        for item in converted(source, given):
            if isinstance(item, Dropped):
                sieve.drop(item)
            else:
                sieve.keep(canonical(item))
        if not sieve.kept:
            raise DataError(f"{source.name}: none of its {source.rows} rows is left ({sieve.reasons()})")
    print(f"{source.name} ({source.format}): {source.rows} rows in, {sieve.summary()}")
    return 0


def converted(source: PairSource, given: ConvertOptions) -> Iterator[Record | Dropped]:
    """Records of the wanted kind, and what was dropped."""
    items = (item for name in source.sources for item in source.items(name))
    if given.to == "same":
        yield from items
        return
    if given.to == "labelled":
        for item in _paired(items, given):
            yield from labelled_of(item) if isinstance(item, Pair) else [item]
        return
    labelled: list[Labelled] = []
    for item in _paired(items, given):
        if isinstance(item, Labelled):
            labelled.append(item)
        else:
            yield item
    yield from pairs_of(labelled)


def _paired(items: Iterator[Record | Dropped], given: ConvertOptions) -> Iterator[Pair | Labelled | Dropped]:
    for item in items:
        if not isinstance(item, Ranked):
            yield item
            continue
        pairs = to_pairs(item, given.pairing, given.min_gap, given.seed)
        yield from pairs
        if not pairs:
            yield Dropped(item.row, "no two answers differ by enough in score", canonical(item))
