"""``prefine data convert``: any source to the canonical form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from prefine.cli.data.reading import print_reading, read_options
from prefine.cli.data.select import SelectOptions, settle_output
from prefine.cli.data.sieve import Sieve
from prefine.errors import ConfigError, DataError, nearest
from prefine.preferences.convert import PairSource, as_pairs, canonical, labelled_of, pairs_of
from prefine.preferences.records import Dropped, Labelled, Pair, Record

TARGETS = ("pairs", "labelled", "same")


@dataclass
class ConvertOptions(SelectOptions):
    """Options of ``prefine data convert``."""

    to: str = field(default="pairs", metadata={"help": "pairs, labelled (KTO's single answers), or same (ranked lists stay lists)."})


def main(argv: list[str]) -> int:
    """Write the canonical form; print rows in, rows out, and a reason for each difference."""
    given = read_options(ConvertOptions, "convert", "Writes any source in the canonical form: prompt, chosen, rejected.", argv)
    if given is None:
        return 0
    settle_output(given, "convert")
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
    print_reading(source)
    return 0


def converted(source: PairSource, given: ConvertOptions) -> Iterator[Record | Dropped]:
    """Records of the wanted kind, and what was dropped."""
    if given.to == "same":
        yield from source.records()
        return
    items = as_pairs(source.records(), source.reading)
    if given.to == "labelled":
        for item in items:
            yield from labelled_of(item) if isinstance(item, Pair) else [item]
        return
    labelled: list[Labelled] = []
    for item in items:
        if isinstance(item, Labelled):
            labelled.append(item)
        else:
            yield item
    yield from pairs_of(labelled)
