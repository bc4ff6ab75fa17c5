"""Rows to records, and sources to pairs, with every dropped row counted under its reason."""

from __future__ import annotations

import functools
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from prefine.errors import ColumnError, ConfigError, DataError, some
from prefine.preferences.cells import read_cells
from prefine.preferences.draws import share
from prefine.preferences.formats import FORMATS, Format, Skip, detect, format_named
from prefine.preferences.formats.format import BESIDE, SYSTEM_COLUMNS, history_of, kwargs_of, number_of, system_of, tools_of
from prefine.preferences.ranking import check_policy, to_pairs
from prefine.preferences.records import Dropped, Example, Labelled, Pair, PromptText, Ranked, Record, identity, plain_text, prompt_identity
from prefine.preferences.source import Numbering, read_rows, said_of, source_fingerprint

Row = Mapping[str, Any]
CONVERSION_VERSION = "6"
"""Part of the key of everything cached from a source: raise it when the same rows would give other pairs or findings."""
NOTED_ROWS = 20
"""Rows of a note that are listed; the others are counted."""
PEEK_ROWS = 20
"""Rows from which a source's format is told."""
ROW_ERRORS = (KeyError, TypeError, AttributeError, IndexError, ValueError, StopIteration, RuntimeError)
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


@dataclass
class Noted:
    """How many rows a note is of, and the numbers of the first: a note may be of every row of millions."""

    count: int = 0
    rows: list[int] = field(default_factory=list)
    last: int = 0

    def add(self, number: int) -> None:
        """One more row; the same again is not counted."""
        if number == self.last:
            return
        self.last = number
        self.count += 1
        if len(self.rows) < NOTED_ROWS:
            self.rows.append(number)

    def join(self, other: Noted) -> None:
        """Those of another source too."""
        self.count += other.count
        self.rows = [*self.rows, *other.rows][:NOTED_ROWS]


class Converter:
    """Turns rows of one format into records.

    Args:
        format: the rows' format.
        source: what to call the data in messages.
        columns: our name -> the source's column.

    Attributes:
        notes: what was read otherwise than it was written -> how many rows, and the first of them.
    """

    def __init__(self, format: Format, source: str, columns: Mapping[str, str] | None = None) -> None:
        self.format = format
        self.source = source
        self.columns = dict(columns or {})
        self.notes: dict[str, Noted] = defaultdict(Noted)
        self.beside: Counter[str] = Counter()
        self.seen: dict[str, None] = {}
        self.read: set[str] = set(format.reads)
        self._watched = self._number = 0

    def unread(self) -> list[str]:
        """Columns that hold something and that nothing has read, in their order."""
        return [name for name in self.seen if name not in self.read]

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
                    f"columns found: {some(list(map(str, raw)))}"
                )
            row[ours] = raw[theirs]
        for theirs in set(self.columns.values()) - self.columns.keys():
            row.pop(theirs, None)
        return row

    def convert(self, rows: Iterable[tuple[int, Row]]) -> Iterator[Record | Dropped]:
        """Records, and what was dropped, in order."""
        renamed = ((number, self.prepared(number, row)) for number, row in rows)
        if self.format.gather is None:
            for number, row in renamed:
                yield from self._convert([(number, row)])
            return
        for _, run in itertools.groupby(renamed, lambda item: self._key(item[1])):
            yield from self._convert(list(run))

    def prepared(self, number: int, raw: Row) -> Row:
        """A row under our names, its cells read, that remembers which columns are looked at."""
        self._number = number
        row = read_cells(self.rename(number, raw) if self.columns else raw, self._note)
        if self.read.issuperset(row):
            return row  # nothing more to learn of what is read
        fresh = [name for name, value in row.items() if name not in self.seen and not _is_nothing(value)]
        self.seen.update(dict.fromkeys(fresh))
        self._watched += 1
        return _Watched(row, self.read) if fresh or self._watched <= WATCHED_ROWS else row

    def _note(self, note: str) -> None:
        self.notes[note].add(self._number)

    def said(self) -> Counter[str]:
        """What was read otherwise than it stands, and what beside the prompt was read into it -> how many rows."""
        found = Counter({note: noted.count for note, noted in self.notes.items()})
        if self.beside:
            found[f"read as part of the prompt: the column {', '.join(sorted(self.beside))}"] = max(self.beside.values())
        return found

    def _key(self, row: Row) -> Any:
        assert self.format.gather is not None
        return self.format.gather(row) if self.format.sniff(row) else id(row)

    def _convert(self, rows: Sequence[tuple[int, Row]]) -> Iterator[Record | Dropped]:
        number, row = rows[0]
        if not self.format.sniff(row):
            yield self._misfit(number, row)
            return
        done: list[Record | Dropped] = []
        try:
            for item in self.format.convert(rows):
                try:
                    if not isinstance(item, Dropped):
                        before, item = item, complete(item, row)
                        if item is not before and item.prompt != before.prompt:
                            self.beside.update(name for name in INTO_PROMPT if row.get(name))
                        if "prompt" in row:
                            self.beside.update(name for name, value in row.items() if name in BESIDE and not _is_nothing(value))
                        check_record(item)
                    done.append(item)
                except Skip as skip:
                    done += [Dropped(n, str(skip), r) for n, r in rows]
        except Skip as skip:
            done = [Dropped(n, str(skip), r) for n, r in rows]
        except (*ROW_ERRORS, RecursionError):
            done = [Dropped(n, f"does not fit the {self.format.name} format inside", r) for n, r in rows]
        yield from done

    def _misfit(self, number: int, row: Row) -> Dropped:
        """A row that is not of the format: a mixture of formats is an error, a broken row is dropped."""
        other = next((f.name for f in FORMATS.values() if f.sniff(row) and _converts(f, number, row)), None)
        if other is not None:
            raise DataError(
                f"{self.source}, row {number}: format changes from {self.format.name} to {other}; split the file, one format each",
                code="PF-D02",
            )
        missing = [c for c in self.format.columns if c not in row]
        if not self.format.columns:
            return Dropped(number, "nothing in it that is read", row)
        if missing and len(missing) < len(self.format.columns):
            raise ColumnError(
                f"{self.source}, row {number}: the column {missing[0]!r} is missing here; columns found: {some(list(map(str, row)))}"
            )
        return Dropped(number, "response is not text" if not missing else f"is not of the {self.format.name} format", row)


WATCHED_ROWS = 1000
"""Rows in which it is seen which columns are read; later ones only where a column is new."""


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | dict | tuple) and not value)


class _Watched(dict[str, Any]):
    """A row that remembers which of its columns were looked at."""

    def __init__(self, row: Row, read: set[str]) -> None:
        super().__init__(row)
        self._read = read

    def __getitem__(self, name: str) -> Any:
        self._read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """As a dictionary's."""
        self._read.add(name)
        return super().get(name, default)


INTO_PROMPT = (*SYSTEM_COLUMNS, "history")
"""Columns of their own whose words become part of the prompt."""
BESIDE_PROMPT = frozenset((*SYSTEM_COLUMNS, "history", "tools", "functions", "chat_template_kwargs"))
"""Columns of their own that say something of the prompt."""


def complete(record: Record, row: Row) -> Record:
    """A record with what its row says of the prompt in columns of their own: the system message, earlier turns, tools.

    Raises:
        Skip: such a column cannot be read, or says otherwise than the messages do.
    """
    if isinstance(record, Pair) and row.get("margin") is not None:
        margin = number_of(row["margin"])
        if margin is None:
            raise Skip("margin is not a number")
        record = replace(record, margin=margin)
    if BESIDE_PROMPT.isdisjoint(row):
        return record
    added: dict[str, Any] = {}
    tools, kwargs = record.tools or tools_of(row), kwargs_of(row)
    system, history = system_of(row), history_of(row)
    if isinstance(record.prompt, str) and record.prompt and (system or history or tools):
        record = as_chat(record)
    prompt = record.prompt
    if not isinstance(prompt, str):
        if kwargs:
            added["template_kwargs"] = kwargs
        first = prompt[0] if prompt else {}
        if system and first.get("role") in ("system", "developer"):
            if str(first.get("content")).strip() != system.strip():
                raise Skip("a system column says otherwise than the system message")
            system = ""
        rest = prompt
        if history and first.get("role") in ("system", "developer"):
            head, rest = prompt[:1], prompt[1:]
        else:
            head = ({"role": "system", "content": system},) if system else ()
        if (head and prompt[:1] != head) or history:
            added["prompt"] = (*head, *history, *rest)
    if tools != record.tools:
        added["tools"] = tools
    return replace(record, **added) if added else record


def as_chat(record: Record) -> Record:
    """A record of texts as one of messages."""
    assert isinstance(record.prompt, str)
    asked = ({"role": "user", "content": record.prompt},)

    def said(text: PromptText) -> PromptText:
        return ({"role": "assistant", "content": text},) if isinstance(text, str) else text

    if isinstance(record, Pair):
        return replace(record, prompt=asked, chosen=said(record.chosen), rejected=said(record.rejected))
    if isinstance(record, Ranked):
        return replace(record, prompt=asked, answers=tuple(map(said, record.answers)))
    return replace(record, prompt=asked, answer=None if record.answer is None else said(record.answer))  # type: ignore[arg-type]


def _converts(format: Format, number: int, row: Row) -> bool:
    try:
        items = list(format.convert([(number, row)]))
        for item in items:
            if not isinstance(item, Dropped):
                check_record(item)
    except (Skip, *ROW_ERRORS, RecursionError):
        return False
    return bool(items)


def check_record(record: Record) -> None:
    """Raise :class:`Skip` for a record that nothing can be learnt from."""
    if not isinstance(record, Example) or record.prompt != "":
        _check_text(record.prompt, "prompt is empty")
    for answer in answers_of(record):
        _check_text(answer, "response is empty")
        if not isinstance(answer, str):
            if answer[0].get("role") != "assistant":
                raise Skip(f"the response is of the role {str(answer[0].get('role'))[:20]!r}, not the assistant's")
            if answer[-1].get("role") != "assistant":
                raise Skip("the last turn is not the assistant's")
    if isinstance(record, Pair):
        chosen, rejected = record.chosen, record.rejected
        if chosen == rejected or (not isinstance(chosen, str) and identity(chosen) == identity(rejected)):
            raise Skip("chosen equals rejected")


def answers_of(record: Record) -> tuple[PromptText, ...]:
    """A record's answers, chosen first."""
    if isinstance(record, Pair):
        return record.chosen, record.rejected
    if isinstance(record, Ranked):
        return record.answers
    return () if record.answer is None else (record.answer,)


def _check_text(value: PromptText, reason: str) -> None:
    text = plain_text(value)
    if not text.strip():
        raise Skip(reason)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Skip("holds broken unicode (half of a surrogate pair)") from error


def read_pairs(rows: Iterable[Row], source: str, dropped: dict[str, list[int]], notes: Counter[str] | None = None) -> Iterator[Pair]:
    """Pairs of rows in memory; ``dropped`` is filled with reason -> row numbers, from 1, ``notes`` with what was read otherwise than it
    stands -> how many rows.

    Raises:
        DataError: no format fits, or a row is of another format than the first ones.
    """
    numbered = enumerate(rows, 1)
    head = list(itertools.islice(numbered, PEEK_ROWS))
    if not head:
        return
    converter = Converter(detect([r for _, r in head], source), source)
    try:
        yield from _only_pairs(converter.convert(itertools.chain(head, numbered)), Reading(), source, dropped, lambda row: 1)
    finally:
        if notes is not None:
            notes.update(converter.said())


def _only_pairs(
    items: Iterable[Record | Dropped], reading: Reading, source: str, dropped: dict[str, list[int]], copies: Any
) -> Iterator[Pair]:
    for item in as_pairs(items, reading):
        if isinstance(item, Dropped):
            dropped.setdefault(item.reason, []).append(item.number)
            continue
        if isinstance(item, Labelled | Example):
            raise DataError(
                f"{source}: holds single labelled responses, not pairs; train on them as they are (prefine kto), or make pairs of those "
                f"that share a prompt: prefine data convert {source} pairs.jsonl --to pairs",
                code="PF-D09",
            )
        times = copies(item.row)
        if not times:
            dropped.setdefault("not drawn by its source's weight", []).append(item.row)
        for _ in range(times):
            yield item


def as_pairs(items: Iterable[Record | Dropped], reading: Reading) -> Iterator[Pair | Labelled | Example | Dropped]:
    """Ranked answers as the pairs that the reading's policy makes of them; all else as it is."""
    for item in items:
        if not isinstance(item, Ranked):
            yield item
            continue
        pairs = to_pairs(item, reading.pairing, reading.min_gap, reading.seed)
        yield from pairs
        if not pairs:
            yield Dropped(item.row, "no two responses differ by enough in score", canonical(item))


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
        notes: what was read otherwise than it was written -> how many rows, and the first of them.
        unread: columns that nothing read.
        format: the formats' names.
    """

    def __init__(self, sources: str | Sequence[str], reading: Reading | None = None, weights: Sequence[float] | None = None) -> None:
        self.sources = [sources] if isinstance(sources, str) else list(sources)
        self.reading = reading or Reading()
        self.weights = list(weights) if weights else [1.0] * len(self.sources)
        if len(self.weights) != len(self.sources) or any(not w > 0 for w in self.weights):
            raise ConfigError(f"{len(self.weights)} weights for {len(self.sources)} sources; expected one above 0 for each", code="PF-C03")
        self._clear()

    @property
    def name(self) -> str:
        """What to call the data."""
        return " + ".join(self.sources)

    def _clear(self) -> None:
        self.rows = self.num_pairs = 0
        self.numbering = Numbering()
        self.dropped: dict[str, list[int]] = defaultdict(list)
        self.notes: dict[str, Noted] = defaultdict(Noted)
        self.unread: list[str] = []
        self.format = ""

    def __iter__(self) -> Iterator[Pair]:
        """Read the sources from their start.

        Raises:
            DataError: unreadable, empty, or with no usable pair at all.
        """
        self._clear()
        for source, weight in zip(self.sources, self.weights, strict=True):
            copies = functools.partial(self.copies, weight=weight)
            for pair in _only_pairs(self.items(source), self.reading, source, self.dropped, copies):
                self.num_pairs += 1
                yield pair
        if not self.num_pairs:
            raise DataError(f"{self.name}: none of its {self.rows} rows gives a usable pair ({self.reasons()})", code="PF-D04")

    def reasons(self) -> str:
        """Why rows were dropped, with their counts."""
        return ", ".join(f"{len(rows)} {reason}" for reason, rows in self.dropped.items())

    def records(self) -> Iterator[Record | Dropped]:
        """All sources' records and drops, in order."""
        for source in self.sources:
            yield from self.items(source)

    def items(self, source: str) -> Iterator[Record | Dropped]:
        """A source's records and drops, in order, rows numbered after those of earlier sources.

        Raises:
            DataError: the source is empty, or its format is not known.
        """
        numbered = self._counted(source)
        head = list(itertools.islice(numbered, PEEK_ROWS))
        if not head:
            raise DataError(f"{source}: empty, no rows to read", code="PF-D03")
        converter = self.find_converter([r for _, r in head], source)
        names = dict.fromkeys([*filter(None, self.format.split(" + ")), converter.format.name])
        self.format = " + ".join(names)
        try:
            yield from converter.convert(itertools.chain(head, numbered))
        finally:
            for note, noted in converter.notes.items():
                self.notes[note].join(noted)
            self.unread += [name for name in converter.unread() if name not in self.unread]

    def find_converter(self, head: Sequence[Row], source: str) -> Converter:
        """What converts a source whose first rows are ``head``."""
        return find_converter(head, source, self.reading)

    def copies(self, row: int, weight: float) -> int:
        """How many times a row is used: the weight's whole part, and one more by a draw on the row's number."""
        whole = int(weight)
        return whole if weight == whole else whole + (share(row, self.reading.seed) < weight - whole)

    def _counted(self, source: str) -> Iterator[tuple[int, Row]]:
        for number, row in read_rows(source, self.numbering):
            self.rows += 1
            yield number, row

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of the sources' content, their weights, the way they are read, and the code that reads them."""
        parts = [CONVERSION_VERSION, *(f"{source_fingerprint(s)} {w}" for s, w in zip(self.sources, self.weights, strict=True))]
        parts.append(self.reading.key())
        import hashlib

        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def summary(self) -> dict[str, Any]:
        """Counts as plain data, for ``data.json``."""
        return {
            "source": self.name,
            "format": self.format,
            "rows": self.rows,
            "pairs": self.num_pairs,
            "dropped": {reason: {"count": len(rows), "rows": rows} for reason, rows in self.dropped.items()},
            "notes": {note: {"count": noted.count, "rows": noted.rows} for note, noted in self.notes.items()},
            "unread_columns": self.unread,
            "said": [said for said in map(said_of, self.sources) if said],
        }


def find_converter(head: Sequence[Row], source: str, reading: Reading) -> Converter:
    """The converter for a source whose first rows are ``head``."""
    probe = Converter(FORMATS["pairs"], source, reading.columns)
    renamed = [read_cells(probe.rename(number, row), lambda note: None) for number, row in enumerate(head, 1)]
    format = format_named(reading.format) if reading.format else detect(renamed, source)
    if reading.format and not any(format.sniff(row) for row in renamed):
        raise ColumnError(
            f"{source}: --format {format.name} expects {format.about}; columns found: {some(list(map(str, renamed[0])))}", code="PF-D02"
        )
    return Converter(format, source, reading.columns)


def labelled_of(pair: Pair) -> list[Labelled]:
    """A pair as two labelled answers."""
    sides = ((pair.chosen, True), (pair.rejected, False))
    return [Labelled(pair.prompt, answer, label, pair.row, pair.tools, pair.template_kwargs) for answer, label in sides]


def pairs_of(answers: Iterable[Labelled]) -> Iterator[Pair | Dropped]:
    """Labelled answers that share a prompt as pairs: the first good one with the first bad one, and so on.

    Holds all answers in memory, since a prompt's rows may lie anywhere.
    """
    by_prompt: dict[str, tuple[list[Labelled], list[Labelled]]] = {}
    for answer in answers:
        by_prompt.setdefault(prompt_identity(answer), ([], []))[not answer.label].append(answer)
    for good, bad in by_prompt.values():
        for a, b in zip(good, bad, strict=False):
            yield Pair(a.prompt, a.answer, b.answer, a.row, tools=a.tools, template_kwargs=a.template_kwargs)
        for left in (*good[len(bad) :], *bad[len(good) :]):
            yield Dropped(left.row, "no response of the other label for its prompt", canonical(left))


def canonical(record: Record) -> dict[str, Any]:
    """A record as a row of the canonical format, which every command reads back."""
    beside: dict[str, Any] = {"tools": list(record.tools)} if record.tools else {}
    if record.template_kwargs:
        beside["chat_template_kwargs"] = dict(record.template_kwargs)
    if isinstance(record, Pair):
        scores = {} if record.scores is None else {"score_chosen": record.scores[0], "score_rejected": record.scores[1]}
        scores |= {} if record.margin is None else {"margin": record.margin}
        return {"prompt": _plain(record.prompt), "chosen": _plain(record.chosen), "rejected": _plain(record.rejected)} | scores | beside
    if isinstance(record, Labelled):
        return {"prompt": _plain(record.prompt), "completion": _plain(record.answer), "label": record.label} | beside
    if isinstance(record, Example):
        if record.whole and not isinstance(record.prompt, str) and not isinstance(record.answer, str):
            return {"messages": _plain((*record.prompt, *(record.answer or ())))} | beside
        return {"prompt": _plain(record.prompt)} | ({} if record.answer is None else {"completion": _plain(record.answer)}) | beside
    return {"prompt": _plain(record.prompt), "answers": [_short(a) for a in record.answers], "scores": list(record.scores)} | beside


def _short(answer: PromptText) -> str | list[dict[str, Any]]:
    """An answer of one message that is text alone as that text."""
    if isinstance(answer, str) or len(answer) > 1 or answer[0].keys() - {"role", "content"}:
        return _plain(answer)
    return str(answer[0]["content"])


def _plain(value: PromptText) -> str | list[dict[str, Any]]:
    return value if isinstance(value, str) else list(value)
