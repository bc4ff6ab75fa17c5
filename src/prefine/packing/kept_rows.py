"""What is kept for later commands in SQLite, a row a key: whole after a kill at any moment, and given back only as it was written."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

SUFFIXES = ("", "-journal", "-wal", "-shm")
"""A database's files."""
BROKEN = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_MISMATCH)
"""What SQLite says of a file that is no database, a damaged one, or one with other tables."""
WAIT_SECONDS = 30.0
"""For another process that writes."""
T = TypeVar("T")


class KeptRows:
    """Values by key. A database that is broken is set aside, one that cannot be used done without; both are said once.

    Args:
        table: its name; other tables of the file are left alone.
        what: is kept, in words.
    """

    def __init__(self, path: Path, table: str, what: str) -> None:
        self.path, self.table, self.what = path, table, what
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        self._told: set[str] = set()
        with self._lock:
            self._with(lambda database: None)

    def get(self, key: str) -> dict[str, Any] | None:
        """The value kept under a key; None where there is none, or another than was written."""
        with self._lock:
            row = self._with(
                lambda database: database.execute(f"select value, checksum from {self.table} where key = ?", (key,)).fetchone()
            )
        if row is None:
            return None
        if row[1] == _checksum(key, row[0]):
            with suppress(ValueError, RecursionError):
                value = json.loads(row[0])
                if isinstance(value, dict):
                    return value
        self._say("altered", f"{self.path}: {self.what} were altered since they were kept; those are not believed, and made anew")
        return None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a value."""
        text = json.dumps(value).encode()
        row = (key, text, _checksum(key, text))
        with self._lock:
            self._with(lambda database: database.execute(f"insert or replace into {self.table} values (?, ?, ?)", row))

    def close(self) -> None:
        """Let the file go."""
        if self._database is not None:
            self._database.close()
            self._database = None

    def _with(self, act: Callable[[sqlite3.Connection], T]) -> T | None:
        if "unusable" in self._told:
            return None
        for _ in range(2):
            try:
                if self._database is None:
                    self._database = self._open()
                return act(self._database)
            except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # SQLite's own words may hold a broken file's bytes
                self.close()
                broken = isinstance(error, UnicodeDecodeError) or getattr(error, "sqlite_errorcode", -1) & 0xFF in BROKEN
                if not broken or not self._set_aside(error):
                    self._say("unusable", f"{self.path}: cannot be used ({error}); {self.what} are not kept for later")
                    return None
        return None

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(self.path, check_same_thread=False, timeout=WAIT_SECONDS, isolation_level=None)
        database.text_factory = bytes  # what is no UTF-8 is an altered row
        database.execute("pragma trusted_schema = off")
        database.execute(f"create table if not exists {self.table} (key text primary key, value blob not null, checksum text not null)")
        database.execute(f"select key, value, checksum from {self.table} limit 0")
        return database

    def _set_aside(self, error: Exception) -> bool:
        name = next(n for i in range(10**6) if not (n := self.path.with_name(f"{self.path.name}.damaged-{i}")).exists())
        try:
            for suffix in SUFFIXES:
                with suppress(FileNotFoundError):
                    self.path.with_name(self.path.name + suffix).replace(name.with_name(name.name + suffix))
        except OSError:
            return False
        self._say("damaged", f"{self.path}: the cache is damaged ({error}); it is set aside as {name.name}, and made anew")
        return True

    def _say(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            warnings.warn(text, stacklevel=4)


def _checksum(key: str, value: Any) -> bytes:
    content = value if isinstance(value, bytes) else repr(value).encode()
    return hashlib.sha256(key.encode() + b"\0" + content).hexdigest()[:32].encode()
