"""A seeded part of a source."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefine.api.calls import call
from prefine.api.progress import Progress
from prefine.api.selecting import SelectOptions, Written, select
from prefine.errors import ConfigError
from prefine.preferences.convert import answers_of
from prefine.preferences.draws import record_key, share
from prefine.preferences.records import Record


@dataclass
class SampleOptions(SelectOptions):
    """Options of ``prefine data sample``."""

    fraction: float = field(default=0.1, metadata={"help": "Share of records to keep; which ones depends on text and seed alone."})


@call(SampleOptions, positional=("source",), rest=True)
def sample(given: SampleOptions, progress: Progress) -> Written:
    """Keep a seeded part; the same records whatever their order.

    Raises:
        PrefineError: a share out of range, a source that cannot be read, or of which nothing is left.
    """
    if not 0 < given.fraction < 1:
        raise ConfigError(f"--fraction is {given.fraction}; expected between 0 and 1", code="PF-C03")
    fraction, seed = given.fraction, given.seed

    def reason(record: Record) -> str | None:
        key = record_key(record, answers_of(record))
        return None if share(key, seed) < fraction else "not drawn"

    return select(given, "sample", reason)
