"""``prefine data sample``: a seeded part."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefine.cli.data.reading import read_options
from prefine.cli.data.select import SelectOptions, select
from prefine.errors import ConfigError
from prefine.preferences.convert import answers_of
from prefine.preferences.draws import record_key, share
from prefine.preferences.records import Record


@dataclass
class SampleOptions(SelectOptions):
    """Options of ``prefine data sample``."""

    fraction: float = field(default=0.1, metadata={"help": "Share of records to keep; which ones depends on text and seed alone."})


def main(argv: list[str]) -> int:
    """Keep about a share of the records."""
    given = read_options(SampleOptions, "sample", "Keeps a seeded part; the same records whatever their order.", argv)
    if given is None:
        return 0
    if not 0 < given.fraction < 1:
        raise ConfigError(f"--fraction is {given.fraction}; expected between 0 and 1")
    fraction, seed = given.fraction, given.seed

    def reason(record: Record) -> str | None:
        key = record_key(record, answers_of(record))
        return None if share(key, seed) < fraction else "not drawn"

    return select(given, "sample", reason)
