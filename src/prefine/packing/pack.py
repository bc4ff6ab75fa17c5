"""Groups laid end to end in one row, without padding.

Legend: T input tokens of the pack, N completion tokens scored, M completions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from prefine.packing.group import PromptGroup, WeightedGroup, weights_of


@dataclass(frozen=True, slots=True)
class Span:
    """Where one group lies: its prompt's length and each completion's, as input tokens."""

    prompt: int
    completions: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """One forward pass worth of groups.

    Each prompt stands once, followed by its completions (without their last
    token, which predicts nothing), each at positions that continue the prompt.

    Attributes:
        input_ids_T: int64; position_ids_T: int64.
        predictor_N: the input position whose output predicts completion token n.
        target_N: that token's id.
        completion_N: which completion (0..M-1) token n belongs to.
        lengths_M: tokens in each completion.
        weight_N: 1, or 0 for completion tokens that do not count (a user's turn, a tool's result); None where all do.
        spans: the layout for attention, in order.
    """

    groups: tuple[PromptGroup, ...]
    input_ids_T: torch.Tensor
    position_ids_T: torch.Tensor
    predictor_N: torch.Tensor
    target_N: torch.Tensor
    completion_N: torch.Tensor
    lengths_M: torch.Tensor
    spans: tuple[Span, ...]
    num_tokens_unshared: int
    weight_N: torch.Tensor | None = None

    @classmethod
    def build(cls, groups: Sequence[PromptGroup], device: torch.device | str = "cpu", shared: bool = True) -> Pack:
        """Lay groups end to end; with ``shared=False`` every completion gets its own copy of the prompt."""
        ids, positions, predictors, targets, owners, spans, lengths = [], [], [], [], [], [], []
        at, completion = 0, 0
        for group in groups:
            prompt = len(group.prompt_ids)
            batches = [group.completion_ids] if shared else [(c,) for c in group.completion_ids]
            for members in batches:
                ids.append(group.prompt_ids)
                positions.append(np.arange(prompt))
                start = at + prompt
                for member in members:
                    length = len(member)
                    ids.append(member[:-1])
                    positions.append(np.arange(prompt, prompt + length - 1))
                    predictors.append(np.concatenate(([at + prompt - 1], np.arange(start, start + length - 1))))
                    targets.append(member)
                    owners.append(np.full(length, completion))
                    lengths.append(length)
                    completion += 1
                    start += length - 1
                spans.append(Span(prompt, tuple(len(m) - 1 for m in members)))
                at = start

        def tensor(parts: list[np.ndarray]) -> torch.Tensor:
            return torch.from_numpy(np.concatenate(parts).astype(np.int64)).to(device, non_blocking=True)

        return cls(
            tuple(groups),
            tensor(ids),
            tensor(positions),
            tensor(predictors),
            tensor(targets),
            tensor(owners),
            torch.tensor(lengths, device=device),
            tuple(spans),
            sum(g.num_tokens(shared=False) for g in groups),
            tensor([weights_of(g) for g in groups]) if any(isinstance(g, WeightedGroup) for g in groups) else None,
        )

    @property
    def num_tokens(self) -> int:
        """Input tokens of the forward pass."""
        return len(self.input_ids_T)

    def sum_by_completion(self, values_N: torch.Tensor) -> torch.Tensor:
        """Sum the values of tokens that count into completions, shape (M,)."""
        if self.weight_N is not None:
            values_N = values_N * self.weight_N.to(values_N.dtype)
        return values_N.new_zeros(len(self.lengths_M)).index_add(0, self.completion_N, values_N)

    @property
    def counted_M(self) -> torch.Tensor:
        """Tokens of each completion that count, shape (M,)."""
        return self.lengths_M if self.weight_N is None else self.sum_by_completion(torch.ones_like(self.target_N))
