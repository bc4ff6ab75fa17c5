"""Rows to records, and sources to pairs, with every dropped row counted under its reason."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefine.errors import ColumnError, ConfigError, DataError
from prefine.preferences.draws import share
from prefine.preferences.formats import FORMATS, Format, Skip, detect, format_named
from prefine.preferences.ranking import check_policy, to_pairs
from prefine.preferences.records import Dropped, Labelled, Pair, PromptText, Ranked, Record, plain_text
from prefine.preferences.source import Numbering, read_rows, source_fingerprint

Row = Mapping[str, Any]
CONVERSION_VERSION = "2"
"""Part of the key of everything cached from a source: raise it when the same rows would give other pairs or findings."""
PEEK_ROWS = 20
"""Rows from which a source's form is told."""
MISFITS = (KeyError, TypeError, AttributeError, IndexError, ValueError, StopIteration, RuntimeError)
"""What a converter raises on a row whose insides are not what its columns promise."""


@dataclass(frozen=True)
class Reading:
    """How a source is to be read.

    Attributes:
        columns: our name -> the source's column (``{"prompt": "question"}``).
        format: a name of :data:`prefine.preferences.formats.FORMATS`, or None to find it.
        pairing, min_gap, seed: how ranked answers become pairs; see :mod:`prefine.preferences.ranking`.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    format: str | None = None
    pairing: str = "best-vs-worst"
    min_gap: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_policy(self.pairing)
        if self.format is not None:
            format_named(self.format)

    def key(self) -> str:
        """All of it as text, for a cache's key."""
        return repr((sorted(self.columns.items()), self.format, self.pairing, self.min_gap, self.seed))


class Converter:
    """Turns rows of one form into records.

    Args:
        form: the rows' form.
        source: what to call the data in messages.
        columns: our name -> the source's column.
    """

    def __init__(self, form: Format, source: str, columns: Mapping[str, str] | None = None) -> None:
        self.form = form
        self.source = source
        self.columns = dict(columns or {})

    def rename(self, number: int, raw: Row) -> Row:
        """A row under our names.

        Raises:
            ColumnError: a column that is to be renamed is not there.
        """
        if not self.columns:
            return raw
        row = dict(raw)
        for ours, theirs in self.columns.items():
            if theirs not in raw:
                raise ColumnError(
                    f"{self.source}, row {number}: --map {ours}={theirs}, but there is no column {theirs!r}; "
                    f"columns found: {', '.join(map(str, raw))}"
                )
            row[ours] = raw[theirs]
        for theirs in set(self.columns.values()) - self.columns.keys():
            row.pop(theirs, None)
        return row

    def convert(self, rows: Iterable[tuple[int, Row]]) -> Iterator[Record | Dropped]:
        """Records, and what was dropped, in order."""
        renamed = ((number, self.rename(number, row)) for number, row in rows)
        if self.form.gather is None:
            for number, row in renamed:
                yield from self._convert([(number, row)])
            return
        for _, run in itertools.groupby(renamed, lambda item: self._key(item[1])):
            yield from self._convert(list(run))

    def _key(self, row: Row) -> Any:
        assert self.form.gather is not None
        return self.form.gather(row) if self.form.sniff(row) else id(row)

    def _convert(self, rows: Sequence[tuple[int, Row]]) -> Iterator[Record | Dropped]:
        number, row = rows[0]
        if not self.form.sniff(row):
            yield self._misfit(number, row)
            return
        done: list[Record | Dropped] = []
        try:
            for item in self.form.convert(rows):
                try:
                    if not isinstance(item, Dropped):
                        check_record(item)
                    done.append(item)
                except Skip as skip:
                    done += [Dropped(n, str(skip), r) for n, r in rows]
        except Skip as skip:
            done = [Dropped(n, str(skip), r) for n, r in rows]
        except (*MISFITS, RecursionError):
            done = [Dropped(n, f"does not fit the {self.form.name} form inside", r) for n, r in rows]
        yield from done

    def _misfit(self, number: int, row: Row) -> Dropped:
        """A row that is not of the form: a mixture of forms is an error, a broken row is dropped."""
        other = next((f.name for f in FORMATS.values() if f.sniff(row) and _converts(f, number, row)), None)
        if other is not None:
            raise DataError(
                f"{self.source}, row {number}: format changes from {self.form.name} to {other}; split the file, one format each"
            )
        missing = [c for c in self.form.columns if c not in row]
        if missing and len(missing) < len(self.form.columns):
            raise ColumnError(
                f"{self.source}, row {number}: the column {missing[0]!r} is missing here; columns found: {', '.join(map(str, row))}"
            )
        return Dropped(number, "answer is not text" if not missing else f"is not of the {self.form.name} form", row)


def _converts(form: Format, number: int, row: Row) -> bool:
    try:
        items = list(form.convert([(number, row)]))
        for item in items:
            if not isinstance(item, Dropped):
                check_record(item)
    except (Skip, *MISFITS, RecursionError):
        return False
    return bool(items)


def check_record(record: Record) -> None:
    """Raise :class:`Skip` for a record that nothing can be learnt from."""
    _check_text(record.prompt, "prompt is empty")
    for answer in answers_of(record):
        _check_text(answer, "answer is empty")
    if isinstance(record, Pair) and record.chosen == record.rejected:
        raise Skip("chosen equals rejected")


def answers_of(record: Record) -> tuple[PromptText, ...]:
    """A record's answers, chosen first."""
    if isinstance(record, Pair):
        return record.chosen, record.rejected
    return record.answers if isinstance(record, Ranked) else (record.answer,)


def _check_text(value: PromptText, reason: str) -> None:
    text = plain_text(value)
    if not text.strip():
        raise Skip(reason)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Skip("holds broken unicode (half of a surrogate pair)") from error


def read_pairs(rows: Iterable[Row], source: str, dropped: dict[str, list[int]]) -> Iterator[Pair]:
    """Pairs of rows in memory; ``dropped`` is filled with reason -> row numbers, from 1.

    Raises:
        DataError: no form fits, or a row is of another form than the first ones.
    """
    numbered = enumerate(rows, 1)
    head = list(itertools.islice(numbered, PEEK_ROWS))
    if not head:
        return
    converter = Converter(detect([r for _, r in head], source), source)
    yield from _only_pairs(converter.convert(itertools.chain(head, numbered)), Reading(), source, dropped, lambda row: 1)


def _only_pairs(
    items: Iterable[Record | Dropped], reading: Reading, source: str, dropped: dict[str, list[int]], copies: Any
) -> Iterator[Pair]:
    for item in as_pairs(items, reading):
        if isinstance(item, Dropped):
            dropped.setdefault(item.reason, []).append(item.number)
            continue
        if isinstance(item, Labelled):
            raise DataError(
                f"{source}: holds single labelled answers, not pairs; make pairs of those that share a prompt: "
                f"prefine data convert {source} pairs.jsonl --to pairs"
            )
        times = copies(item.row)
        if not times:
            dropped.setdefault("not drawn by its source's weight", []).append(item.row)
        for _ in range(times):
            yield item


def as_pairs(items: Iterable[Record | Dropped], reading: Reading) -> Iterator[Pair | Labelled | Dropped]:
    """Ranked answers as the pairs that the reading's policy makes of them; all else as it is."""
    for item in items:
        if not isinstance(item, Ranked):
            yield item
            continue
        pairs = to_pairs(item, reading.pairing, reading.min_gap, reading.seed)
        yield from pairs
        if not pairs:
            yield Dropped(item.row, "no two answers differ by enough in score", canonical(item))


class PairSource:
    """The usable pairs of one or several sources, streamed; what happened to their rows is known once all were read.

    Args:
        sources: what :mod:`prefine.preferences.source` reads, one or several.
        reading: how to read them.
        weights: how many times each source's rows are used: 2 is twice, 0.5 every other row
            by a seeded draw.

    Attributes:
        rows: how many rows were read; num_pairs: how many pairs came of them.
        dropped: reason -> row numbers (from 1, over all sources).
        format: the forms' names.
    """

    def __init__(self, sources: str | Sequence[str], reading: Reading | None = None, weights: Sequence[float] | None = None) -> None:
        self.sources = [sources] if isinstance(sources, str) else list(sources)
        self.reading = reading or Reading()
        self.weights = list(weights) if weights else [1.0] * len(self.sources)
        if len(self.weights) != len(self.sources) or any(not w > 0 for w in self.weights):
            raise ConfigError(f"{len(self.weights)} weights for {len(self.sources)} sources; expected one above 0 for each")
        self._clear()

    @property
    def name(self) -> str:
        """What to call the data."""
        return " + ".join(self.sources)

    def _clear(self) -> None:
        self.rows = self.num_pairs = 0
        self.numbering = Numbering()
        self.dropped: dict[str, list[int]] = defaultdict(list)
        self.format = ""

    def __iter__(self) -> Iterator[Pair]:
        """Read the sources from their start.

        Raises:
            DataError: unreadable, empty, or with no usable pair at all.
        """
        self._clear()
        for source, weight in zip(self.sources, self.weights, strict=True):
            copies = functools.partial(_copies, weight=weight, seed=self.reading.seed)
            for pair in _only_pairs(self.items(source), self.reading, source, self.dropped, copies):
                self.num_pairs += 1
                yield pair
        if not self.num_pairs:
            reasons = ", ".join(f"{len(rows)} {reason}" for reason, rows in self.dropped.items())
            raise DataError(f"{self.name}: none of its {self.rows} rows gives a usable pair ({reasons})")

    def records(self) -> Iterator[Record | Dropped]:
        """All sources' records and drops, in order."""
        for source in self.sources:
            yield from self.items(source)

    def items(self, source: str) -> Iterator[Record | Dropped]:
        """A source's records and drops, in order, rows numbered after those of earlier sources.

        Raises:
            DataError: the source is empty, or its form is not known.
        """
        numbered = self._counted(source)
        head = list(itertools.islice(numbered, PEEK_ROWS))
        if not head:
            raise DataError(f"{source}: empty, no rows to read")
        converter = find_converter([r for _, r in head], source, self.reading)
        names = dict.fromkeys([*filter(None, self.format.split(" + ")), converter.form.name])
        self.format = " + ".join(names)
        yield from converter.convert(itertools.chain(head, numbered))

    def _counted(self, source: str) -> Iterator[tuple[int, Row]]:
        for number, row in read_rows(source, self.numbering):
            self.rows += 1
            yield number, row

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of the sources' content, their weights, the way they are read, and the code that reads them."""
        parts = [CONVERSION_VERSION, *(f"{source_fingerprint(s)} {w}" for s, w in zip(self.sources, self.weights, strict=True))]
        parts.append(self.reading.key())
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def summary(self) -> dict[str, Any]:
        """Counts as plain data, for ``data.json``."""
        return {
            "source": self.name,
            "format": self.format,
            "rows": self.rows,
            "pairs": self.num_pairs,
            "dropped": {reason: {"count": len(rows), "rows": rows} for reason, rows in self.dropped.items()},
        }


def find_converter(head: Sequence[Row], source: str, reading: Reading) -> Converter:
    """The converter for a source whose first rows are ``head``."""
    probe = Converter(FORMATS["pairs"], source, reading.columns)
    renamed = [probe.rename(number, row) for number, row in enumerate(head, 1)]
    form = format_named(reading.format) if reading.format else detect(renamed, source)
    if reading.format and not any(form.sniff(row) for row in renamed):
        raise ColumnError(f"{source}: --format {form.name} expects {form.about}; columns found: {', '.join(map(str, renamed[0]))}")
    return Converter(form, source, reading.columns)


def _copies(row: int, weight: float, seed: int) -> int:
    """How many times a row is used: the weight's whole part, and one more by a draw on the row's number."""
    whole = int(weight)
    if weight == whole:
        return whole
    return whole + (share(row, seed) < weight - whole)


def labelled_of(pair: Pair) -> list[Labelled]:
    """A pair as two labelled answers."""
    return [Labelled(pair.prompt, answer, label, pair.row, pair.tools) for answer, label in ((pair.chosen, True), (pair.rejected, False))]


def pairs_of(answers: Iterable[Labelled]) -> Iterator[Pair | Dropped]:
    """Labelled answers that share a prompt as pairs: the first good one with the first bad one, and so on.

    Holds all answers in memory, since a prompt's rows may lie anywhere.
    """
    by_prompt: dict[str, tuple[list[Labelled], list[Labelled]]] = {}
    for answer in answers:
        by_prompt.setdefault(repr(answer.prompt), ([], []))[not answer.label].append(answer)
    for good, bad in by_prompt.values():
        for a, b in zip(good, bad, strict=False):
            yield Pair(a.prompt, a.answer, b.answer, a.row, tools=a.tools)
        for left in (*good[len(bad) :], *bad[len(good) :]):
            yield Dropped(left.row, "no answer of the other label for its prompt", canonical(left))


def canonical(record: Record) -> dict[str, Any]:
    """A record as a row of the canonical form, which every command reads back."""
    tools = {"tools": list(record.tools)} if record.tools else {}
    if isinstance(record, Pair):
        scores = {} if record.scores is None else {"score_chosen": record.scores[0], "score_rejected": record.scores[1]}
        return {"prompt": _plain(record.prompt), "chosen": _plain(record.chosen), "rejected": _plain(record.rejected)} | scores | tools
    if isinstance(record, Labelled):
        return {"prompt": _plain(record.prompt), "completion": _plain(record.answer), "label": record.label} | tools
    return {"prompt": _plain(record.prompt), "answers": [plain_text(a) for a in record.answers], "scores": list(record.scores)} | tools


def _plain(value: PromptText) -> str | list[dict[str, Any]]:
    return value if isinstance(value, str) else list(value)
