"""Reading rows from disk or from the Hub, streamed, one dict a row.

JSONL, JSON (a list), CSV and Parquet, each also gzipped; a folder written by
``datasets.save_to_disk``; a Hub id (``owner/name``, ``owner/name:split``,
``owner/name:config:split``). Left out for now: globs, SQL, standard input.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from prefine.errors import DataError, MissingFile, PrefineError

Row = dict[str, Any]
csv.field_size_limit(2**31 - 1)


def read_rows(source: str) -> Iterator[tuple[int, Row]]:
    """Yield ``(row_number, row)`` from a file, a saved dataset folder or a Hub id.

    Args:
        source: a path, or a Hub id as ``owner/name[:config][:split]``.

    Raises:
        MissingFile: neither a path nor something that looks like a Hub id.
        DataError: broken content; names the file and the line.
    """
    path = Path(source)
    if path.is_dir():
        yield from _read_saved_dataset(path)
    elif path.is_file():
        suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
        kind = suffixes[-1] if suffixes else ""
        reader = READERS.get(kind)
        if reader is None:
            raise DataError(f"{path}: unknown file type {kind or '(none)'!r}; expected one of {', '.join(READERS)} (also .gz)")
        try:
            yield from reader(path)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DataError(f"{path}: the gzip stream is damaged or cut short ({error}); copy or download it again") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); convert it with iconv") from error
    else:
        for number, row in enumerate(_load_hub(source), 1):
            yield number, dict(row)


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _read_jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    with _open(path) as stream:
        number = 0
        for line_number, raw in enumerate(stream, 1):
            line = raw.decode("utf-8-sig" if line_number == 1 else "utf-8").strip()
            if not line:
                continue
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{path}, line {line_number}: not valid JSON ({error.msg} at column {error.colno}); the line begins {line[:60]!r}"
                ) from error
            number += 1
            yield number, _object(path, f"line {line_number}", value)


def _read_json(path: Path) -> Iterator[tuple[int, Row]]:
    with _open(path) as stream:
        raw = stream.read()
    if not raw.strip():
        return
    try:
        value = json.loads(raw.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and raw.lstrip()[:1] == b"{":
            yield from _read_jsonl(path)  # JSON lines under the name .json, which is common
            return
        raise DataError(f"{path}, line {error.lineno}: not valid JSON ({error.msg})") from error
    rows = value if isinstance(value, list) else [value]
    for number, row in enumerate(rows, 1):
        yield number, _object(path, f"row {number}", row)


def _read_csv(path: Path) -> Iterator[tuple[int, Row]]:
    with _open(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        for number, row in enumerate(csv.DictReader(text), 1):
            if None in row or None in row.values():
                raise DataError(f"{path}, row {number}: its number of fields differs from the header's")
            yield number, dict(row)


def _read_parquet(path: Path) -> Iterator[tuple[int, Row]]:
    import pyarrow.lib
    import pyarrow.parquet as parquet

    opened: Any = io.BytesIO(_open(path).read()) if path.suffix.lower() == ".gz" else path
    try:
        file = parquet.ParquetFile(opened)
        number = 0
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except pyarrow.lib.ArrowException as error:
        raise DataError(f"{path}: not a readable Parquet file ({error})") from error


READERS = {".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}


def _object(path: Path, where: str, value: Any) -> Row:
    if not isinstance(value, dict):
        raise DataError(f"{path}, {where}: expected an object with named fields, found {type(value).__name__}")
    return value


def _read_saved_dataset(path: Path) -> Iterator[tuple[int, Row]]:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    except (FileNotFoundError, ValueError) as error:
        raise DataError(f"{path}: a folder, but not one written by datasets.save_to_disk ({error})") from error
    if isinstance(loaded, datasets.DatasetDict):
        if "train" not in loaded:
            raise DataError(f"{path}: has the splits {', '.join(loaded)}; give one of their folders, e.g. {path / next(iter(loaded))}")
        loaded = loaded["train"]
    for number, row in enumerate(loaded, 1):
        yield number, dict(row)


def source_fingerprint(source: str) -> str:
    """A hash of a source's content: of the files' bytes, or the fingerprint ``datasets`` keeps of a Hub dataset."""
    path = Path(source)
    digest = hashlib.blake2b(digest_size=16)
    if not path.exists():
        digest.update(str(_load_hub(source)._fingerprint).encode())
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update("".join(file.suffixes).encode())  # decides how the bytes are read
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _load_hub(source: str) -> Any:
    path = Path(source)
    if source.count("/") != 1 or source.startswith((".", "/", "~")) or path.suffix:
        near = sorted(p.name for p in path.parent.iterdir())[:8] if path.parent.is_dir() else []
        hint = f"; that folder holds: {', '.join(near)}" if near else ""
        raise MissingFile(f"{source}: no such file or folder{hint}")
    import datasets

    name, *rest = source.split(":")
    config = rest[0] if len(rest) == 2 else None
    split = rest[-1] if rest else "train"
    try:
        return datasets.load_dataset(name, config, split=split)
    except PrefineError:
        raise
    except Exception as error:  # the Hub client raises many types; each means "could not be had"
        raise DataError(
            f"{source}: no such file here, and loading it from the Hub failed ({type(error).__name__}: {error}); "
            "check the name, the split and the network"
        ) from error
