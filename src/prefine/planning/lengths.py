"""How long the data's groups are, and what packs a token budget makes of their batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefine.packing.budget import TokenBudget
from prefine.packing.group import PromptGroup
from prefine.planning.skeleton import Shape, groups_of

MOST_GROUPS = 4096
"""Groups that are looked at, drawn with a seed, where there are more."""


@dataclass(frozen=True)
class Lengths:
    """Lengths of groups, or of a sample of them.

    Attributes:
        shapes: the sample's; total: how many groups there are.
    """

    shapes: tuple[Shape, ...]
    total: int

    @classmethod
    def of(cls, groups: Sequence[PromptGroup], seed: int = 0) -> Lengths:
        """Those of a dataset."""
        places: Sequence[int] = range(len(groups))
        if len(groups) > MOST_GROUPS:
            places = np.sort(np.random.default_rng(seed).choice(len(groups), MOST_GROUPS, replace=False)).tolist()
        found = (groups[int(i)] for i in places)
        return cls(tuple((len(g.prompt_ids), tuple(map(len, g.completion_ids))) for g in found), len(groups))

    def mean(self, of: str) -> float:
        """Mean tokens a group: ``shared`` (its prompt once), ``unshared``, or ``scored`` (its completions')."""
        if of == "scored":
            return float(np.mean([sum(c) for _, c in self.shapes]))
        return float(np.mean([p * (len(c) if of == "unshared" else 1) + sum(c) - len(c) for p, c in self.shapes]))

    @property
    def longest(self) -> Shape:
        """The group of the most tokens."""
        return max(self.shapes, key=lambda s: s[0] + sum(s[1]))

    def largest_pack(self, budget: TokenBudget, batch: int, seed: int = 0) -> tuple[list[Shape], bool]:
        """The pack of the most tokens among batches drawn as an epoch draws them, and whether some batch takes several packs."""
        groups = groups_of(self.shapes)
        order = np.random.default_rng(seed).permutation(len(groups)).tolist()
        packs, several = [], False
        for at in range(0, len(order), batch):
            split = budget.split([groups[i] for i in order[at : at + batch]])
            several = several or len(split) > 1
            packs += split
        largest = max(packs, key=lambda pack: sum(g.num_tokens() for g in pack))
        return [(len(g.prompt_ids), tuple(map(len, g.completion_ids))) for g in largest], several
