"""``prefine data show``: what a source of preference data holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefine.cli.data.reading import SourceOptions, read_options, shown_text
from prefine.preferences.convert import PairSource, answers_of
from prefine.preferences.ranking import to_pairs
from prefine.preferences.records import Dropped, Labelled, Pair, Ranked, Record


@dataclass
class ShowOptions(SourceOptions):
    """Options of ``prefine data show``."""

    rows: int = field(default=2, metadata={"help": "How many records to print."})


def main(argv: list[str]) -> int:
    """Print format, counts, drops by reason and a few records."""
    given = read_options(ShowOptions, "show", "Detects the format and counts what is usable.", argv)
    if given is None:
        return 0
    pairs = PairSource(given.sources, given.reading())
    shown: list[Record] = []
    counts = {Pair: 0, Ranked: 0, Labelled: 0}
    made = 0
    for source in pairs.sources:
        for item in pairs.items(source):
            if isinstance(item, Dropped):
                pairs.dropped[item.reason].append(item.number)
                continue
            counts[type(item)] += 1
            if isinstance(item, Ranked):
                made += len(to_pairs(item, given.pairing, given.min_gap, given.seed))
            if len(shown) < given.rows:
                shown.append(item)
    what = [f"{counts[Pair]} usable pairs"] if counts[Pair] or not sum(counts.values()) else []
    if counts[Ranked]:
        what.append(f"{counts[Ranked]} prompts with ranked answers, which make {made} pairs {given.pairing}")
    if counts[Labelled]:
        what.append(f"{counts[Labelled]} labelled answers")
    drops = ", ".join(f"{len(rows)} {reason}" for reason, rows in sorted(pairs.dropped.items())) or "none"
    print(f"{pairs.name}: {pairs.format}, {pairs.rows} rows, {', '.join(what)}; dropped: {drops}")
    for record in shown:
        print(f"\n--- row {record.row}")
        for name, value in zip(names_of(record), (record.prompt, *answers_of(record)), strict=True):
            print(f"{name:>9}: {shown_text(value)}")
    return 0


def names_of(record: Record) -> list[str]:
    """What to call a record's prompt and answers."""
    if isinstance(record, Pair):
        return ["prompt", "chosen", "rejected"]
    if isinstance(record, Labelled):
        return ["prompt", "wanted" if record.label else "unwanted"]
    if isinstance(record, Ranked):
        return ["prompt", *(f"{score:g}" for score in record.scores)]
    return ["prompt", *(["answer"] if record.answer is not None else [])]
