"""Checkpoints that are damaged are told from whole ones, by their manifest; a kill at any moment of saving leaves a whole one."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from prefine import checkpoints
from prefine.errors import CheckpointError, StorageError

FILES = {
    "adapter_model.safetensors": b"weights" * 50,
    "optimizer.pt": b"moments" * 90,
    "scheduler.pt": b"rate",
    "rng_state.pth": b"random" * 20,
    "trainer_state.json": b'{"global_step": 4}',
    "sampling.pt": b"rollouts",
    "deep/shard-0.bin": b"shard" * 10,
}


def checkpoint(root: Path, step: int) -> Path:
    staged = root / checkpoints.SAVING / f"checkpoint-{step}"
    checkpoints.begin(root)
    for name, content in FILES.items():
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        (staged / name).write_bytes(content + str(step).encode())
    checkpoints.seal(staged)
    checkpoints.publish(staged, root / staged.name)
    return root / staged.name


def flip(path: Path, place: int | None = None) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    **{f"flip {name}": (lambda c, n=name: flip(c / n), f"{name} was altered") for name in FILES},
    **{f"miss {name}": (lambda c, n=name: (c / n).unlink(), f"{name} is missing") for name in FILES},
    **{f"truncate {name}": (lambda c, n=name: truncate(c / n), f"{name} has") for name in FILES},
    **{f"empty {name}": (lambda c, n=name: (c / n).write_bytes(b""), f"{name} has 0 bytes, not") for name in FILES},
    "a folder for a file": (lambda c: to_folder(c / "optimizer.pt"), "optimizer.pt"),
    "an empty folder": (lambda c: [shutil.rmtree(c), c.mkdir()], "prefine_manifest.json is missing"),
    "no manifest": (lambda c: (c / checkpoints.MANIFEST).unlink(), "prefine_manifest.json is missing"),
    "an empty manifest": (lambda c: (c / checkpoints.MANIFEST).write_bytes(b""), "prefine_manifest.json is torn or altered"),
    "a torn manifest": (lambda c: truncate(c / checkpoints.MANIFEST), "prefine_manifest.json is torn or altered"),
    "a manifest of nothing": (lambda c: (c / checkpoints.MANIFEST).write_text("{}"), "prefine_manifest.json is torn or altered"),
    "a list for a manifest": (lambda c: (c / checkpoints.MANIFEST).write_text("[]"), "prefine_manifest.json is torn or altered"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_the_next_older_taken(tmp_path: Path, kind: str) -> None:
    older, newer = checkpoint(tmp_path, 2), checkpoint(tmp_path, 10)  # by number, not by name
    assert checkpoints.newest(tmp_path) == newer
    damage, told = DAMAGE[kind]
    damage(newer)
    heard: list[tuple[str, list[str]]] = []
    assert checkpoints.newest(tmp_path, lambda name, wrong: heard.append((name, wrong))) == older
    [(name, [wrong])] = heard
    assert name == "checkpoint-10"
    assert told in wrong
    damage(older)
    with pytest.raises(CheckpointError, match=r"checkpoint-10 \(.*checkpoint-2 \(.*start over"):
        checkpoints.newest(tmp_path)
    with pytest.raises(CheckpointError, match="damaged") if checkpoints.is_verifiable(newer) else pytest.raises(CheckpointError):
        checkpoints.check(newer)
        checkpoints.newest(tmp_path)


def test_every_byte_of_a_checkpoint_counts(tmp_path: Path) -> None:
    """Any single bit, of the manifest too."""
    folder = checkpoint(tmp_path, 1)
    draw = random.Random(0)
    for path in (p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        for place in draw.sample(range(len(content)), min(len(content), 40)):
            for bit in (0, 5, 7):
                path.write_bytes(content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :])
                [wrong] = checkpoints.faults(folder)
                assert wrong.startswith(path.relative_to(folder).as_posix())
        path.write_bytes(content)
    assert checkpoints.faults(folder) == []


def test_what_is_no_checkpoint_is_left_alone(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path, 3)
    for name in ("checkpoint-foo", "checkpoint-", "checkpoint-7-old", "checkpoint--1"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-5").write_text("a file")
    heard: dict[str, list[str]] = {}
    assert checkpoints.newest(tmp_path, heard.__setitem__) == whole
    assert set(heard) == {"checkpoint-foo", "checkpoint-", "checkpoint-7-old", "checkpoint--1", "checkpoint-5"}
    checkpoints.rotate(tmp_path, whole, 1)
    assert {p.name for p in tmp_path.glob("checkpoint-*")} == {"checkpoint-3", *heard}
    shutil.rmtree(whole)
    assert checkpoints.newest(tmp_path) is None  # strays are no damaged checkpoint
    assert checkpoints.newest(tmp_path / "nowhere") is None


def test_those_of_earlier_versions_are_taken_unverified(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 3)
    (folder / checkpoints.MANIFEST).unlink()
    (folder / checkpoints.COMPLETE).touch()
    assert checkpoints.newest(tmp_path) == folder
    assert not checkpoints.is_verifiable(folder)
    (folder / "trainer_state.json").unlink()
    with pytest.raises(CheckpointError, match=r"trainer_state\.json is missing"):
        checkpoints.newest(tmp_path)


def test_a_kill_at_any_moment_of_saving_leaves_a_whole_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before every single change of the disk, with a limit of one and with the same step saved again."""

    class Killed(BaseException):
        pass

    left = 10**9

    def before(change: Callable[..., object]) -> Callable[..., object]:
        def counted(*args: object, **kwargs: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return change(*args, **kwargs)

        return counted

    for owner, name in ((os, "rename"), (os, "replace"), (os, "unlink"), (os, "rmdir"), (os, "fsync"), (os, "mkdir"), (Path, "write_text"),
                        (Path, "write_bytes"), (Path, "replace"), (Path, "mkdir"), (Path, "unlink"), (shutil, "rmtree")):  # fmt: skip
        monkeypatch.setattr(owner, name, before(getattr(owner, name)))
    for again in (False, True):
        moments = 0
        while True:
            left, root = 10**9, tmp_path / f"{again}-{moments}"
            checkpoint(root, 4)
            left = moments
            try:
                saved = checkpoint(root, 4 if again else 6)
                checkpoints.rotate(root, saved, 1)
                shutil.rmtree(root / checkpoints.SAVING)
                break
            except Killed:
                left = 10**9
            found = checkpoints.newest(root)
            assert found is not None
            assert checkpoints.faults(found) == []
            after = checkpoint(root, 8)  # and the next one is saved as if nothing had been
            checkpoints.rotate(root, after, 1)
            assert checkpoints.newest(root) == after
            assert sorted(p.name for p in root.glob("*-*")) == ["checkpoint-8"]
            moments += 1
        left = 10**9
        assert moments > 20


@pytest.mark.parametrize(
    ("steps", "now", "keep", "best", "left"),
    [
        ([2, 4, 6], 6, 2, None, [4, 6]),
        ([2, 4, 6], 6, 1, None, [6]),
        ([2, 4, 6], 6, 1, 2, [2, 6]),
        ([2, 4, 6], 6, 2, 2, [2, 6]),
        ([2, 4, 6], 6, None, None, [2, 4, 6]),
        ([2, 10, 3], 3, 2, None, [2, 3]),  # 10 is of a run that went on from 2
        ([2, 10, 3], 3, 1, None, [3]),
    ],
)
def test_the_oldest_go_by_their_step(
    tmp_path: Path, steps: list[int], now: int, keep: int | None, best: int | None, left: list[int]
) -> None:
    for age, step in enumerate(steps):
        os.utime(checkpoint(tmp_path, step), (10**9 - age, 10**9 - age))  # a clock that goes backwards
    checkpoints.rotate(tmp_path, tmp_path / f"checkpoint-{now}", keep, None if best is None else tmp_path / f"checkpoint-{best}")
    assert sorted(int(p.name[11:]) for p in tmp_path.glob("checkpoint-*")) == left


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "no space left"),
        (OSError(122, "Disk quota exceeded"), "quota"),
        (OSError(30, "Read-only file system"), "read-only"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), "took no more"),
        (RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"), "took no more"),
        (RuntimeError("basic_ios::clear: iostream error"), "took no more"),
        (Exception("Error while serializing: I/O error: No space left on device (os error 28)"), "no space left"),
    ],
)
def test_a_full_disk_is_one_sentence_whoever_says_so(error: Exception, told: str) -> None:
    with pytest.raises(StorageError, match=f"the checkpoint could not be written: .*{told}"), checkpoints.storing("the checkpoint"):
        raise error
    with pytest.raises(ZeroDivisionError), checkpoints.storing("the checkpoint"):
        raise ZeroDivisionError


def test_the_manifest_names_every_file(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 2)
    table = json.loads((folder / checkpoints.MANIFEST).read_text())["files"]
    assert {name: entry["bytes"] for name, entry in table.items()} == {name: len(content) + 1 for name, content in FILES.items()}
