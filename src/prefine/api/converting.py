"""Any source to the canonical format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from prefine.api.calls import call
from prefine.api.progress import Progress
from prefine.api.selecting import SelectOptions, Written, check_some_left, settle_output, written
from prefine.api.sieve import Sieve
from prefine.errors import ConfigError, nearest
from prefine.preferences.convert import PairSource, as_pairs, canonical, labelled_of, pairs_of
from prefine.preferences.records import Dropped, Labelled, Pair, Record

TARGETS = ("pairs", "labelled", "same")


@dataclass
class ConvertOptions(SelectOptions):
    """Options of ``prefine data convert``."""

    to: str = field(default="pairs", metadata={"help": "pairs, labelled (KTO's single responses), or same (ranked lists stay lists)."})


@call(ConvertOptions, positional=("source",), rest=True)
def convert(given: ConvertOptions, progress: Progress) -> Written:
    """Write any source in the canonical format: prompt, chosen, rejected.

    Raises:
        PrefineError: a source that cannot be read, or of which nothing is left.
    """
    settle_output(given, "convert")
    if given.to not in TARGETS:
        raise ConfigError(f"--to is {given.to!r}; expected one of {', '.join(TARGETS)}{nearest(given.to, TARGETS)}", code="PF-C03")
    source = given.pairs()
    with Sieve(given.output, given.rejected) as sieve:
        for item in converted(source, given):
            if isinstance(item, Dropped):
                sieve.drop(item)
            else:
                sieve.keep(canonical(item))
        check_some_left(source, sieve)
    return written(source, sieve)


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
