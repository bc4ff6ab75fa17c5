"""Small rows kept by their key, in SQLite: as they were written, or not at all."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA)
"""What SQLite says of a file that is no database of ours any more; all else it says of the disk."""
MEMORY = ":memory:"


class KeptRows:
    """Mappings by key: whole after a kill at any moment, open to several threads and processes.

    Each stands behind its checksum, and one that differs is not there. A file that is damaged is begun anew; where the disk takes no
    more, rows are kept as long as the process runs. Both are said.

    Args:
        table, column: names in the file.
    """

    def __init__(self, path: Path, table: str, column: str) -> None:
        self.path, self.table, self.column = path, table, column
        self._lock = threading.Lock()
        self._said = False
        self._place = str(path)
        self._database: sqlite3.Connection | None = None

    def get(self, key: str) -> dict[str, Any] | None:
        """The mapping kept under a key."""
        row = self._do(f"select {self.column} from {self.table} where key = ?", key)
        return _read(key, row[0]) if row else None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a mapping."""
        text = json.dumps(value)
        self._do(f"insert or replace into {self.table} values (?, ?)", key, f"{_checksum(key, text)} {text}")

    def _do(self, words: str, *values: str) -> Any:
        with self._lock:
            while True:
                try:
                    return (self._database or self._open()).execute(words, values).fetchone()
                except (sqlite3.Error, OSError) as error:
                    if self._place == MEMORY:
                        raise
                    self._do_without(error)

    def _open(self) -> sqlite3.Connection:
        if self._place != MEMORY:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(self._place, timeout=30, isolation_level=None, check_same_thread=False)
        self._database.text_factory = bytes  # a byte that was turned need not be UTF-8
        self._database.execute(f"create table if not exists {self.table} (key text primary key, {self.column} text not null)")
        return self._database

    def _do_without(self, error: Exception) -> None:
        """Begin anew, or in memory."""
        if self._database is not None:
            self._database.close()
            self._database = None
        damaged = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in DAMAGED and not self._said
        try:
            for end in ("", "-journal", "-wal", "-shm") if damaged else ():
                self.path.with_name(self.path.name + end).unlink(missing_ok=True)
        except OSError:
            damaged = False
        if not damaged:
            self._place = MEMORY
        told = "the cache is damaged: it is made anew" if damaged else f"the cache takes no more ({error}): nothing is kept for later runs"
        self._said = True
        warnings.warn(f"{self.path}: {told}", stacklevel=4)


def _checksum(key: str, text: str) -> str:
    return hashlib.blake2b(f"{key} {text}".encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _read(key: str, kept: Any) -> dict[str, Any] | None:
    try:
        text = kept.decode("utf-8", "surrogatepass")
        if not text.startswith("{"):  # earlier versions wrote no checksum
            checksum, _, text = text.partition(" ")
            if checksum != _checksum(key, text):
                return None
        found = json.loads(text)
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, dict) else None
