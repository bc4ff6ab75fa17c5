"""Whether a kernel computes what plain attention does: tried on a small pack, forward and backward, before it is used.

Legend: H heads, T tokens, D head size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from prefine.packing.out_of_memory import is_out_of_memory
from prefine.packing.pack import Span
from prefine.packing.plain_attention import plain_attention

SPANS = (Span(7, (5, 9)), Span(3, (2, 0, 4)))
NOISE = {torch.float16: 2e-2, torch.bfloat16: 2e-2, torch.float32: 1e-4}
"""Of a kernel's output and gradients against float64, relative, by dtype; a wrong mask or scale is far beyond."""


def agrees_with_plain(
    kernel: Callable[..., torch.Tensor],
    device: str,
    dtype: torch.dtype,
    sizes: tuple[int, int],
    groups: int,
    with_sinks: bool = False,
    **options: Any,
) -> bool:
    """Hold ``kernel(query, key, value, spans, **options)`` against :func:`plain_attention` in float64.

    Args:
        sizes: of a head, and of its values; groups: query heads for each head of keys.
        with_sinks: give each head a sink, and look at its gradient too.
        options: ``scaling``, ``sliding_window``, ``softcap``.

    Returns:
        False too where the kernel refuses such a call, for whatever reason but memory.
    """
    total = sum(s.prompt + sum(s.completions) for s in SPANS)
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 2 * groups, total, sizes[0]), (1, 2, total, sizes[0]), (1, 2, total, sizes[1])] + [(2 * groups,)] * with_sinks
    exact = [torch.randn(shape, generator=generator).to(dtype).double().requires_grad_() for shape in shapes]
    inputs = [x.detach().to(device, dtype).requires_grad_() for x in exact]
    weight = torch.randn(1, total, 2 * groups, sizes[1], generator=generator).to(dtype)
    results = []
    try:
        with torch.enable_grad(), torch.autocast(torch.device(device).type, enabled=False):
            for attention, (query, key, value, *sinks) in ((kernel, inputs), (plain_attention, exact)):
                more = options | ({"s_aux": sinks[0]} if sinks else {})
                out = attention(query, key, value, SPANS, **more)
                gradients = torch.autograd.grad((out * weight.to(out.device, out.dtype)).sum(), [query, key, value, *sinks])
                results.append([x.detach().double().cpu() for x in (out, *gradients)])
    except Exception as error:  # of a compiler or a kernel, which have exceptions of their own
        if is_out_of_memory(error):
            raise
        return False
    return all(float((a - b).norm()) <= NOISE[dtype] * float(b.norm()) for a, b in zip(*results, strict=True))
