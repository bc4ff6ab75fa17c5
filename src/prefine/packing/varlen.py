"""The CUDA path of shared-prefix attention: one variable-length kernel call a layer.

Each prompt with its first completion is one causal sequence; each further completion is a
sequence of its own queries over a gathered copy of the prompt's keys and its own. Used for
half precision where ``torch.nn.attention.varlen`` is there and a small comparison with the
plain path, forward and backward, agrees on this GPU; else the plain path is taken.

Legend: T tokens, K gathered keys, S sequences, H heads, D head size.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from prefine.packing.agreement import agrees_with_plain
from prefine.packing.pack import Span


@dataclass(frozen=True)
class VarlenLayout:
    """Sequences of a pack: where queries end (S+1), which keys each reads (K,), where those end (S+1).

    Attributes:
        rounds: of gathered keys (K,), those that the prompts' first sequences read, the second ones, and so on: none twice in a round.
    """

    query_ends: torch.Tensor
    key_index_K: torch.Tensor
    key_ends: torch.Tensor
    rounds: tuple[torch.Tensor, ...]
    max_queries: int
    max_keys: int

    @classmethod
    def of(cls, spans: Sequence[Span], device: torch.device | str) -> VarlenLayout:
        """Work out the sequences; those without queries (one-token completions) are left out."""
        queries, keys, index, at, gathered = [], [], [], 0, 0
        rounds: defaultdict[int, list[torch.Tensor]] = defaultdict(list)
        for span in spans:
            taken = 0
            prompt = torch.arange(at, at + span.prompt)
            start = at + span.prompt
            for member, length in enumerate(span.completions):
                own = torch.arange(start, start + length)
                start += length
                if member > 0 and length == 0:
                    continue
                rounds[taken].append(torch.arange(gathered, gathered + span.prompt + length))
                taken, gathered = taken + 1, gathered + span.prompt + length
                queries.append(length + (span.prompt if member == 0 else 0))
                keys.append(span.prompt + length)
                index += [prompt, own]
            at = start

        def ends(lengths: list[int]) -> torch.Tensor:
            return torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)

        apart = tuple(torch.cat(each).to(device) for each in rounds.values())
        return cls(ends(queries), torch.cat(index).to(device), ends(keys), apart, max(queries), max(keys))


@lru_cache(maxsize=4)
def layout_of(spans: tuple[Span, ...], device: torch.device) -> VarlenLayout:
    """A pack's layout: the same for the policy's pass and the reference's."""
    return VarlenLayout.of(spans, device)


class _Gathered(torch.autograd.Function):
    """Keys or values (T, heads, D) as sequences read them (K, heads, D).

    A prompt's are read by each of its completions. Their gradients are added up in float32, in one order: half precision would round after
    each, and a GPU's atomic additions come in any order.
    """

    @staticmethod
    def forward(ctx: Any, tokens: torch.Tensor, layout: VarlenLayout) -> torch.Tensor:
        ctx.layout, ctx.shape = layout, tokens.shape
        return tokens.index_select(0, layout.key_index_K)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        (grad,), layout = grads, ctx.layout
        total = grad.new_zeros(ctx.shape, dtype=torch.promote_types(grad.dtype, torch.float32))
        for place_R in layout.rounds:  # none is there twice, so that nothing depends on an order
            total.index_add_(0, layout.key_index_K[place_R], grad[place_R].to(total.dtype))
        return total.to(grad.dtype), None


def _gathered(tokens: torch.Tensor, layout: VarlenLayout) -> torch.Tensor:
    out: torch.Tensor = _Gathered.apply(tokens, layout)  # type: ignore[no-untyped-call]
    return out


def varlen_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: VarlenLayout, scaling: float | None, window: int | None
) -> torch.Tensor:
    """Attention by one kernel call; query (1, H, T, D), key and value with grouped heads; returns (1, T, H, D)."""
    kernel, accepted = _kernel()
    assert kernel is not None, "varlen_attention where usable() says no"
    size = query.shape[-1]
    options: dict[str, Any] = {}
    if scaling is not None and abs(scaling - size**-0.5) > 1e-9:
        if "scale" in accepted:
            options["scale"] = scaling
        else:
            query = query * (scaling * size**0.5)  # the kernel's own is 1 / sqrt(D); half precision rounds the product once more
    groups = query.shape[1] // key.shape[1]
    keys, values = (_gathered(x[0].transpose(0, 1), layout) for x in (key, value))
    if groups > 1 and "enable_gqa" not in accepted:
        keys, values = keys.repeat_interleave(groups, dim=1), values.repeat_interleave(groups, dim=1)
    if "window_size" in accepted:
        options["window_size"] = (-1 if window is None else window - 1, 0)
    else:
        options["is_causal"] = True
    if groups > 1 and "enable_gqa" in accepted:
        options["enable_gqa"] = True
    out: torch.Tensor = kernel(
        query[0].transpose(0, 1).contiguous(),
        keys,
        values,
        layout.query_ends,
        layout.key_ends,
        layout.max_queries,
        layout.max_keys,
        **options,
    )
    return out[None]


def usable(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float, scaling: float | None, window: int | None) -> bool:
    """Whether this layer's call can take the kernel."""
    if query.is_meta:
        return _StandIn.kernel is not None and dropout == 0 and query.shape[-1] == value.shape[-1] <= 256
    if not query.is_cuda or query.dtype not in (torch.float16, torch.bfloat16) or dropout > 0:
        return False
    if query.shape[-1] != value.shape[-1] or query.shape[-1] > 256:
        return False
    kernel, accepted = _kernel()
    if kernel is None or (window is not None and "window_size" not in accepted):
        return False
    shape = query.shape[-1], query.shape[1] // key.shape[1]
    return agrees(str(query.device), query.dtype, *shape, scaling, window is not None)


class _StandIn:
    """What the kernel is on the meta device, where a plan counts what CUDA would hold."""

    kernel: Callable[..., Any] | None = None


@contextmanager
def standing_in(kernel: Callable[..., Any] | None) -> Iterator[None]:
    """Within the block tensors on the meta device take ``kernel``, which is given what the newest version is."""
    outer, _StandIn.kernel = _StandIn.kernel, kernel
    try:
        yield
    finally:
        _StandIn.kernel = outer


def stand_in() -> Callable[..., Any] | None:
    """What stands in for a kernel on the meta device; None outside of a plan for a GPU."""
    return _StandIn.kernel


def _kernel() -> tuple[Callable[..., Any] | None, frozenset[str]]:
    """The kernel, or what stands in for it, and the names of its arguments."""
    return _real_kernel() if _StandIn.kernel is None else (_StandIn.kernel, frozenset({"window_size", "enable_gqa"}))


@lru_cache(maxsize=1)
def _real_kernel() -> tuple[Callable[..., Any] | None, frozenset[str]]:
    """The kernel and the names of its arguments, which differ between versions of torch."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None, frozenset()
    return varlen_attn, frozenset(inspect.signature(varlen_attn).parameters)


@lru_cache(maxsize=64)
def agrees(device: str, dtype: torch.dtype, size: int, groups: int, scaling: float | None, windowed: bool) -> bool:
    """Whether the kernel computes on this device what the plain path does, in the shape that it is wanted for.

    Args:
        size: of a head; groups: query heads for each head of keys.
        windowed: with a window of a few tokens, as sliding layers have one of their own.
    """
    if _kernel()[0] is None:
        return False

    def kernel(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, spans: Sequence[Span], **options: Any) -> torch.Tensor:
        return varlen_attention(query, key, value, VarlenLayout.of(spans, device), options["scaling"], options["sliding_window"])

    return agrees_with_plain(kernel, device, dtype, (size, size), groups, scaling=scaling, sliding_window=4 if windowed else None)
