"""Prove on the loaded model that packs are exact, before any of them is trained on.

An architecture that does not send its attention through
``transformers.AttentionInterface`` (Bloom, Mamba, linear-attention hybrids) would be
silently wrong. One small group is scored both ways; the first layout that agrees with
plain forwards is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from prefine.errors import ModelError
from prefine.packing.attention import attend
from prefine.packing.group import PromptGroup, as_ids
from prefine.packing.out_of_memory import is_out_of_memory, smaller_on_oom
from prefine.scoring.scorer import Layout, Scorer

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-9, torch.bfloat16: 2e-2, torch.float16: 4e-3}
"""The largest relative difference of a token's log-prob that is the dtype's own noise."""


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


def prove_layout(model: nn.Module, max_length: int | None = None, kind: type[Scorer] = Scorer) -> Proof:
    """Find the fastest layout that agrees with plain forwards.

    Args:
        model: the loaded policy.
        max_length: the longest sequence of the run; a windowed model whose attention is
            not told its window is refused sharing when sequences can outgrow it.
        kind: what will run the model; its ``values`` of packs are held against its ``plain_values``.

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

    return smaller_on_oom(lambda: _prove(model, max_length, kind, numbers[0]), shrink)


def _groups(vocabulary: int) -> list[PromptGroup]:
    generator = np.random.default_rng(0)

    def draw(n: int) -> np.ndarray:
        return as_ids(generator.integers(min(10, vocabulary // 2), vocabulary, n, dtype=np.int32))

    return [PromptGroup(draw(11), (draw(7), draw(5))), PromptGroup(draw(3), (draw(4), draw(9), draw(1)))]


def _prove(model: nn.Module, max_length: int | None, kind: type[Scorer], number: int) -> Proof:
    scorer = kind(model)
    was_training = model.training
    model.eval()
    config = scorer.unwrapped.config.get_text_config()
    groups = _groups(config.vocab_size)[:number]
    tolerance = TOLERANCE[next(p for p in model.parameters() if p.is_floating_point()).dtype]
    errors: dict[str, float] = {}
    reason = ""
    layouts: tuple[Layout, ...] = ("shared", "unshared", "padded")
    # Mixed precision, once a trainer has patched it in, would round the plain forwards and not the packs' heads.
    patched = [m for m in {id(m): m for m in (model, scorer.unwrapped)}.values() if "_original_forward" in vars(m)]
    forwards = [m.forward for m in patched]
    for m in patched:
        m.forward = m._original_forward
    try:
        with torch.no_grad():
            plain = torch.cat([scorer.plain_values(g) for g in groups])
        for layout in layouts:
            scorer.layout = layout
            why = ""
            try:
                with torch.no_grad():
                    pack = scorer.pack(groups)
                    with attend(scorer.unwrapped, None if layout == "padded" else pack.spans) as seen:
                        difference = (scorer.values(pack) - plain).abs() / plain.abs().clamp(min=1.0)
                        if layout != "padded":
                            why = _unseen_window(config, seen.windows, seen.calls, max_length)
                errors[layout] = float(difference.max())
            except Exception as error:  # any failure inside an unknown architecture means "this layout is not for it"
                if is_out_of_memory(error):
                    raise
                errors[layout] = float("inf")
                why = f"{type(error).__name__}: {error}"
            if not why and not errors[layout] <= tolerance:
                why = f"log-probs differ by {errors[layout]:.1e}, {tolerance:.0e} allowed"
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
