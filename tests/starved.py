"""Memory that runs out at a chosen operation, wherever that is: forward, backward, optimizer, sampling, merging."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Starved(TorchDispatchMode):
    """Within the block the ``fails_at``-th operation whose result is new and of 256 bytes or more raises, after it computed.

    Args:
        fails_at: counted from 1; several: each of them; none: it only counts. repeats: so many operations in a row raise.
    """

    def __init__(self, *fails_at: int, words: str = "CUDA out of memory. Tried to allocate 2.00 GiB") -> None:
        super().__init__()
        self.fails_at = set(fails_at)
        self.words = words
        self.count = 0
        self.failed: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        found = out[0] if isinstance(out, tuple | list) and out else out
        if not func._schema.is_mutable and isinstance(found, torch.Tensor) and not func.is_view and found.nbytes >= 256:
            self.count += 1
            if self.count in self.fails_at:
                self.failed.append(str(func))
                raise torch.OutOfMemoryError(self.words)
        return out


def places(run: Callable[[Starved], Any], number: int, seed: int = 0) -> list[int]:
    """Random operations of a run, spread over its length."""
    starved = Starved()
    run(starved)
    draw = random.Random(seed)
    ends = [1 + i * starved.count // number for i in range(number + 1)]
    return [draw.randint(a, max(a, b - 1)) for a, b in itertools.pairwise(ends)]
