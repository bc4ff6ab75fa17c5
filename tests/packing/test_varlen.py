"""The CUDA path's layout, checked on any machine with a loop in the kernel's place; and on a GPU with the kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from prefine.packing import varlen
from prefine.packing.pack import Span
from prefine.packing.plain_attention import plain_attention
from prefine.packing.varlen import VarlenLayout

SPANS = (Span(7, (5, 9)), Span(3, (2, 0, 4)), Span(1, (0, 0)), Span(6, (3,)))
TOTAL = sum(s.prompt + sum(s.completions) for s in SPANS)


def loop_kernel(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, q_ends: torch.Tensor, k_ends: torch.Tensor, max_q: int, max_k: int,
    *, window_size: tuple[int, int], enable_gqa: bool = False,
) -> torch.Tensor:  # fmt: skip
    """What the kernel's documentation says, as a loop: causal, aligned at the end."""
    out = []
    for i in range(len(q_ends) - 1):
        queries, keys, values = q[q_ends[i] : q_ends[i + 1]], k[k_ends[i] : k_ends[i + 1]], v[k_ends[i] : k_ends[i + 1]]
        assert len(queries) <= max_q
        assert len(keys) <= max_k
        q_pos = torch.arange(len(keys) - len(queries), len(keys))[:, None]
        k_pos = torch.arange(len(keys))[None]
        seen = k_pos <= q_pos
        if window_size[0] >= 0:
            seen &= k_pos >= q_pos - window_size[0]
        heads = [x.transpose(0, 1)[None] for x in (queries, keys, values)]
        out.append(F.scaled_dot_product_attention(*heads, attn_mask=seen, enable_gqa=enable_gqa)[0].transpose(0, 1))
    return torch.cat(out)


def tensors(dtype: torch.dtype, device: str = "cpu", size: int = 16) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(1, h, TOTAL, size, generator=g, dtype=torch.float64).to(device, dtype).requires_grad_() for h in (4, 2, 2)]


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("scaling", [None, 0.5])
@pytest.mark.parametrize("gqa", [True, False])
def test_layout_and_options(monkeypatch: pytest.MonkeyPatch, window: int | None, scaling: float | None, gqa: bool) -> None:
    accepted = {"window_size"} | ({"enable_gqa"} if gqa else set())
    monkeypatch.setattr(varlen, "_kernel", lambda: (loop_kernel, frozenset(accepted)))
    inputs = tensors(torch.float64)
    weight = torch.randn(1, TOTAL, 4, 16, dtype=torch.float64)
    ours = varlen.varlen_attention(*inputs, VarlenLayout.of(SPANS, "cpu"), scaling, window)
    plain = plain_attention(*inputs, SPANS, scaling=scaling, sliding_window=window)
    torch.testing.assert_close(ours, plain)
    gradients: list[Any] = [torch.autograd.grad((x * weight).sum(), inputs) for x in (ours, plain)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_not_used_on_a_cpu() -> None:
    query, _, value = tensors(torch.bfloat16)
    assert not varlen.usable(query, value, 0.0, None)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("window", [None, 4])
def test_kernel_against_float64(size: int, window: int | None) -> None:
    inputs = tensors(torch.bfloat16, "cuda", size)
    assert varlen.agrees("cuda:0", torch.bfloat16)
    exact_inputs = [x.detach().double().requires_grad_() for x in inputs]
    ours = varlen.varlen_attention(*inputs, VarlenLayout.of(SPANS, "cuda"), None, window)
    exact = plain_attention(*exact_inputs, SPANS, sliding_window=window)
    torch.testing.assert_close(ours.double(), exact, rtol=2e-2, atol=2e-2)
    weight = torch.randn_like(exact)
    mine = torch.autograd.grad((ours * weight.to(ours.dtype)).sum(), inputs)
    theirs = torch.autograd.grad((exact * weight).sum(), exact_inputs)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=5e-2, atol=5e-2)
