"""Prove on the loaded model that packs are exact, before any of them is trained on.

An architecture that does not send its attention through
``transformers.AttentionInterface`` (Bloom, Mamba, linear-attention hybrids) would be
silently wrong. One small group is scored both ways; the first layout that agrees with
plain forwards is used.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from prefine.errors import ModelError
from prefine.packing.attention import attend
from prefine.packing.group import PromptGroup, as_ids
from prefine.packing.out_of_memory import is_out_of_memory, smaller_on_oom
from prefine.scoring.held_in_half import needs_autocast
from prefine.scoring.scorer import Layout, Scorer

Mode: TypeAlias = Callable[[], AbstractContextManager[Any]]
"""How a forward is computed: as it is, or under mixed precision."""
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.float16: 5e-4, torch.bfloat16: 2e-3}
"""By dtype, the largest relative difference of a token's log-prob that is taken for noise, whatever the model."""
OF_LARGEST, OF_MEAN = 0.25, 0.125
"""In half precision noise grows with a model's depth and scale: more of it is allowed where a mistake would show far more clearly, up to
these shares of the largest and the mean difference that one makes. Over 28 architectures of random weights, and a trained one of 30 layers,
noise is at most .05 of the largest and .03 of the mean."""


def coarsest_dtype(model: nn.Module, autocast: torch.dtype | None = None) -> torch.dtype:
    """The dtype whose noise a model's log-probs have: the coarsest of its weights, quantised products and mixed precision.

    A quantised layer multiplies in its ``compute_dtype`` (bitsandbytes), whatever its input's dtype and its neighbours' are. What is
    stored in fewer bits than are computed in (float8) counts as bfloat16.
    """
    found = {p.dtype for p in model.parameters() if p.is_floating_point()}
    found |= {kind for m in model.modules() if isinstance(kind := getattr(m, "compute_dtype", None), torch.dtype)}
    found |= {autocast} if autocast is not None else set()
    if torch.float32 in found and next(model.parameters()).is_cuda and torch.get_float32_matmul_precision() != "highest":
        found.add(torch.float16)  # TF32 has as many bits
    return max((d if d in TOLERANCE else torch.bfloat16 for d in found), key=TOLERANCE.__getitem__, default=torch.float32)


@dataclass(frozen=True)
class _Expected:
    """What plain forwards give in one mode of computing, and by how much packs may differ from it, at most and in the mean."""

    mode: Mode
    values: torch.Tensor
    largest: float
    mean: float

    @classmethod
    def of(cls, scorer: Scorer, groups: list[PromptGroup], dtype: torch.dtype, mode: Mode) -> _Expected:
        """Score groups one sequence at a time; in half precision, later completions behind those before them too: a mistake."""
        later = [
            (g.prompt_ids, g.completion_ids[:place], g.completion_ids[place]) for g in groups for place in range(1, len(g.completion_ids))
        ]
        tolerance = TOLERANCE[dtype]
        with torch.no_grad(), mode():
            values = torch.cat([scorer.plain_values(g) for g in groups])
            if dtype not in (torch.float16, torch.bfloat16):
                return cls(mode, values, tolerance, tolerance)
            alone = torch.cat([scorer.plain_values(PromptGroup(prompt, (own,))) for prompt, _, own in later])
            behind = [PromptGroup(as_ids(np.concatenate((prompt, *others))), (own,)) for prompt, others, own in later]
            effect = relative_difference(torch.cat([scorer.plain_values(g) for g in behind]), alone)
        return cls(mode, values, max(tolerance, OF_LARGEST * float(effect.max())), max(tolerance, OF_MEAN * float(effect.mean())))


def relative_difference(values: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Of each value, against 1 where what is expected is smaller."""
    return (values - expected).abs() / expected.abs().clamp(min=1.0)


@dataclass(frozen=True)
class Proof:
    """Which layout is exact for a model, and how far each one was off.

    ``error`` maps a layout to its largest relative log-prob difference (inf: it raised).
    """

    layout: Layout
    error: dict[str, float]
    reason: str = ""

    def sentence(self) -> str:
        """One line for the user."""
        if self.layout == "shared":
            return f"prompt sharing proven exact (largest relative difference {self.error['shared']:.1e})"
        how = "unpadded packs without sharing" if self.layout == "unshared" else "padded batches"
        return f"prompt sharing is not exact for this model ({self.reason}); using {how}"


def prove_layout(
    model: nn.Module, max_length: int | None = None, kind: type[Scorer] = Scorer, autocast: torch.dtype | None = None
) -> Proof:
    """Find the fastest layout that agrees with plain forwards, on the device that the model is on.

    Args:
        model: the loaded policy.
        max_length: the longest sequence of the run; a windowed model whose attention is
            not told its window is refused sharing when sequences can outgrow it.
        kind: what will run the model; its ``values`` of packs are held against its ``plain_values``.
        autocast: the dtype of mixed precision in which it will run, whose kernels may be others: a layout must agree without, and with it.

    Raises:
        ModelError: not even padded batches agree, or memory runs out with a few tokens.
    """
    numbers = [2, 1]

    def shrink() -> None:
        numbers.pop(0)
        if not numbers:
            raise ModelError(
                f"{type(model).__name__}: out of memory with a few tokens, beside the model itself; load it in bfloat16 or in 4-bit, "
                "or take a smaller one",
                code="PF-M07",
            )

    return smaller_on_oom(lambda: _prove(model, max_length, kind, numbers[0], autocast), shrink)


def _groups(vocabulary: int) -> list[PromptGroup]:
    generator = np.random.default_rng(0)

    def draw(n: int) -> np.ndarray:
        return as_ids(generator.integers(min(10, vocabulary // 2), vocabulary, n, dtype=np.int32))

    return [PromptGroup(draw(11), (draw(7), draw(5))), PromptGroup(draw(3), (draw(4), draw(9), draw(1)))]


def _prove(model: nn.Module, max_length: int | None, kind: type[Scorer], number: int, autocast: torch.dtype | None) -> Proof:
    scorer = kind(model)
    was_training = model.training
    model.eval()
    config = scorer.unwrapped.config.get_text_config()
    groups = _groups(config.vocab_size)[:number]
    device = next(model.parameters()).device.type
    modes: list[tuple[torch.dtype, Mode]] = [] if autocast and needs_autocast(scorer.unwrapped) else [(coarsest_dtype(model), nullcontext)]
    if autocast is not None:
        modes.append((coarsest_dtype(model, autocast), partial(torch.autocast, device, autocast)))
    errors: dict[str, float] = {}
    reason = ""
    layouts: tuple[Layout, ...] = ("shared", "unshared", "padded")
    # Mixed precision, once a trainer has patched it in, would round the plain forwards and not the packs' heads.
    patched = [m for m in {id(m): m for m in (model, scorer.unwrapped)}.values() if "_original_forward" in vars(m)]
    forwards = [m.forward for m in patched]
    for m in patched:
        m.forward = m._original_forward
    try:
        plain = [_Expected.of(scorer, groups, dtype, mode) for dtype, mode in modes]
        for layout in layouts:
            scorer.layout = layout
            why = ""
            for expected in plain:
                scorer.autocast = expected.mode
                try:
                    with torch.no_grad():
                        pack = scorer.pack(groups)
                        with attend(scorer.unwrapped, None if layout == "padded" else pack.spans) as seen:
                            difference = relative_difference(scorer.values(pack), expected.values)
                            if layout != "padded":
                                why = _unseen_window(config, seen.windows, seen.calls, max_length)
                    error, mean = float(difference.max()), float(difference.mean())
                except Exception as raised:  # any failure inside an unknown architecture means "this layout is not for it"
                    if is_out_of_memory(raised):
                        raise
                    error = mean = float("inf")
                    why = f"{type(raised).__name__}: {raised}"
                errors.setdefault(layout, error)
                if not why and not (error <= expected.largest and mean <= expected.mean):
                    errors[layout] = error
                    allowed = f"{expected.largest:.0e} and {expected.mean:.0e} allowed"
                    why = f"log-probs differ by {error:.1e} at most and {mean:.1e} in the mean, {allowed}"
                if why:
                    break
            if not why:
                return Proof(layout, errors, reason)
            reason = reason or why
    finally:
        for m, forward in zip(patched, forwards, strict=True):
            m.forward = forward
        model.train(was_training)
    raise ModelError(
        f"{type(scorer.unwrapped).__name__}: packed log-probs differ from plain forwards in every layout ({errors}); {reason}",
        code="PF-M12",
    )


def _unseen_window(config: object, windows: set[int | None], calls: int, max_length: int | None) -> str:
    if calls == 0:
        return "its attention does not go through transformers.AttentionInterface"
    kinds = set(getattr(config, "layer_types", None) or [])
    limits = {
        "sliding_attention": getattr(config, "sliding_window", None),
        "chunked_attention": getattr(config, "attention_chunk_size", None),
    }
    for kind, limit in limits.items():
        told = any(w is not None for w in windows)
        if kind in kinds and limit and not told and (max_length is None or max_length > limit):
            return f"its {kind} layers are not told their window of {limit} tokens"
    return ""
