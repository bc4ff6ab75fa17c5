"""What is kept for later runs is what was written: each file's checksum is part of its name, or stands in a list beside it."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from prefine.checkpoints import why_not_written

CHECKSUMS = "checksums.json"
"""In a folder: its files' checksums."""


def checksum(path: Path) -> str:
    """A hash of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:24]


def text_checksum(text: str) -> str:
    """A hash of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def keep(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file that appears whole, under a name with its checksum. Where the disk takes no more, that is said, and nothing is kept."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path.with_name(f"{path.stem}-{checksum(temporary)}{path.suffix}"))
    except Exception as error:
        reason = why_not_written(error.__cause__ or error)
        if reason is None:
            raise
        warnings.warn(f"{path.parent}: the cache takes no more ({reason}): nothing is kept for later runs", stacklevel=3)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def kept(path: Path) -> Path | None:
    """The file that :func:`keep` wrote for ``path``, as it was written; None where there is none. A damaged one is removed, and said."""
    for found in sorted(path.parent.glob(f"{path.stem}-*{path.suffix}")):
        if found.stem == f"{path.stem}-{checksum(found)}":
            return found
        found.unlink()
        damaged(found)
    return None


def list_checksums(folder: Path) -> None:
    """Write down the checksums of a folder's files."""
    (folder / CHECKSUMS).write_text(json.dumps({p.name: checksum(p) for p in sorted(folder.iterdir())}))


def is_whole(folder: Path) -> bool:
    """Whether a folder holds what :func:`list_checksums` saw in it, byte by byte. That it is there and does not is said."""
    try:
        whole = all(checksum(folder / name) == digest for name, digest in json.loads((folder / CHECKSUMS).read_bytes()).items())
    except (OSError, ValueError, AttributeError):
        whole = False
    if not whole and folder.exists():
        damaged(folder)
    return whole


def damaged(path: Path) -> None:
    """Say that what lies there is not taken."""
    warnings.warn(f"{path}: the cache is damaged, or of an older version: it is made anew", stacklevel=4)
