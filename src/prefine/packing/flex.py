"""Shared-prefix attention as one FlexAttention call a layer: on a GPU, what the variable-length kernel does not take.

float32, soft-capped scores (Gemma 2), attention sinks (gpt-oss), heads whose values are of another size. A mask of blocks says
what each token sees, so that scores are never held as a whole. Used where a small comparison with the plain path, forward and
backward, agrees on this GPU.

Legend: T tokens, H heads, D head size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention

from prefine.packing import varlen
from prefine.packing.agreement import agrees_with_plain
from prefine.packing.pack import Span

KINDS = 64
"""Calls that differ in more than their lengths, at most."""
PROMPT = -1
"""The member of a span that its prompt is."""


def usable(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: float,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> bool:
    """Whether this layer's call can take FlexAttention."""
    if dropout > 0 or query.dtype == torch.float64:
        return False
    if query.is_meta:
        return varlen.stand_in() is not None
    if not query.is_cuda:
        return False
    groups = query.shape[1] // key.shape[1]
    sizes = query.shape[-1], value.shape[-1]
    return agrees(str(query.device), query.dtype, sizes, groups, scaling, window is not None, softcap, sinks is not None)


@lru_cache(maxsize=64)
def agrees(
    device: str,
    dtype: torch.dtype,
    sizes: tuple[int, int],
    groups: int,
    scaling: float | None,
    windowed: bool,
    softcap: float | None,
    with_sinks: bool,
) -> bool:
    """Whether it computes on this device what the plain path does, in the shape that it is wanted for."""
    options = {"scaling": scaling, "sliding_window": 4 if windowed else None, "softcap": softcap}
    return agrees_with_plain(flex_attend, device, dtype, sizes, groups, with_sinks, **options)


def flex_attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    spans: Sequence[Span],
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
) -> torch.Tensor:
    """Query (1, H, T, D), key and value with grouped heads; returns (1, T, H, D)."""
    stand_in = varlen.stand_in() if query.is_meta else None
    if stand_in is not None:
        out = stand_in(query, key, value)
        lse = query.new_empty(query.shape[:-1], dtype=torch.float32)
    else:
        out, more = _flex(query.is_cuda)(
            query,
            key,
            value,
            score_mod=None if softcap is None else _capped(softcap),
            block_mask=_mask(tuple(spans), sliding_window, query.device),
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
            return_aux=AuxRequest(lse=s_aux is not None),
        )
        lse = more.lse
    if s_aux is not None:
        # A sink is one more score in the softmax that carries no value: exp(lse) / (exp(lse) + exp(sink)) of the weight is left.
        out = out * (lse - s_aux.float()[None, :, None]).sigmoid()[..., None].to(out.dtype)
    transposed: torch.Tensor = out.transpose(1, 2)
    return transposed


@lru_cache(maxsize=2)
def _flex(compiled: bool) -> Any:
    if not compiled:
        return flex_attention
    # One function for every window, dtype and mode of gradients: beyond so many it would silently no longer be compiled.
    torch._dynamo.config.recompile_limit = max(KINDS, torch._dynamo.config.recompile_limit)
    return torch.compile(flex_attention)  # the second length makes lengths dynamic; dynamic from the start, a soft-cap would be too


@lru_cache(maxsize=8)
def _capped(softcap: float) -> Callable[..., torch.Tensor]:
    """Scores as a soft-cap leaves them; one function a cap, so that it is compiled once."""

    def score(score: torch.Tensor, batch: Any, head: Any, query: Any, key: Any) -> torch.Tensor:
        return torch.tanh(score / softcap) * softcap

    return score


@lru_cache(maxsize=8)
def _mask(spans: tuple[Span, ...], window: int | None, device: torch.device) -> BlockMask:
    """What each token of a pack sees: the same for all layers of a kind, for the policy's pass and the reference's."""
    span_T, member_T, position_T = (x.to(device) for x in _places(spans))

    def sees(batch: Any, head: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        own = (member_T[key] == PROMPT) | (member_T[key] == member_T[query])
        seen = (key <= query) & (span_T[key] == span_T[query]) & own
        return seen if window is None else seen & (position_T[query] - position_T[key] < window)

    make: Any = torch.compile(create_block_mask) if device.type == "cuda" else create_block_mask  # it holds a number for T x T else
    total = len(span_T)
    mask: BlockMask = make(sees, None, None, total, total, device=str(device))
    return mask


def _places(spans: Sequence[Span]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each token (T,): which span it lies in, which of its completions, and its position in the sequence."""
    numbers, members, positions = [], [], []
    for number, span in enumerate(spans):
        for member, start, length in [(PROMPT, 0, span.prompt), *((m, span.prompt, n) for m, n in enumerate(span.completions))]:
            numbers.append(torch.full((length,), number, dtype=torch.int32))
            members.append(torch.full((length,), member, dtype=torch.int32))
            positions.append(torch.arange(start, start + length, dtype=torch.int32))
    return torch.cat(numbers), torch.cat(members), torch.cat(positions)
