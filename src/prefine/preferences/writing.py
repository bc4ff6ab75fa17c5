"""Rows to JSON lines or Parquet, streamed; a file appears whole or not at all."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from prefine.errors import ConfigError, DataError, some
from prefine.runs import to_json

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
            self._stream.write(to_json(row, marked=False, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")

    def __exit__(self, kind: Any, *rest: Any) -> None:
        try:
            if self._parquet is not None:
                self._parquet.close(kind is None)
            if self._stream is not None:
                self._stream.close()
            if kind is None:
                self._temporary.replace(self.path)
        finally:
            self._temporary.unlink(missing_ok=True)


OPTIONAL = {"chosen": ("score_chosen", "score_rejected", "tools"), "completion": ("tools",), "answers": ("tools",)}
"""Fields of the canonical format that some rows have: a Parquet table has them for all."""


class _Parquet:
    """Batches under the schema of the first row; what does not fit it is an error, never left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.writer: Any = None
        self.schema: Any = None

    def write(self, row: dict[str, Any]) -> None:
        for telling, names in OPTIONAL.items():
            if telling in row:
                row = dict.fromkeys(names) | row
        row = {name: _cell(value) for name, value in row.items()}
        if self.schema is None:
            self.schema = _schema(row)
        if set(row) != set(self.schema.names):
            self._misfit(f"columns {some(sorted(set(row) ^ set(self.schema.names)))} are not in every row")
        for name, value in row.items():
            if isinstance(value, list) and any(isinstance(m, dict) and not m.keys() <= {"role", "content"} for m in value):
                self._misfit(f"messages in {name} have more than role and content")
        self.rows.append(row)
        if len(self.rows) >= BATCH_ROWS:
            self._flush()

    def _misfit(self, why: str) -> None:
        raise DataError(f"{self.path.name}: rows do not fit one Parquet table ({why}); write .jsonl")

    def _flush(self) -> None:
        import pyarrow
        import pyarrow.parquet as parquet

        if self.schema is None:
            self.schema = pyarrow.schema([])
        if self.writer is None:
            self.writer = parquet.ParquetWriter(self.path, self.schema)
        try:
            self.writer.write_table(pyarrow.Table.from_pylist(self.rows, self.schema))
        except (pyarrow.ArrowException, TypeError, ValueError) as error:
            self._misfit(" ".join(str(error).split())[:200])
        self.rows = []

    def close(self, whole: bool) -> None:
        if whole and (self.rows or self.writer is None):
            self._flush()
        if self.writer is not None:
            self.writer.close()


def _cell(value: Any) -> Any:
    """Objects, and tools, as JSON text: a table has no place for free-form fields."""
    tools = isinstance(value, list) and any(isinstance(v, dict) and "role" not in v for v in value)
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict) or tools else value


def _schema(row: dict[str, Any]) -> Any:
    import pyarrow as pa

    message = pa.struct([("role", pa.string()), ("content", pa.string())])

    def kind(name: str, value: Any) -> Any:
        if name.startswith("score_"):
            return pa.float64()
        if isinstance(value, list):
            first = value[0] if value else ""
            return pa.list_(message if isinstance(first, dict) else pa.float64() if isinstance(first, float) else pa.string())
        return pa.bool_() if isinstance(value, bool) else pa.int64() if isinstance(value, int) else pa.string()

    return pa.schema([(name, kind(name, value)) for name, value in row.items()])
