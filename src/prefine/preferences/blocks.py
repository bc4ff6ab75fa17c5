"""Files in blocks: bytes of whole lines, or rows; the unit that is read in order and parsed anywhere.

JSONL comes as bytes, so that worker processes can parse it; Parquet as Arrow batches;
JSON (also as pandas writes tables, and objects one after another) and CSV (commas,
semicolons or tabs) as rows. A row's number is its line in JSONL, else its place in the file.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from prefine.errors import DataError, some

Row = dict[str, Any]
csv.field_size_limit(2**31 - 1)
BLOCK_BYTES = 2**20
BLOCK_ROWS = 512
MAX_LINE_BYTES = 2**28
"""A longer line is taken for a mistake (a gzip bomb, a file without line ends)."""
WHOLE_JSON_BYTES = 2**25
"""A JSON list up to this size is parsed at once, with good messages; a larger one is streamed."""
STREAMED_BYTES = 2**24
"""Read at once of a larger one: a value that goes over many pieces is begun anew with each."""
BOMB_BYTES, BOMB_RATIO = 2**30, 200
"""More decompressed bytes than this, at more than this ratio, are taken for a bomb; text reaches about 20."""


PAGED = frozenset(("data", "object", "has_more", "first_id", "last_id", "meta", "links", "next", "next_cursor", "total", "count"))
"""Fields of an API's answer around its rows, which are its ``data``."""


@dataclass
class Block:
    """Part of a file.

    Attributes:
        first: the number of its first line or row, from 1.
        content: bytes of whole lines, or a list of rows, or a ``pyarrow.RecordBatch``.
    """

    file: str
    first: int
    content: Any

    @property
    def last(self) -> int:
        """The number of its last line or row."""
        return self.first + (self.content.count(b"\n") if isinstance(self.content, bytes) else len(self.content) - 1)

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Parse: (number, row), blank lines left out.

        Raises:
            DataError: a line is not a JSON object; names file and line.
        """
        if isinstance(self.content, bytes):
            yield from self._lines()
            return
        try:
            rows = self.content if isinstance(self.content, list) else _python_rows(self.content)
        except UnicodeDecodeError as error:
            raise DataError(f"{self.file}, after row {self.first - 1}: text that is not UTF-8 ({error.reason})", code="PF-D06") from error
        for number, row in enumerate(rows, self.first):
            yield number, _object(row, f"{self.file}, row {number}")

    def _lines(self) -> Iterator[tuple[int, Row]]:
        for number, raw in enumerate(self.content.split(b"\n"), self.first):
            if not raw.strip():
                continue
            where = f"{self.file}, line {number}"
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{where}: not UTF-8 text ({error.reason} at byte {error.start} of the line); convert it with iconv", code="PF-D06"
                ) from error
            yield number, _object(parse_json(line, where), where)


def parse_json(text: str, where: str) -> Any:
    """One JSON value; an object that names a field twice is refused, since one of the two would be lost.

    Raises:
        DataError: not valid, nested too deep, or a number too long.
    """
    try:
        return DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where}: not valid JSON ({error.msg} at column {error.colno}); it begins {text.strip()[:60]!r}", code="PF-D05"
        ) from error
    except RecursionError as error:
        raise DataError(f"{where}: nested too deep", code="PF-D05") from error
    except ValueError as error:
        raise DataError(f"{where}: {str(error).split(';')[0]}") from error


def _twice(names: Iterable[str]) -> list[str]:
    """Those named more than once, shortened."""
    return [name[:80] for name, count in Counter(names).items() if count > 1]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError(f"the field {_twice(name for name, _ in pairs)[0]!r} is given twice")
    return out


DECODER = json.JSONDecoder(object_pairs_hook=_unique)


class _UniqueFields(dict[str, Any]):
    """An object under construction that refuses a field twice."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name in self:
            raise ValueError(f"the field {name!r} is given twice")
        super().__setitem__(name, value)


def _object(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{where}: expected an object with named fields, found {type(value).__name__}", code="PF-D05")
    return value


def data_suffix(path: Path) -> str:
    """What decides how a file is read: its last suffix, ``.gz`` aside."""
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()


def read_blocks(path: Path, name: str = "") -> Iterator[Block]:
    """Blocks of a file, in order.

    Raises:
        DataError: an unknown type, or broken content; names the file and the line.
    """
    kind = data_suffix(path)
    if kind not in READERS:
        raise DataError(f"{path}: unknown file type {kind or '(none)'!r}; expected one of {', '.join(READERS)} (also .gz)", code="PF-D02")
    name = name or str(path)
    try:
        yield from READERS[kind](path, name)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{name}: the gzip stream is damaged or cut short ({error}); copy or download it again") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not UTF-8 text ({error.reason} at byte {error.start}); convert it with iconv", code="PF-D06") from error


class _Guarded(io.RawIOBase):
    """A gzip stream that stops at a bomb."""

    def __init__(self, path: Path) -> None:
        self.path, self.stream, self.seen = path, gzip.open(path, "rb"), 0  # noqa: SIM115  closed in close()
        self.limit = max(BOMB_BYTES, BOMB_RATIO * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        self.seen += len(data)
        if self.seen > self.limit:
            raise DataError(
                f"{self.path}: grows to more than {BOMB_RATIO} times its size, which text does not; decompress it yourself if it is right"
            )
        return len(data)

    def close(self) -> None:
        self.stream.close()
        super().close()


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    stream: Any = io.BufferedReader(_Guarded(path), BLOCK_BYTES) if path.suffix.lower() == ".gz" else path.open("rb")
    with stream:
        yield stream


def _jsonl(path: Path, name: str) -> Iterator[Block]:
    """Lines of objects; a file of that name that holds one JSON value, or objects over several lines each, is read as it is."""
    with _open(path) as stream:
        head = stream.read(BLOCK_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip()
    first, newline, rest = head.partition(b"\n")
    one_line = not newline or not rest.strip()
    if head[:1] == b"[" or (newline and _is_open(first)) or (one_line and b'{"0":' in first[:2000]):
        yield from _json(path, name)
        return
    yield from _lines(path, name)


def _is_open(line: bytes) -> bool:
    """Whether a line begins a JSON object that goes on in the next."""
    text = line.decode("utf-8", "replace").strip()
    if text[:1] != "{":
        return False
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text) - 1 and text[-1:] in "{,["
    except (ValueError, RecursionError):
        return False
    return False


def _lines(path: Path, name: str) -> Iterator[Block]:
    with _open(path) as stream:
        held: list[bytes] = []  # of a line that goes on
        size, line = 0, 1
        while data := stream.read(BLOCK_BYTES):
            whole, newline, tail = data.rpartition(b"\n")
            if not newline:
                held.append(data)
                size += len(data)
                if size > MAX_LINE_BYTES:
                    raise DataError(f"{name}, line {line}: longer than {MAX_LINE_BYTES // 2**20} MiB; is this JSON lines?")
                continue
            yield Block(name, line, b"".join([*held, whole]))
            line += whole.count(b"\n") + 1
            held, size = [tail], len(tail)
        rest = b"".join(held)
        if rest.strip():
            yield Block(name, line, rest)


def _json(path: Path, name: str) -> Iterator[Block]:
    with _open(path) as stream:
        head = stream.read(WHOLE_JSON_BYTES + 1)
    if not head.strip():
        return
    if len(head) > WHOLE_JSON_BYTES:
        yield from _json_streamed(path, name) if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"[" else _lines(path, name)
        return
    try:
        value = parse_json(head.decode("utf-8-sig"), name)
    except DataError as error:
        if not (isinstance(error.__cause__, json.JSONDecodeError) and error.__cause__.msg == "Extra data" and head.lstrip()[:1] == b"{"):
            raise
        rows = _one_after_another(head.decode("utf-8-sig"), name)
        if rows is None:
            yield from _lines(path, name)  # JSON lines under the name .json, which is common
            return
    else:
        rows = _table(value)
    for start in range(0, len(rows), BLOCK_ROWS):
        yield Block(name, start + 1, rows[start : start + BLOCK_ROWS])


def _one_after_another(text: str, name: str) -> list[Row] | None:
    """Objects printed over several lines, one after another; None where a line holds one each."""
    if not _is_open(text.lstrip().partition("\n")[0].encode("utf-8", "replace")):
        return None
    rows: list[Row] = []
    at = 0
    while at < len(text):
        while at < len(text) and text[at] in " \t\r\n,":
            at += 1
        if at == len(text):
            break
        try:
            row, at = DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name}, after row {len(rows)}: not valid JSON ({str(error).splitlines()[0]})", code="PF-D05") from error
        rows.append(row)
    return rows


def _table(value: Any) -> list[Any]:
    """The rows of a JSON value: a list, ``{"data": [...]}``, or a table in one of the shapes that pandas writes."""
    if not isinstance(value, dict):
        return value if isinstance(value, list) else [value]
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):  # orient="split"
        return [dict(zip(value["columns"], row, strict=False)) if isinstance(row, list) else row for row in value["data"]]
    if value.keys() == {"schema", "data"} and isinstance(value["data"], list):  # orient="table"
        return [{k: v for k, v in row.items() if k != "index"} if isinstance(row, dict) else row for row in value["data"]]
    results = value.get("results")
    if isinstance(results, dict) and isinstance(results.get("results"), list):  # of promptfoo eval
        return _with_thumbs(results["results"], results.get("table"))
    if isinstance(value.get("data"), list) and value["data"] and value.keys() <= PAGED and all(isinstance(v, dict) for v in value["data"]):
        return list(value["data"])
    inner = list(value.values())
    if inner and all(isinstance(v, dict) and v.keys() >= {"fields", "responses"} for v in inner):  # of Argilla, by the records' ids
        return inner
    if len(inner) == 1 and isinstance(inner[0], list):
        return inner[0]
    if len(inner) > 1 and all(isinstance(v, dict) for v in inner) and value.keys() & {str(i) for i in range(len(inner))}:
        return inner  # orient="index"
    if inner and all(
        isinstance(v, dict) and v.keys() == inner[0].keys() and v and all(map(str.isdigit, v)) for v in inner
    ):  # orient="columns"
        return [{name: column[key] for name, column in value.items()} for key in inner[0]]
    if len(inner) > 1 and all(isinstance(v, list) and len(v) == len(inner[0]) for v in inner) and not _is_row(value):  # a list a column
        return [dict(zip(value, row, strict=True)) for row in zip(*inner, strict=True)]
    return [value]


def _with_thumbs(results: list[Any], table: Any) -> list[Any]:
    """promptfoo's results with what people said of them, which its version 2 writes into a table beside them alone."""
    rows = [cell for cell in table.get("body") or () if isinstance(cell, dict)] if isinstance(table, dict) else []
    cells = [c for row in rows for c in row.get("outputs") or () if isinstance(c, dict) and isinstance(c.get("gradingResult"), dict)]
    by_hand: dict[Any, list[Any]] = {}
    for cell in cells:
        if str(cell["gradingResult"].get("reason")).startswith("Manual result"):
            by_hand.setdefault(cell.get("prompt"), []).append(cell)
    out = []
    for row in results:
        prompt, response = (row.get(name) if isinstance(row, dict) else None for name in ("prompt", "response"))
        asked = prompt.get("raw") if isinstance(prompt, dict) else prompt
        said = response.get("output") if isinstance(response, dict) else None
        # Before the response of one that failed the table writes why.
        same = [c for c in by_hand.get(asked, ()) if said and (c.get("text") == said or str(c.get("text")).endswith(f"\n---\n{said}"))]
        out.append(row | {"gradingResult": same[0]["gradingResult"], "success": same[0].get("pass")} if same else row)
    return out


def _is_row(value: Row) -> bool:
    """Whether an object whose fields are all lists is one row of messages, not a table of columns."""
    return any(isinstance(m, dict) and ("role" in m or "from" in m) for column in value.values() for m in column)


def _json_streamed(path: Path, name: str) -> Iterator[Block]:
    import ijson

    rows: list[Row] = []
    number = 1
    with _open(path) as stream:
        try:
            for row in ijson.items(stream, "item", use_float=True, map_type=_UniqueFields, buf_size=STREAMED_BYTES):
                rows.append(row)
                if len(rows) == BLOCK_ROWS:
                    yield Block(name, number, rows)
                    number += len(rows)
                    rows = []
        except (ijson.JSONError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{name}, after row {number + len(rows) - 1}: not valid JSON ({str(error).splitlines()[0]})", code="PF-D05"
            ) from error
    if rows:
        yield Block(name, number, rows)


def _csv(path: Path, name: str) -> Iterator[Block]:
    with _open(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        rows: list[Row] = []
        number = 1
        try:
            header = text.readline()
            reader = csv.DictReader(itertools.chain([header] if header else [], text), delimiter=_delimiter(header, path))
            names = reader.fieldnames or []
            if twice := _twice(names):
                raise DataError(f"{name}: the header names a column twice ({some(twice)})")
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(f"{name}, row {number + len(rows)}: its number of fields differs from the header's")
                rows.append(dict(row))
                if len(rows) == BLOCK_ROWS:
                    yield Block(name, number, rows)
                    number += len(rows)
                    rows = []
        except csv.Error as error:
            raise DataError(f"{name}, row {number + len(rows)}: not readable as CSV ({error})") from error
        if rows:
            yield Block(name, number, rows)


def _delimiter(header: str, path: Path) -> str:
    """What stands between the header's names most often: a comma, a semicolon or a tab."""
    if data_suffix(path) == ".tsv":
        return "\t"
    unquoted = re.sub(r'"[^"]*"', "", header)
    return max(",;\t", key=unquoted.count)


def _python_rows(batch: Any) -> list[Row]:
    """An Arrow batch's rows; Arrow's JSON type is parsed, its maps are dictionaries."""
    rows: list[Row] = batch.to_pylist()
    for field in batch.schema:
        decode = _decoder(field.type)
        if decode is not None:
            for row in rows:
                row[field.name] = decode(row[field.name])
    return rows


def _decoder(kind: Any) -> Callable[[Any], Any] | None:
    """What turns a value of an Arrow type into what it stands for, or None where it is that already."""
    import pyarrow.types as types

    if getattr(kind, "extension_name", "") == "arrow.json":
        return lambda value: json.loads(value) if isinstance(value, str) else value
    if types.is_map(kind):
        inner = _decoder(kind.item_type) or (lambda value: value)
        return lambda value: value if value is None else {key: inner(item) for key, item in value}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        item = _decoder(kind.value_type)
        return None if item is None else lambda value: value if value is None else [item(each) for each in value]
    if types.is_struct(kind):
        parts = {kind.field(i).name: _decoder(kind.field(i).type) for i in range(kind.num_fields)}
        if not any(parts.values()):
            return None
        return lambda value: value if value is None else {k: f(v) if (f := parts[k]) is not None else v for k, v in value.items()}
    return None


def _parquet(path: Path, name: str) -> Iterator[Block]:
    import pyarrow.lib
    import pyarrow.parquet as parquet

    if path.suffix.lower() == ".gz":
        with _open(path) as stream:
            opened: Any = io.BytesIO(stream.read())
    else:
        opened = path
    try:
        number = 1
        for batch in parquet.ParquetFile(opened).iter_batches(batch_size=BLOCK_ROWS):
            yield Block(name, number, batch)
            number += batch.num_rows
    except (pyarrow.lib.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        raise DataError(f"{name}: not a readable Parquet file ({' '.join(str(error).split())[:200] or type(error).__name__})") from error


READERS: dict[str, Callable[[Path, str], Iterator[Block]]] = {
    **{".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet},
}
