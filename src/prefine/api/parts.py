"""Pairs to train on, pairs to choose by, and fresh ones that had no part in choosing: never the same prompt in two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from prefine.api.reading import column_map, counted
from prefine.api.run_options import RunOptions
from prefine.errors import ConfigError, DataError
from prefine.preferences.convert import PairSource, Reading, canonical
from prefine.preferences.draws import prompt_text_key, record_key, share
from prefine.preferences.records import Pair
from prefine.preferences.writing import RowWriter

PARTS = ("train", "select", "fresh")
SHARE, LEAST, MOST = 0.1, 30, 200
"""Prompts to choose by, and as many fresh ones, where nobody says how many."""


@dataclass(frozen=True)
class Parts:
    """The three files in ``folder``, how many prompts each holds, and what was said of reading."""

    folder: Path
    prompts: dict[str, int]
    lines: list[str]

    def __getitem__(self, name: str) -> str:
        return str(self.folder / f"{name}.jsonl")


class Source:
    """What a training would read, before it is split."""

    def __init__(self, own: RunOptions, seed: int) -> None:
        reading = Reading(column_map(own.map), own.format, own.pairing, own.min_gap, seed)
        self.seed = seed
        self.pairs = PairSource(own.sources, reading, own.data_weights)
        self.held_out = PairSource(own.eval_data, reading) if own.eval_data else None

    @property
    def fingerprint(self) -> str:
        """Of what is read and how."""
        return " ".join(s.fingerprint for s in (self.pairs, self.held_out) if s is not None)

    def write(self, folder: Path, select: int | None, fresh: int | None) -> Parts:
        """Write the parts, as JSON lines in the canonical format.

        Which prompts are kept aside, their text and the seed decide. They are those of ``eval_data`` where it is given, without
        the ones that are trained on.

        Raises:
            ConfigError: more prompts asked for than there are.
            DataError: unreadable, or too few prompts to keep any aside.
        """
        trained = {prompt_text_key(pair) for pair in self.pairs}
        kept_aside = trained if self.held_out is None else {prompt_text_key(p) for p in self.held_out} - trained
        order = sorted(kept_aside, key=lambda key: (share(key, self.seed), key))
        counts = self._counts(len(order), select, fresh)
        place = dict.fromkeys(order[: counts[0]], "select") | dict.fromkeys(order[counts[0] : sum(counts)], "fresh")
        prompts: dict[str, set[int]] = {name: set() for name in PARTS}
        with ExitStack() as stack:
            files = {name: stack.enter_context(RowWriter(folder / f"{name}.jsonl")) for name in PARTS}
            for name, pair in self._placed(place):
                prompts[name].add(prompt_text_key(pair))
                files[name].write(canonical(pair))
        dropped = counted({reason: len(rows) for reason, rows in self.pairs.dropped.items()})
        told = ", ".join(f"{files[name].count} pairs of {len(prompts[name])} prompts {what}" for name, what in SAID.items())
        return Parts(folder, {name: len(keys) for name, keys in prompts.items()}, [f"data: {told}; dropped: {dropped}"])

    def _placed(self, place: dict[int, str]) -> Iterator[tuple[str, Pair]]:
        """Each pair with its part; what is kept aside once, however often a weight repeats it."""
        seen = set()
        for source in (self.pairs, self.held_out):
            for pair in source or ():
                part = place.get(prompt_text_key(pair), "train" if source is self.pairs else None)
                if part == "train":
                    yield part, pair
                elif part is not None:
                    key = record_key(pair, (pair.chosen, pair.rejected))
                    if key not in seen:
                        seen.add(key)
                        yield part, pair

    def _counts(self, prompts: int, select: int | None, fresh: int | None) -> tuple[int, int]:
        share_of = max(round(SHARE * prompts), min(LEAST, prompts // 5)) if self.held_out is None else prompts // 2
        usual = min(MOST, share_of)
        counts = (usual if select is None else select, usual if fresh is None else fresh)
        where = self.pairs.name if self.held_out is None else self.held_out.name
        if min(counts) < 1 and None in (select, fresh):
            raise DataError(f"{where}: {prompts} prompts to keep aside from are too few; give more, or others with --eval-data")
        if min(counts) < 1 or sum(counts) + (self.held_out is None) > prompts:
            raise ConfigError(
                f"--select-prompts {counts[0]} and --fresh-prompts {counts[1]}: expected at least 1 each, and {where} has {prompts} "
                f"prompts{' to train on as well' if self.held_out is None else ' that are not trained on'}"
            )
        return counts


SAID = {"train": "to train on", "select": "to choose by", "fresh": "fresh"}
