"""Rows to JSON lines or Parquet, streamed; a file appears whole or not at all."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from prefine.errors import ConfigError, DataError

BATCH_ROWS = 1000
KINDS = (".jsonl", ".jsonl.gz", ".parquet")


class RowWriter:
    """Writes rows; a context manager.

    Args:
        path: ends in one of :data:`KINDS`.

    Raises:
        ConfigError: another ending.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.name.endswith(KINDS):
            raise ConfigError(f"{path}: expected a file name that ends in {', '.join(KINDS)}")
        self.count = 0
        self._temporary = self.path.with_name(f".{os.getpid()}.{self.path.name}")
        self._parquet = _Parquet(self._temporary) if self.path.suffix == ".parquet" else None
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> RowWriter:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self._parquet is None:
            self._stream = gzip.open(self._temporary, "wb", 6) if self.path.suffix == ".gz" else self._temporary.open("wb")  # type: ignore[assignment]
        return self

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        self.count += 1
        if self._parquet is not None:
            self._parquet.write(dict(row))
        else:
            assert self._stream is not None
            self._stream.write(json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace") + b"\n")

    def write_lines(self, lines: bytes, count: int) -> None:
        """Add rows that are JSON lines already."""
        assert self._stream is not None
        self.count += count
        self._stream.write(lines)

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if self._parquet is not None:
            self._parquet.close(kind is None)
        if self._stream is not None:
            self._stream.close()
        if kind is None:
            self._temporary.replace(self.path)
        else:
            self._temporary.unlink(missing_ok=True)


class _Parquet:
    """Batches under the schema of the first one; what does not fit it is an error, never left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.writer: Any = None

    def write(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if len(self.rows) >= BATCH_ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow
        import pyarrow.parquet as parquet

        try:
            table = pyarrow.Table.from_pylist(self.rows)
            if self.writer is None:
                self.writer = parquet.ParquetWriter(self.path, table.schema)
            elif table.schema != self.writer.schema:
                table = table.cast(self.writer.schema)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, ValueError) as error:
            why = " ".join(str(error).split())[:200]
            raise DataError(f"{self.path.name}: rows differ in fields and do not fit one Parquet table ({why}); write .jsonl") from error
        self.writer.write_table(table)
        self.rows = []

    def close(self, whole: bool) -> None:
        if whole and (self.rows or self.writer is None):
            self._flush()
        if self.writer is not None:
            self.writer.close()
