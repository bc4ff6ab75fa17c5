"""Checkpoints on disk: each whole or not there at all, and known by a manifest of its files.

A checkpoint is written in ``.saving`` beside its place, synced to the disk, given its manifest and renamed. The manifest tells
later whether any file was altered. What is in a checkpoint is its trainer's business; a file put there later is not looked at.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prefine.errors import CheckpointError, PrefineError, StorageError

MANIFEST = "prefine_manifest.json"
"""Written last into a checkpoint: the size and BLAKE2b hash of each of its files."""
COMPLETE = "prefine_complete"
"""What earlier versions wrote last: it says that all files are there, and nothing of their content."""
SAVING = ".saving"
"""Beside checkpoints: where one is written, and whence one is removed."""
FULL = {
    errno.ENOSPC: "no space left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "permission denied",
    errno.EIO: "the disk failed",
}
"""What the system says when it does not write, in words."""


def step_of(folder: Path) -> int | None:
    """The step of a checkpoint's folder; None for what is none, as ``checkpoint-best`` or a file."""
    found = re.fullmatch(r"checkpoint-([0-9]+)", folder.name)
    return int(found[1]) if found and folder.is_dir() else None


def begin(root: Path) -> None:
    """Make room for a checkpoint that is to be written: what a killed process left half done is removed."""
    finish(root)
    shutil.rmtree(root / SAVING, ignore_errors=True)
    (root / SAVING).mkdir(parents=True)


def seal(folder: Path) -> None:
    """Sync a folder's files to the disk, then write its manifest."""
    table: dict[str, dict[str, int | str]] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "blake2b").hexdigest()
        table[path.relative_to(folder).as_posix()] = {"bytes": path.stat().st_size, "blake2b": digest}
    sync(folder)
    (folder / MANIFEST).write_text(_manifest(table), encoding="utf-8")
    sync(folder)


def sync(folder: Path) -> None:
    """Have the system write a folder's files to the disk."""
    for place in (folder, *folder.rglob("*")):
        handle = os.open(place, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:  # some network disks cannot sync a folder
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(handle)


def publish(staged: Path, place: Path) -> None:
    """Put a sealed folder in its place, for what may stand there already."""
    if place.exists():
        _set_aside(place, staged.parent)
    staged.replace(place)
    handle = os.open(place.parent, os.O_RDONLY)
    with suppress(OSError):
        os.fsync(handle)
    os.close(handle)


def remove(folder: Path) -> None:
    """Remove a checkpoint; killed meanwhile, it leaves no part of one in its place."""
    shutil.rmtree(_set_aside(folder, folder.parent / SAVING), ignore_errors=True)


def _set_aside(folder: Path, where: Path) -> Path:
    where.mkdir(exist_ok=True)
    number = next(n for n in range(10**6) if not (where / f"old-{n}").exists())
    return folder.replace(where / f"old-{number}")


def rotate(root: Path, current: Path, keep: int | None, best: Path | None = None) -> None:
    """Remove the oldest checkpoints, so that ``keep`` are left, the current and the best always among them.

    Age is told by the step, not by a clock. Those past the current one are of a run that was begun anew, and go first.
    """
    if not keep or keep < 1:
        return
    spared = {current.name} | ({best.name} if best is not None and best.exists() else set())
    now = step_of(current) or 0
    others = [(step < now, step, p) for p in root.iterdir() if (step := step_of(p)) is not None and p.name not in spared]
    for _, _, path in sorted(others)[: max(0, len(others) + len(spared) - max(keep, len(spared)))]:
        remove(path)


def faults(folder: Path) -> list[str]:
    """What is wrong with a checkpoint, a phrase each; empty where it is whole, or of an earlier version, without a manifest."""
    try:
        text = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        if not (folder / COMPLETE).exists():
            return [f"{MANIFEST} is missing, so it was not saved to its end"]
        return [] if (folder / "trainer_state.json").exists() else ["trainer_state.json is missing"]
    except OSError as error:
        return [f"{MANIFEST} cannot be read ({error.strerror})"]
    try:
        table = json.loads(text)["files"]
        if _manifest(table).encode() != text:
            raise ValueError
        return [fault for name, known in table.items() if (fault := _fault(folder / name, name, known["bytes"], known["blake2b"]))]
    except (ValueError, KeyError, TypeError, AttributeError):
        return [f"{MANIFEST} is torn or altered"]


def _fault(path: Path, name: str, size: int, known: str) -> str:
    try:
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, not {size}"
        with path.open("rb") as stream:
            return "" if hashlib.file_digest(stream, "blake2b").hexdigest() == known else f"{name} was altered"
    except FileNotFoundError:
        return f"{name} is missing"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"


def is_verifiable(folder: Path) -> bool:
    """Whether a checkpoint has a manifest; those of earlier versions have none."""
    return (folder / MANIFEST).exists()


def newest(root: Path, told: Callable[[str, list[str]], None] = lambda name, faults: None) -> Path | None:
    """The newest whole checkpoint; None where there is none at all.

    Args:
        told: hears of each that is passed over: its name and what is wrong.

    Raises:
        CheckpointError: there are checkpoints, and all are damaged.
    """
    if not root.is_dir():
        return None
    finish(root)
    damaged = []
    found = {p: step for p in root.glob("checkpoint-*") if (step := step_of(p)) is not None}
    for path in sorted(set(root.glob("checkpoint-*")) - found.keys()):
        told(path.name, ["it is no checkpoint (a folder checkpoint-STEP is), and is left alone"])
    for path in sorted(found, key=lambda p: found[p], reverse=True):
        wrong = faults(path)
        if not wrong:
            return path
        told(path.name, wrong)
        damaged.append(f"{path.name} ({', '.join(wrong)})")
    if damaged:
        raise CheckpointError(
            f"{root}: no checkpoint is complete: {'; '.join(damaged)}. "
            "To start over, remove that folder and give --resume, or give another --output-dir"
        )
    return None


def check(folder: Path) -> None:
    """Refuse a checkpoint that is damaged; one without manifest or marker, as another tool's, passes.

    Raises:
        CheckpointError: what is wrong.
    """
    wrong = faults(folder) if is_verifiable(folder) else []
    if wrong:
        raise CheckpointError(f"{folder}: the checkpoint is damaged: {', '.join(wrong)}; resume from another")


def finish(root: Path) -> None:
    """Put in its place what was sealed when its process was killed."""
    for staged in (root / SAVING).glob("checkpoint-*"):
        if is_verifiable(staged) and not (root / staged.name).exists() and not faults(staged):
            try:
                staged.replace(root / staged.name)
            except OSError:  # another process of this run did
                continue


def _manifest(table: dict[str, dict[str, int | str]]) -> str:
    """The manifest's text: it holds its own hash, so that a change of it is not taken for a change of a file."""
    own = hashlib.blake2b(json.dumps(table, sort_keys=True).encode()).hexdigest()
    return json.dumps({"files": table, "blake2b": own}, indent=1, sort_keys=True) + "\n"


@contextmanager
def storing(what: str) -> Iterator[None]:
    """A full or read-only disk met within the block becomes one sentence.

    Args:
        what: is being written, as ``the checkpoint of step 5``.

    Raises:
        StorageError: it could not be written, and why.
    """
    try:
        yield
    except PrefineError:
        raise
    except Exception as error:  # safetensors and torch have errors of their own for it
        reason = why_not_written(error)
        if reason is None:
            raise
        raise StorageError(f"{what} could not be written: {reason}") from error


def why_not_written(error: BaseException) -> str | None:
    """Why the disk took no more, in words; None where an error speaks of something else."""
    if isinstance(error, OSError) and error.errno in FULL:
        return FULL[error.errno]
    text = str(error)
    for code, reason in FULL.items():
        if os.strerror(code) in text or f"os error {code})" in text:
            return reason
    if "PytorchStreamWriter failed" in text or "iostream error" in text or ("inline_container" in text and "unexpected pos" in text):
        return "the disk took no more, as a full one does"
    return None
