"""What one block of rows contributes: computed anywhere, merged in order."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefine.audit.row_checks import flags
from prefine.audit.shortcuts import marks
from prefine.audit.tokens import TokenCounter
from prefine.preferences.blocks import Block
from prefine.preferences.convert import Converter, Reading, answers_of, as_pairs
from prefine.preferences.draws import normalised, share, text_key, texts_key
from prefine.preferences.near import NUM_HASHES, signatures
from prefine.preferences.records import Dropped, Example, Labelled, Pair, Record, identity, plain_text, prompt_identity

NUMBERS = {
    **{"row": np.int64, "prompt_key": np.uint64, "pair_key": np.uint64, "flipped": np.bool_, "is_pair": np.bool_, "label": np.bool_},
    **{"chosen_chars": np.int32, "rejected_chars": np.int32, "chosen_marks": np.uint8, "rejected_marks": np.uint8},
    **{"prompt_tokens": np.int32, "chosen_tokens": np.int32, "rejected_tokens": np.int32, "shared_tokens": np.int32},
}
"""One number of each for every record."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A record whose answers are kept; ``draw`` in [0, 1) decides which are, by their content."""

    draw: float
    chosen: str
    rejected: str


@dataclass
class Part:
    """Facts of some records; small, whatever the texts."""

    rows: int = 0
    numbers: dict[str, NDArray[Any]] = field(default_factory=dict)
    dropped: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    found: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    signatures: NDArray[np.uint32] = field(default_factory=lambda: np.empty((0, NUM_HASHES), np.uint32))
    sample: list[Sampled] = field(default_factory=list)


@dataclass(frozen=True)
class Sampling:
    """Which records' texts are kept: a share of them, by a draw on their content."""

    share: float
    seed: int = 0


class PartMaker:
    """Makes parts of blocks.

    Args:
        counter: counts tokens, or None where no model was given.
        near: whether to compute signatures for near duplicates.
    """

    def __init__(self, converter: Converter, reading: Reading, counter: TokenCounter | None, near: bool, sampling: Sampling) -> None:
        self.converter = converter
        self.reading = reading
        self.counter = counter
        self.near = near
        self.sampling = sampling

    def of_block(self, block: Block, before: int) -> Part:
        """A block's part; rows are numbered after ``before`` earlier ones."""
        part = Part()

        def rows() -> Any:
            for number, row in block.rows():
                part.rows += 1
                yield before + number, row

        self.fill(part, list(self.converter.convert(rows())))
        return part

    def fill(self, part: Part, items: list[Record | Dropped]) -> None:
        """Add the facts of converted rows to a part."""
        records: list[Pair | Labelled] = []
        for item in as_pairs(items, self.reading):
            if isinstance(item, Dropped):
                part.dropped[item.reason].append(item.number)
            elif not isinstance(item, Example):
                records.append(item)
        part.numbers = {name: np.zeros(len(records), kind) for name, kind in NUMBERS.items()}
        numbers = part.numbers
        for place, record in enumerate(records):
            self._one(part, numbers, place, record)
        if self.near and records:
            part.signatures = signatures(plain_text(r.prompt) for r in records)
        if self.counter is not None and records:
            counts = self.counter.count(records)
            numbers["prompt_tokens"], numbers["shared_tokens"] = counts.prompt_R, counts.shared_R
            numbers["chosen_tokens"], numbers["rejected_tokens"] = counts.chosen_R, counts.rejected_R
            for name, places in (
                ("template-refuses", counts.refused),
                ("boundary-merge", counts.merged),
                ("doubled-begin", counts.doubled),
                ("missing-end", counts.endless),
                ("empty-after-template", counts.empty),
            ):
                part.found[name] += [int(numbers["row"][p]) for p in places]

    def _one(self, part: Part, numbers: dict[str, NDArray[Any]], place: int, record: Record) -> None:
        prompt, texts = plain_text(record.prompt), [plain_text(a) for a in answers_of(record)]
        # Rows that differ in case or white space alone say the same, or the opposite.
        asked, said = normalised(prompt_identity(record)), [normalised(identity(a)) for a in answers_of(record)]
        numbers["row"][place] = record.row
        numbers["prompt_key"][place] = text_key(prompt)
        if isinstance(record, Pair):
            key, turned = texts_key((asked, *said)), texts_key((asked, *said[::-1]))
            numbers["pair_key"][place], numbers["flipped"][place] = min(key, turned), key > turned
            numbers["is_pair"][place] = True
            chosen, rejected = texts
        else:
            assert isinstance(record, Labelled)
            numbers["pair_key"][place], numbers["label"][place] = texts_key((asked, *said)), record.label
            chosen, rejected = (texts[0], "") if record.label else ("", texts[0])
        numbers["chosen_chars"][place], numbers["rejected_chars"][place] = len(chosen), len(rejected)
        numbers["chosen_marks"][place], numbers["rejected_marks"][place] = marks(chosen), marks(rejected)
        for name in flags(record):
            part.found[name].append(record.row)
        draw = share(int(numbers["pair_key"][place]), self.sampling.seed)
        if draw < self.sampling.share:
            part.sample.append(Sampled(draw, chosen, rejected))
