"""Which process computes which rows: by tokens, as all wait at the update for the one that has the most."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch.utils.data import Sampler


def dealt(costs: Sequence[int], processes: int, most: int | None = None) -> list[list[int]]:
    """Places for each process, in order: the dearest first, to whom has the least so far.

    Args:
        most: how many a process takes at most; None for any number.
    """
    parts: list[list[int]] = [[] for _ in range(processes)]
    sums = [0] * processes
    for place in sorted(range(len(costs)), key=lambda i: -costs[i]):
        least = min((i for i in range(processes) if most is None or len(parts[i]) < most), key=sums.__getitem__)
        parts[least].append(place)
        sums[least] += costs[place]
    return [sorted(part) for part in parts]


class DealtByTokens(Sampler[int]):
    """Another sampler's order, in which each process's rows of a batch have about as many tokens; the rows of a batch stay the same.

    Args:
        cost: tokens of the row at a place; each: rows of a batch that one process takes.
    """

    def __init__(self, sampler: Iterable[int], cost: Callable[[int], int], each: int, processes: int) -> None:
        self.sampler: Any = sampler
        self.cost = cost
        self.each = each
        self.processes = processes

    def __len__(self) -> int:
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Of the sampler whose order it is."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        batch: list[int] = []
        for place in self.sampler:
            batch.append(place)
            if len(batch) == self.each * self.processes:
                for part in dealt([self.cost(i) for i in batch], self.processes, self.each):
                    yield from (batch[i] for i in part)
                batch = []
        yield from batch  # the last, which is not full
