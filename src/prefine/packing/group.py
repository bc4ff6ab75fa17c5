"""A prompt and the completions that share it: the one batch shape of all trainers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
WANTED, UNWANTED, MISMATCHED = 1, 0, -1
"""What a single response is to its prompt: another's is only there for a baseline."""


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

    def columns(self) -> dict[str, Any]:
        """The ids under the names of TRL's prepared columns: a pair's ``prompt_ids``, ``chosen_ids``, ``rejected_ids``; a single
        sequence's ``input_ids`` and ``labels`` (-100 where a token does not count).
        """
        prompt = self.prompt_ids.tolist()
        if len(self.completion_ids) == 2:
            return {"prompt_ids": prompt, "chosen_ids": self.completion_ids[0].tolist(), "rejected_ids": self.completion_ids[1].tolist()}
        ids = [i for completion in self.completion_ids for i in completion.tolist()]
        labels = [i if w else -100 for i, w in zip(ids, weights_of(self).tolist(), strict=True)]
        return {"input_ids": prompt + ids, "labels": [-100] * len(prompt) + labels}

    def __getitem__(self, name: str) -> Any:
        return self.columns()[name]

    def __contains__(self, name: object) -> bool:
        return name in self.columns()

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


@dataclass(frozen=True, slots=True, eq=False)
class LabelledGroup(WeightedGroup):
    """A group whose completions are each wanted or not, or say nothing of the prompt: ``labels`` has :data:`WANTED`, :data:`UNWANTED`
    or :data:`MISMATCHED` for each.
    """

    labels: tuple[int, ...] = ()

    def columns(self) -> dict[str, Any]:
        """The ids and the label under the names of TRL's prepared columns, and those of a mismatched completion beside it."""
        names = ("completion_ids", "KL_completion_ids")
        ids = {name: completion.tolist() for name, completion in zip(names, self.completion_ids, strict=False)}
        return {"prompt_ids": self.prompt_ids.tolist(), **ids, "label": self.labels[0] == WANTED}


def weights_of(group: PromptGroup) -> NDArray[np.float32]:
    """1 or 0 for each completion token, end to end: whether it counts, shape (completion tokens,)."""
    if isinstance(group, WeightedGroup) and group.weights is not None:
        return group.weights
    return np.ones(group.num_completion_tokens, np.float32)
