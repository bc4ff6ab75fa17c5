"""Metrics between two logs: sums and counts, logged as means."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeAlias

import torch

Sums: TypeAlias = dict[str, list[float]]
MOST_LATER = 256
"""Noted tensors that wait to be read."""


class Notes:
    """Sums by mode (``train``, ``eval``) and name.

    What is noted as tensors is read when a sum is asked for, once for all of them: a GPU is not waited for after every pack.
    """

    def __init__(self) -> None:
        self._sums: dict[str, dict[str, list[float]]] = {mode: defaultdict(lambda: [0.0, 0.0]) for mode in ("train", "eval")}
        self._later: list[tuple[str, Sequence[str], torch.Tensor]] = []

    def add(self, mode: str, name: str, total: float, count: float) -> None:
        """Add to a metric's sum and count. Of training, what is no finite number is left out: of an update that is skipped and counted."""
        if mode == "train" and not math.isfinite(total):
            return
        sums = self._sums[mode][name]
        sums[0] += total
        sums[1] += count

    def add_later(self, mode: str, names: Sequence[str], totals_K: torch.Tensor, counts_K: torch.Tensor) -> None:
        """:meth:`add` for several metrics, shapes (K,), on any device."""
        self._later.append((mode, names, torch.stack((totals_K.float(), counts_K.float())).detach()))
        if len(self._later) >= MOST_LATER:
            self._read()

    def _read(self) -> None:
        if not self._later:
            return
        later, self._later = self._later, []
        table = torch.cat([values for _, _, values in later], dim=1).tolist()
        names = ((mode, name) for mode, each, _ in later for name in each)
        for (mode, name), total, count in zip(names, *table, strict=True):
            self.add(mode, name, total, count)

    def so_far(self, mode: str) -> Sums:
        """What is noted, to be given to :meth:`take_back`."""
        self._read()
        return {name: list(sums) for name, sums in self._sums[mode].items()}

    def take_back(self, mode: str, before: Sums) -> None:
        """Forget what was noted since."""
        self.clear(mode)
        for name, sums in before.items():
            self._sums[mode][name] = list(sums)

    def clear(self, mode: str) -> None:
        """Begin anew."""
        self._read()
        self._sums[mode].clear()

    def take(self, mode: str) -> Sums:
        """What is noted, by name in order; the mode begins anew."""
        found = self.so_far(mode)
        self._sums[mode].clear()
        return dict(sorted(found.items()))
