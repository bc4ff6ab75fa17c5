"""The errors Prefine raises for a user's mistake.

PrefineError (ValueError)
├── DataError          a file, row or column of preference data is wrong
│   └── ColumnError    a column that is needed is not there
├── ConfigError        an option is unknown, contradicts another, or would be ignored
├── ModelError         a model folder, tokenizer or reference does not fit
├── CheckpointError    a checkpoint is damaged
├── StorageError       the disk is full, or cannot be written
└── MissingFile        (also FileNotFoundError) a path does not exist

Every message says what was wrong, where, what was expected, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable

from prefine.redaction import redact


class PrefineError(ValueError):
    """Base of every error that is the user's to mend. Column names and the like are untrusted: no terminal codes get through."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class DataError(PrefineError):
    """Preference data that cannot be read or used."""


class ColumnError(DataError):
    """A column that is needed is not there."""


class ConfigError(PrefineError):
    """An option that is unknown, contradicts another, or would be ignored."""


class ModelError(PrefineError):
    """A model, tokenizer or reference that does not fit."""


class CheckpointError(PrefineError):
    """A checkpoint that is damaged."""


class StorageError(PrefineError):
    """A disk that is full, or cannot be written."""


class Stopped(Exception):
    """Training that was stopped from outside once its step was done and its checkpoint saved: no error, and no result yet."""


class MissingFile(PrefineError, FileNotFoundError):
    """A path that does not exist."""


def printable(text: str) -> str:
    """Text without control characters, which could drive a terminal, and without secrets."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in redact(text))


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``", did you mean 'x'?"`` for the nearest known word, or an empty string."""
    import difflib

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""
