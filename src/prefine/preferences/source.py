"""Where preference data comes from: files, folders, globs, standard input, Hub ids, databases.

- a file: JSONL, JSON, CSV or Parquet, each also ``.gz``; a folder or a glob of them
- a folder written by ``datasets.save_to_disk``
- a data set's clone: ``folder[:config][:split]``, by its card or its file names; ``train`` where nothing is said
- ``-``: standard input, JSON lines (or a JSON list)
- a Hub id: ``owner/name[@revision][:config][:split]``; a split may be a slice, ``train[:10%]``
- a URL that fsspec reads: ``s3://bucket/pairs.jsonl.gz``, ``gs://``, ``hf://datasets/owner/name/file``, a folder or a pattern of them
- a database: ``sqlite:///file.db#SELECT ...`` or ``postgresql://...#SELECT ...``, read only
"""

from __future__ import annotations

import atexit
import functools
import glob
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from prefine.errors import ConfigError, DataError, MissingFile
from prefine.preferences.blocks import BLOCK_ROWS, READERS, Block, Row, data_suffix, read_blocks
from prefine.preferences.folders import chosen_files
from prefine.preferences.remote import check_url, copies, is_url, shown

HUB_ID = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?(:(?P<rest>.+))?")
HUB_DEFAULTS: dict[str, tuple[str | None, str]] = {
    "HuggingFaceH4/ultrafeedback_binarized": (None, "train_prefs"),
    "openai/summarize_from_feedback": ("comparisons", "train"),
}
"""Configuration and split of well-known sets that have no plain ``train``."""


def blocks(source: str) -> Iterator[Block]:
    """A source's blocks, in order.

    Raises:
        MissingFile: neither a path nor a Hub id nor a database.
        DataError: broken content; names the file and the line.
    """
    if _is_database(source):
        yield from _database_blocks(source)
        return
    files = local_files(source)
    if files is None:
        yield from _batches(_load_hub(source), source)
        return
    for file in files:
        if file.is_dir():
            yield from _batches(_load_saved(file), str(file))
        else:
            yield from read_blocks(file, "standard input" if source == "-" else shown(file))


class Numbering:
    """Row numbers that go on from file to file and from source to source; ``last`` is the last one given away."""

    def __init__(self) -> None:
        self.last = 0

    def blocks(self, source: str) -> Iterator[tuple[Block, int]]:
        """A source's blocks, each with what to add to its rows' numbers."""
        before, file = self.last, None
        for block in blocks(source):
            if block.file != file:
                before, file = self.last, block.file
            self.last = before + block.last
            yield block, before


def read_rows(source: str, numbering: Numbering | None = None) -> Iterator[tuple[int, Row]]:
    """Yield ``(row_number, row)``."""
    for block, before in (numbering or Numbering()).blocks(source):
        for number, row in block.rows():
            yield before + number, row


def local_files(source: str) -> list[Path] | None:
    """The files of a source on this machine (a saved dataset's folder counts as one), or None for what is not here.

    Raises:
        MissingFile: it looks like a path, and nothing is there.
        DataError: a folder without data files.
    """
    if source == "-":
        return [_standard_input()]
    if is_url(source):
        return copies(source)
    path, config, split = _folder_parts(source)
    if path.is_file():
        return [path]
    if _is_saved(path):
        return [_saved_split(path, config, split)[0]]
    if path.is_dir():
        found = _data_files(path)
        if not found:
            raise DataError(f"{path}: a folder, but neither written by datasets.save_to_disk nor with data files ({', '.join(READERS)})")
        return chosen_files(path, found, config, split)[0]
    if glob.has_magic(source) and (data_suffix(path) in READERS or not HUB_ID.fullmatch(source)):
        matched = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
        if not matched:
            raise MissingFile(f"{source}: no file matches")
        return matched
    if HUB_ID.fullmatch(source) and not source.startswith((".", "/", "~")) and data_suffix(path) not in READERS:
        return None
    near = sorted(p.name for p in path.parent.iterdir())[:8] if path.parent.is_dir() else []
    hint = f"; that folder holds: {', '.join(near)}" if near else ""
    raise MissingFile(f"{source}: no such file or folder{hint}")


def check_there(source: str) -> None:
    """Whether a source is there, as far as that is told without reading it or asking the Hub.

    Raises:
        MissingFile: it looks like a path, and nothing is there.
    """
    if is_url(source) and not _is_database(source):
        check_url(source)
    elif source != "-" and not _is_database(source):
        local_files(source)


def _folder_parts(source: str) -> tuple[Path, str | None, str | None]:
    """A path, and the configuration and split that follow a folder's after colons."""
    path = Path(source).expanduser()
    for parts in (1, 2):
        folder, *rest = source.rsplit(":", parts)
        if len(rest) == parts and not path.exists() and Path(folder).expanduser().is_dir():
            return Path(folder).expanduser(), (rest[0] if parts == 2 else None), rest[-1]
    return path, None, None


def _is_saved(path: Path) -> bool:
    return (path / "state.json").exists() or (path / "dataset_dict.json").exists()


def _saved_split(path: Path, config: str | None, split: str | None) -> tuple[Path, str]:
    """The folder of one split of what ``save_to_disk`` wrote, and what to say of the others.

    Raises:
        DataError: there is no such split, or several and nothing says which.
    """
    splits = sorted(p.parent.name for p in path.glob("*/state.json"))
    if config is not None or (split is not None and split not in splits):
        raise DataError(f"{path}: no split {split!r}; it holds {', '.join(splits) or 'one table, without splits'}", code="PF-D08")
    if not splits or (split is None and "train" not in splits and len(splits) > 1):
        return path, ""  # one table; or the loader says which splits there are
    wanted = split or ("train" if "train" in splits else splits[0])
    left = [name for name in splits if name != wanted]
    return path / wanted, f"{path}: the split {wanted} is read, not {', '.join(left)}" if left else ""


def said_of(source: str) -> str:
    """What there is to say of a folder's files that are not read; nothing for other sources."""
    path, config, split = _folder_parts(source)
    if not path.is_dir():
        return ""
    if _is_saved(path):
        return _saved_split(path, config, split)[1]
    return chosen_files(path, _data_files(path), config, split)[1]


def _data_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and data_suffix(p) in READERS and not _hidden(p, folder))


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


@functools.lru_cache
def _standard_input() -> Path:
    """Standard input in a file of its own, so that it can be read twice."""
    with tempfile.NamedTemporaryFile(prefix="prefine-stdin-", suffix=".tmp", delete=False) as held:
        shutil.copyfileobj(sys.stdin.buffer, held)
    with open(held.name, "rb") as stream:
        head = stream.read(64).lstrip()[:2]
    kind = ".parquet" if head == b"PA" else ".json" if head[:1] == b"[" else ".jsonl"
    path = Path(held.name).rename(Path(held.name).with_suffix(kind + (".gz" if head == b"\x1f\x8b" else "")))
    atexit.register(path.unlink, missing_ok=True)
    return path


def _batches(dataset: Any, name: str) -> Iterator[Block]:
    for start in range(0, len(dataset), BLOCK_ROWS):
        try:
            rows = [dict(row) for row in dataset.select(range(start, min(start + BLOCK_ROWS, len(dataset))))]
        except Exception as error:  # of Arrow and datasets, for whatever its files hold
            raise DataError(f"{name}, after row {start}: the data set is damaged ({_told(error)}); copy it again") from error
        yield Block(name, start + 1, rows)


def _load_saved(path: Path) -> Any:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
        for part in loaded.values() if isinstance(loaded, datasets.DatasetDict) else [loaded]:
            part.data.validate(full=True)  # offsets that lead out of the file would end the process
    except Exception as error:  # of Arrow and datasets, for whatever its files hold
        raise DataError(f"{path}: a folder, but not one written by datasets.save_to_disk, or damaged ({_told(error)})") from error
    if isinstance(loaded, datasets.DatasetDict):
        if "train" not in loaded:
            raise DataError(
                f"{path}: has the splits {', '.join(loaded)}; give one of their folders, e.g. {path / next(iter(loaded))}", code="PF-D08"
            )
        return loaded["train"]
    return loaded


def _told(error: BaseException) -> str:
    """Another library's error in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _load_hub(source: str) -> Any:
    import datasets

    parts = HUB_ID.fullmatch(source)
    assert parts is not None
    config, split = HUB_DEFAULTS.get(parts["name"], (None, "train"))
    rest = re.findall(r"[^:\[]+(?:\[[^\]]*\])?", parts["rest"] or "")
    if rest:
        config, split = (rest[0] if len(rest) == 2 else config), rest[-1]
    try:
        return datasets.load_dataset(parts["name"], config, split=split, revision=parts["revision"])
    except Exception as error:  # the Hub client raises many types; each means "could not be had"
        raise DataError(
            f"{source}: no such file here, and loading it from the Hub failed ({type(error).__name__}: {error}); "
            "check the name, the split and the network",
            code="PF-F03",
        ) from error


def _is_database(source: str) -> bool:
    return source.startswith(("sqlite:", "postgresql:", "postgresql+"))


def _database_blocks(source: str) -> Iterator[Block]:
    import sqlalchemy

    shown, _, query = source.partition("#")
    engine = _engine(shown)
    try:
        with engine.connect() as connection:
            if not query:
                tables = sqlalchemy.inspect(connection).get_table_names()
                if len(tables) != 1:
                    names = ", ".join(tables) or "(none)"
                    raise ConfigError(f"{shown}: has the tables {names}; add a query: '{shown}#SELECT ... FROM ...'")
                query = f'SELECT * FROM "{tables[0]}"'
            options = {"stream_results": True, "yield_per": BLOCK_ROWS}
            plain = sqlalchemy.text(query.replace(":", r"\:"))  # no parameters: a colon is a colon
            result = connection.execution_options(**options).execute(plain)
            number = 1
            for part in result.mappings().partitions(BLOCK_ROWS):
                rows = [dict(row) for row in part]
                yield Block(shown, number, rows)
                number += len(rows)
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise DataError(f"{shown}: the query failed ({str(error.__cause__ or error).splitlines()[0]})") from error


def _engine(address: str) -> Any:
    """A connection that cannot write."""
    import sqlalchemy

    if address.startswith("sqlite:"):
        path = address.removeprefix("sqlite:///")
        if not Path(path).is_file():
            raise MissingFile(f"{address}: no such database file")

        def connect() -> Any:
            import sqlite3

            connection = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)
            connection.set_authorizer(_may_read)
            return connection

        return sqlalchemy.create_engine("sqlite://", creator=connect)
    try:
        if sqlalchemy.engine.make_url(address).password is not None:
            raise ConfigError("a database address with a password in it would be written into logs and runs; give it in PGPASSWORD")
        return sqlalchemy.create_engine(address, execution_options={"postgresql_readonly": True})
    except ImportError as error:
        raise ConfigError(f"no driver for this database ({error}): pip install 'prefine[postgres]'", code="PF-C10") from error
    except (sqlalchemy.exc.SQLAlchemyError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError("the database address is not of the form postgresql://user@host:port/name") from None


ASKED = {"table_info", "table_xinfo", "table_list", "read_uncommitted", "encoding"}
"""Pragmas that only tell."""


def _may_read(action: int, first: str | None, second: str | None, *where: str | None) -> int:
    """SQLite asks before each step of a statement: mode=ro guards the one file, and neither ATTACH nor VACUUM INTO others."""
    import sqlite3

    reading = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
    told = action == sqlite3.SQLITE_PRAGMA and first in ASKED and (second is None or "table" in str(first))
    return sqlite3.SQLITE_OK if action in reading or told else sqlite3.SQLITE_DENY


def source_fingerprint(source: str) -> str:
    """A hash of a source's content: of the files' bytes, the rows of a query, or what ``datasets`` keeps of a Hub dataset."""
    import hashlib

    digest = hashlib.blake2b(digest_size=16)
    if _is_database(source):
        for block in blocks(source):
            digest.update(repr(block.content).encode())
        return digest.hexdigest()
    files = local_files(source)
    if files is None:
        digest.update(str(_load_hub(source)._fingerprint).encode())
    for place in files or []:
        for file in [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file()):
            digest.update("".join(file.suffixes).encode())  # decides how the bytes are read
            with file.open("rb") as stream:
                while block_bytes := stream.read(2**20):
                    digest.update(block_bytes)
    return digest.hexdigest()
