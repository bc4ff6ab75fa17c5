"""A prompt and the completions that share it: the one batch shape of all trainers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]


def as_ids(ids: Sequence[int] | Ids) -> Ids:
    """Token ids as a compact array, shape (tokens,)."""
    return np.asarray(ids, dtype=np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class PromptGroup:
    """Token ids of a prompt and of each completion that continues it.

    SFT has one completion, DPO and reward models two (chosen first), sampling as
    many as were drawn. ``index`` names the group within its dataset. ``ref_logps`` are
    the reference's log-probs of the completions' tokens, end to end, where precomputed.
    """

    prompt_ids: Ids
    completion_ids: tuple[Ids, ...]
    index: int = 0
    ref_logps: NDArray[np.float32] | None = None

    @property
    def num_completion_tokens(self) -> int:
        """Tokens of all completions."""
        return sum(len(ids) for ids in self.completion_ids)

    def num_tokens(self, shared: bool = True) -> int:
        """Tokens a forward pass needs; a completion's last token predicts nothing and is left out."""
        completions = sum(len(ids) - 1 for ids in self.completion_ids)
        return completions + len(self.prompt_ids) * (1 if shared else len(self.completion_ids))


@dataclass(frozen=True, slots=True, eq=False)
class WeightedGroup(PromptGroup):
    """A group whose completion tokens do not all count: ``weights`` has 1 or 0 for each, end to end."""

    weights: NDArray[np.float32] | None = None


def weights_of(group: PromptGroup) -> NDArray[np.float32]:
    """1 or 0 for each completion token, end to end: whether it counts, shape (completion tokens,)."""
    if isinstance(group, WeightedGroup) and group.weights is not None:
        return group.weights
    return np.ones(group.num_completion_tokens, np.float32)
