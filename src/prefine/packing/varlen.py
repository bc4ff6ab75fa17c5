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

from prefine.packing.pack import Span
from prefine.packing.plain_attention import plain_attention

NOISE = 2e-2
"""Of a kernel's output and gradients against float64, relative: half precision's; a wrong mask or scale is far beyond."""


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
    """Compare the kernel with the plain path on one small pack, forward and backward, in the shape that it is wanted for.

    Args:
        size: of a head; groups: query heads for each head of keys.
        windowed: with a window of a few tokens, as sliding layers have one of their own.
    """
    if _kernel()[0] is None:
        return False
    spans = (Span(7, (5, 9)), Span(3, (2, 0, 4)))
    window = 4 if windowed else None
    total = sum(s.prompt + sum(s.completions) for s in spans)
    generator = torch.Generator().manual_seed(0)
    heads = (2 * groups, 2, 2)
    exact = [torch.randn(1, h, total, size, generator=generator).to(dtype).double().requires_grad_() for h in heads]
    inputs = [x.detach().to(device, dtype).requires_grad_() for x in exact]
    weight = torch.randn(1, total, 2 * groups, size, generator=generator).to(dtype)
    results = []
    try:
        with torch.enable_grad(), torch.autocast(torch.device(device).type, enabled=False):
            (query, key, value), (exact_query, exact_key, exact_value) = inputs, exact
            ours = varlen_attention(query, key, value, VarlenLayout.of(spans, device), scaling, window)
            plain = plain_attention(exact_query, exact_key, exact_value, spans, scaling=scaling, sliding_window=window)
            for out, given in ((ours, inputs), (plain, exact)):
                gradients = torch.autograd.grad((out * weight.to(out.device, out.dtype)).sum(), given)
                results.append([x.detach().double().cpu() for x in (out, *gradients)])
    except (RuntimeError, ValueError, TypeError, NotImplementedError):
        return False
    return all(float((a - b).norm()) <= NOISE * float(b.norm()) for a, b in zip(*results, strict=True))
