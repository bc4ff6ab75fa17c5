"""A cache with a byte turned, cut or added is never trained on: it is made anew, which is said, and the run is the same."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import prefine as pf
from prefine.packing.checksum import keep
from prefine.packing.learned_tokens import learned_tokens, remember_tokens
from prefine.runs import RunDirectory

Found = tuple[Path, tuple[bytes, list[float]]]
WHAT = ("encoded", "audits", "reference")


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    content[at] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def cut(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def extend(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes() + bytes([rng.randrange(256)]))


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def remove(path: Path, rng: random.Random) -> None:
    path.unlink()


def train(model: Path, pairs: Path, folder: Path, cache: Path) -> tuple[bytes, list[float]]:
    """The weights, and what was logged."""
    pf.dpo(
        *(model, pairs), output_dir=folder, max_steps=2, final_eval="off", token_budget=4096, save_strategy="no",
        precompute_ref_log_probs=True, reference_cache_dir=cache / "reference",
    )  # fmt: skip
    return (folder / "model" / "model.safetensors").read_bytes(), [m["loss"] for m in RunDirectory(folder).metrics() if "loss" in m]


@pytest.fixture(scope="module")
def first(lab_model: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, tuple[bytes, list[float]]]]:
    """A cache that a run left, and what the run came to."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFINE_CACHE", str(folder / "cache"))
        yield folder / "cache", train(lab_model, pairs_file, folder / "run", folder / "cache")


def files_of(cache: Path) -> list[Path]:
    return sorted(p for what in WHAT for p in (cache / what).rglob("*") if p.is_file())


def test_all_of_the_cache_is_covered(first: tuple[Path, tuple[bytes, list[float]]]) -> None:
    cache, _ = first
    found = files_of(cache)
    assert {p.relative_to(cache).parts[0] for p in found} == set(WHAT)
    assert {p.name for p in found} >= {"ids.i32", "ends.i64", "pieces.i64", "rows.i64", "about.json", "checksums.json"}


@pytest.mark.parametrize("damage", [flip, cut, extend, empty, remove])
def test_damage_is_found(
    damage: Any, first: Found, lab_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, expected = first
    monkeypatch.setenv("PREFINE_CACHE", str(tmp_path / "cache"))
    rng = random.Random(damage.__name__)
    names = [p.relative_to(whole) for p in files_of(whole)]
    chosen = names if damage is flip else [rng.choice([n for n in names if n.parts[0] == what]) for what in WHAT]
    for place, name in enumerate(chosen):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        shutil.copytree(whole, tmp_path / "cache")
        damage(tmp_path / "cache" / name, rng)
        if damage is remove and name.parts[0] != "encoded":  # a file that is not there is no damage
            assert train(lab_model, pairs_file, tmp_path / str(place), tmp_path / "cache") == expected
            continue
        with pytest.warns(UserWarning, match="the cache is damaged"):
            assert train(lab_model, pairs_file, tmp_path / str(place), tmp_path / "cache") == expected, name
    # It was mended: nothing is said the next time.
    assert train(lab_model, pairs_file, tmp_path / "again", tmp_path / "cache") == expected


def test_a_cache_that_takes_no_more_is_said_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.warns(UserWarning, match="the cache takes no more .no space left on the disk.: nothing is kept for later runs"):
        keep(tmp_path / "cache" / "a.npy", full)
    assert list((tmp_path / "cache").iterdir()) == []
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("PREFINE_CACHE", str(tmp_path / "file"))
    remember_tokens("a", 7)
    assert learned_tokens("a") is None
