"""How a token is drawn: by inverting its distribution's cumulative sum at a number that the row's seed and the step decide.

Whatever a row is batched with, it draws the same. Probabilities are float32, as logits are; sums over the vocabulary are float64, where
they decide what is drawn, and are taken in two steps: over blocks, and within the one block that the number falls into.

Legend: R rows that are still sampled, V the vocabulary, N blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor, RepetitionPenaltyLogitsProcessor

from prefine.errors import ModelError
from prefine.generation.engine import Sampling

BLOCK = 256
"""Tokens of the vocabulary that are summed together."""
LIKELIEST = 1024
"""Tokens among which a nucleus is looked for first: ordering a vocabulary takes ten times as long as its sum."""


class Drawn:
    """Tokens, (R,), in place of scores whose likeliest they would be: a vocabulary for each row is neither written nor searched."""

    def __init__(self, tokens: torch.Tensor) -> None:
        self.tokens = tokens

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """``torch.argmax``, which ``generate`` takes of scores, gives the tokens."""
        return args[0].tokens if function is torch.argmax else NotImplemented


class SeededSampling(LogitsProcessor):
    """Gives the token a row that its seed draws.

    Args:
        seeds: one a row.
        start: the prompts' padded width, so that a step is known by the row's length.
        lengths: of the prompts, (rows,); what stands before them is padding, which no penalty is to see.

    Attributes:
        starts: the column in which each row's response begins, (R,); padding: columns before its prompt, (R,).
        logps: of the drawn tokens, (R, steps), by the model at this temperature, whatever they were drawn from.
    """

    def __init__(
        self, seeds: Sequence[int], sampling: Sampling, start: int, lengths: torch.Tensor, device: torch.device | str = "cpu"
    ) -> None:
        draws = [np.random.Generator(np.random.Philox(s)).random(sampling.max_new_tokens) for s in seeds]
        self.uniform = torch.from_numpy(np.stack(draws)).to(device)
        self.sampling = sampling
        self.starts = torch.full((len(seeds),), start, device=device)
        self.logps = torch.full_like(self.uniform, torch.nan)
        self.padding = (start - lengths).to(device)
        self.penalty = RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty) if sampling.repetition_penalty != 1 else None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Draw by scores, (R, V), float32."""
        step_R1 = (input_ids.shape[1] - self.starts)[:, None]
        is_over_R1 = step_R1 >= self.uniform.shape[1]  # the row has all its tokens, and waits for others
        step_R1 = step_R1.clamp(max=self.uniform.shape[1] - 1)
        own_RV, top_R1 = self._weights(scores)
        sums_RN = _sums(own_RV)
        total_R1 = sums_RN.sum(-1, keepdim=True)
        if bool(total_R1.isnan().any()):
            raise ModelError("the model's next-token probabilities are not numbers: it diverged, or its dtype overflows", code="PF-M13")
        weights_RV = own_RV
        if self.penalty is not None:
            # A row's padding is put as its prompt's last token, which is there anyway.
            is_padding = torch.arange(input_ids.shape[1], device=input_ids.device)[None] < self.padding[:, None]
            seen = torch.where(is_padding, input_ids.gather(1, self.starts[:, None] - 1), input_ids)
            weights_RV, _ = self._weights(self.penalty(seen, scores.clone()))
        weights_RV = self._cut(weights_RV, scores.shape[-1])
        if weights_RV is not own_RV:
            sums_RN = _sums(weights_RV)
        drawn_R1 = _draw(weights_RV, sums_RN, self.uniform.gather(1, step_R1))
        heights_R1 = (scores.gather(-1, drawn_R1) - top_R1).double() / self.sampling.temperature
        self.logps.scatter_(1, step_R1, torch.where(is_over_R1, self.logps.gather(1, step_R1), heights_R1 - total_R1.log()))
        return Drawn(drawn_R1.squeeze(1))

    def keep(self, places: torch.Tensor, columns: int) -> None:
        """Go on with these rows, whose tokens stand so many columns further right."""
        self.uniform, self.logps = self.uniform[places], self.logps[places]
        self.starts, self.padding = self.starts[places] + columns, self.padding[places] + columns

    def join(self, others: SeededSampling) -> None:
        """Have the others' rows too, after one's own."""
        for name in ("uniform", "logps", "starts", "padding"):
            setattr(self, name, torch.cat([getattr(self, name), getattr(others, name)]))

    def _weights(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What probabilities are proportional to, 1 for the likeliest token, and zeros up to whole blocks; and the highest scores."""
        rows, vocabulary = scores.shape
        top_R1 = scores.max(-1, keepdim=True).values
        weights_RV = scores.new_zeros(rows, -(-vocabulary // BLOCK) * BLOCK)
        part = weights_RV[:, :vocabulary]
        torch.sub(scores, top_R1, out=part)
        part.div_(self.sampling.temperature).exp_()
        return weights_RV, top_R1

    def _cut(self, weights_RV: torch.Tensor, vocabulary: int) -> torch.Tensor:
        """Zero for the tokens that are not to be drawn."""
        if self.sampling.top_k:
            least = weights_RV.topk(min(self.sampling.top_k, vocabulary), -1).values[:, -1:]
            weights_RV = weights_RV * (weights_RV >= least)
        if self.sampling.min_p:
            weights_RV = weights_RV * (weights_RV >= self.sampling.min_p)
        if self.sampling.top_p < 1:
            weights_RV = _nucleus(weights_RV, self.sampling.top_p)
        return weights_RV


def _sums(weights_RV: torch.Tensor) -> torch.Tensor:
    """Of blocks, (R, N), float64."""
    return weights_RV.unflatten(-1, (-1, BLOCK)).sum(-1).double()


def _draw(weights_RV: torch.Tensor, sums_RN: torch.Tensor, uniform_R1: torch.Tensor) -> torch.Tensor:
    """The tokens, (R, 1), at which the weights' cumulative share passes the uniform numbers."""
    block_R1, share_R1 = _passes(sums_RN, uniform_R1)
    within = weights_RV.unflatten(-1, (-1, BLOCK)).gather(1, block_R1[..., None].expand(-1, -1, BLOCK)).squeeze(1).double()
    return block_R1 * BLOCK + _passes(within, share_R1)[0]


def _passes(parts_RN: torch.Tensor, uniform_R1: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which part the number falls into, (R, 1), never one of weight 0; and which share of that part is below it."""
    reached_RN = parts_RN.cumsum(-1)
    mark_R1 = torch.minimum(uniform_R1 * reached_RN[:, -1:], torch.nextafter(reached_RN[:, -1:], torch.zeros_like(uniform_R1)))
    place_R1 = torch.searchsorted(reached_RN, mark_R1, right=True)
    part_R1 = parts_RN.gather(-1, place_R1)
    return place_R1, (mark_R1 - reached_RN.gather(-1, place_R1) + part_R1).clamp(min=0) / part_R1


def _nucleus(weights_RV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero for what is beyond the smallest set of likeliest tokens that holds ``top_p``: the likeliest always stays."""
    total_R1 = weights_RV.sum(-1, keepdim=True, dtype=torch.float64)
    likeliest, wide_R = _likeliest(weights_RV, total_R1 * top_p, min(LIKELIEST, weights_RV.shape[-1]))
    if bool(wide_R.any()):
        likeliest[wide_R] = _likeliest(weights_RV[wide_R], total_R1[wide_R] * top_p, weights_RV.shape[-1])[0]
    return likeliest


def _likeliest(weights_RV: torch.Tensor, mass_R1: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The weights of the likeliest tokens up to a mass, ``count`` of them at most, zero for the rest; and which rows took that many."""
    ordered, places = weights_RV.topk(count, -1)
    # A token stays while those before it hold less.
    kept = ordered.cumsum(-1, dtype=torch.float64) - ordered < mass_R1
    return torch.zeros_like(weights_RV).scatter_(-1, places, ordered * kept), kept[:, -1]
