"""Prompt groups on disk, memory-mapped: data larger than memory trains, and a second run starts at once.

Four flat files: every token id in order (``ids.i32``), where each prompt or completion
ends (``ends.i64``), each group's first piece (``pieces.i64``) and row (``rows.i64``). Where completion tokens
are that do not count, their places in ``ids.i32`` are in a fifth (``uncounted.i64``). Labels of single responses are in ``labels.i8``.
``about.json`` says what was read; ``checksums.json`` is written last.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from prefine.packing.checksum import CHECKSUMS, list_checksums
from prefine.packing.group import LabelledGroup, PromptGroup, WeightedGroup, weights_of
from prefine.preferences.draws import held_out_count
from prefine.runs import read_json, write_json


class GroupStore(Sequence[PromptGroup]):
    """A sequence of groups read from disk on demand.

    Args:
        folder: what :meth:`write` wrote.
        selection: positions of the groups to show, or None for all.
    """

    def __init__(self, folder: Path, selection: NDArray[np.int64] | None = None) -> None:
        self.folder = Path(folder)
        self.selection = selection
        self._ids = np.memmap(self.folder / "ids.i32", np.int32, "r")
        self._ends = np.memmap(self.folder / "ends.i64", np.int64, "r")
        self._pieces = np.memmap(self.folder / "pieces.i64", np.int64, "r")
        self._rows = np.memmap(self.folder / "rows.i64", np.int64, "r")
        uncounted = self.folder / "uncounted.i64"
        self._uncounted = np.memmap(uncounted, np.int64, "r") if uncounted.exists() else np.empty(0, np.int64)
        labels = self.folder / "labels.i8"
        self._labels = np.memmap(labels, np.int8, "r") if labels.exists() else None

    def __reduce__(self) -> Any:
        return GroupStore, (self.folder, self.selection)  # a worker process maps the files itself

    @property
    def about(self) -> dict[str, Any]:
        """What :meth:`write` was told of the data."""
        return dict(read_json(self.folder / "about.json"))

    def __len__(self) -> int:
        return len(self._rows) if self.selection is None else len(self.selection)

    @overload
    def __getitem__(self, at: int) -> PromptGroup: ...
    @overload
    def __getitem__(self, at: slice) -> list[PromptGroup]: ...
    def __getitem__(self, at: int | slice) -> PromptGroup | list[PromptGroup]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        at = at % len(self)
        place = at if self.selection is None else int(self.selection[at])
        first, last = int(self._pieces[place]), int(self._pieces[place + 1])
        bounds = [0 if first == 0 else int(self._ends[first - 1]), *map(int, self._ends[first:last])]
        pieces = [np.asarray(self._ids[a:b]) for a, b in itertools.pairwise(bounds)]
        group = PromptGroup(pieces[0], tuple(pieces[1:]), int(self._rows[place]))
        low, high = np.searchsorted(self._uncounted, (bounds[1], bounds[-1]))
        weights = None
        if low != high:
            weights = np.ones(group.num_completion_tokens, np.float32)
            weights[self._uncounted[low:high] - bounds[1]] = 0
        if self._labels is not None:
            return LabelledGroup(group.prompt_ids, group.completion_ids, group.index, None, weights, (int(self._labels[place]),))
        if weights is None:
            return group
        return WeightedGroup(group.prompt_ids, group.completion_ids, group.index, None, weights)

    @property
    def labels(self) -> NDArray[np.int8]:
        """Of single responses the label of each, shape (groups,)."""
        assert self._labels is not None
        return np.asarray(self._labels if self.selection is None else self._labels[self.selection])

    def select(self, places: NDArray[np.int64]) -> GroupStore:
        """The groups at these positions, without reading them."""
        return GroupStore(self.folder, places if self.selection is None else self.selection[places])

    def most_id(self) -> int:
        """The largest token id in the files, those of unselected groups too."""
        return int(self._ids.max()) if len(self._ids) else 0

    def most_tokens(self) -> int:
        """Tokens of the largest group in the files, all its completions together."""
        ends = np.concatenate(([0], self._ends))
        return int(np.diff(ends[self._pieces]).max()) if len(self._rows) else 0

    def prompt_keys(self) -> NDArray[np.uint64]:
        """A hash of each group's prompt, shape (groups,): equal prompts have equal keys."""
        return np.array([prompt_key(group) for group in self], np.uint64)

    @staticmethod
    def write(folder: Path, groups: Iterable[PromptGroup], about: Callable[[], dict[str, Any]]) -> GroupStore:
        """Write groups one by one; the folder appears whole or not at all.

        Args:
            about: called once all groups are written; kept as ``about.json``.
        """
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        tokens = pieces = 0
        try:
            with (
                (temporary / "ids.i32").open("wb") as ids,
                (temporary / "ends.i64").open("wb") as ends,
                (temporary / "pieces.i64").open("wb") as firsts,
                (temporary / "rows.i64").open("wb") as rows,
            ):
                firsts.write(np.int64(0).tobytes())
                for group in groups:
                    places = np.flatnonzero(weights_of(group) == 0) + tokens + len(group.prompt_ids)
                    if len(places):
                        with (temporary / "uncounted.i64").open("ab") as uncounted:
                            uncounted.write(places.astype(np.int64).tobytes())
                    if isinstance(group, LabelledGroup):
                        with (temporary / "labels.i8").open("ab") as labels:
                            labels.write(np.array(group.labels, np.int8).tobytes())
                    for piece in (group.prompt_ids, *group.completion_ids):
                        ids.write(np.ascontiguousarray(piece, np.int32).tobytes())
                        tokens += len(piece)
                        pieces += 1
                        ends.write(np.int64(tokens).tobytes())
                    firsts.write(np.int64(pieces).tobytes())
                    rows.write(np.int64(group.index).tobytes())
            write_json(temporary / "about.json", about())
            list_checksums(temporary)
            _move_into_place(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return GroupStore(folder)


def _move_into_place(temporary: Path, folder: Path) -> None:
    """Rename; where another process was first with the same folder, keep its."""
    try:
        temporary.replace(folder)
    except OSError:
        if not (folder / CHECKSUMS).exists():
            raise
        shutil.rmtree(temporary)


def prompt_key(group: PromptGroup) -> int:
    """64 bits of the prompt's token ids' hash."""
    return int.from_bytes(hashlib.blake2b(group.prompt_ids.tobytes(), digest_size=8).digest(), "little")


def hold_out(
    keys: NDArray[np.uint64], fraction: float | None, seed: int, most: int = 500, labels: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Which groups are held out, shape (groups,): never the same prompt on both sides.

    The prompts whose seeded hash is smallest are held out, so that rows added later move few prompts.

    Args:
        labels: whether each group's response is wanted: then of prompts with wanted responses, with unwanted ones and with both as
            large a part each, and never all of one kind: of a rare label some are held out and some are trained on.
    """
    prompts = np.unique(keys)
    count = held_out_count(len(prompts), fraction, most)
    salt = seed.to_bytes(8, "little", signed=True)

    def first(of: NDArray[np.uint64], number: int) -> list[int]:
        return sorted(of.tolist(), key=lambda k: hashlib.blake2b(k.to_bytes(8, "little"), key=salt, digest_size=8).digest())[:number]

    if labels is None:
        chosen = first(prompts, count)
    else:
        kind = np.isin(prompts, keys[labels]) + 2 * np.isin(prompts, keys[~labels])
        kinds = [prompts[kind == k] for k in np.unique(kind)]
        chosen = [p for of in kinds for p in first(of, min(math.ceil(count * len(of) / len(prompts)), len(of) - 1))]
        chosen = chosen or first(prompts, count)
    return np.isin(keys, np.array(chosen, np.uint64))
