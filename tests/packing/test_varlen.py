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
    *, window_size: tuple[int, int] = (-1, 0), enable_gqa: bool = False, scale: float | None = None,
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
        out.append(F.scaled_dot_product_attention(*heads, attn_mask=seen, enable_gqa=enable_gqa, scale=scale)[0].transpose(0, 1))
    return torch.cat(out)


def tensors(dtype: torch.dtype, device: str = "cpu", size: int = 16) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(1, h, TOTAL, size, generator=g, dtype=torch.float64).to(device, dtype).requires_grad_() for h in (4, 2, 2)]


@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("scaling", [None, 0.5])
@pytest.mark.parametrize("more", [set(), {"enable_gqa"}, {"enable_gqa", "scale"}])
def test_layout_and_options(monkeypatch: pytest.MonkeyPatch, window: int | None, scaling: float | None, more: set[str]) -> None:
    accepted = {"window_size"} | more
    monkeypatch.setattr(varlen, "_kernel", lambda: (loop_kernel, frozenset(accepted)))
    inputs = tensors(torch.float64)
    weight = torch.randn(1, TOTAL, 4, 16, dtype=torch.float64)
    ours = varlen.varlen_attention(*inputs, VarlenLayout.of(SPANS, "cpu"), scaling, window)
    plain = plain_attention(*inputs, SPANS, scaling=scaling, sliding_window=window)
    torch.testing.assert_close(ours, plain)
    gradients: list[Any] = [torch.autograd.grad((x * weight).sum(), inputs) for x in (ours, plain)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


def test_a_prompts_gradient_is_exact_with_many_samples() -> None:
    """Each of 300 completions gives a prompt's keys a gradient; in bfloat16 their sum, rounded each time, would be far off."""
    spans = (Span(6, (4,) * 300), Span(2, (3, 0, 1)))
    layout = VarlenLayout.of(spans, "cpu")
    tokens = torch.randn(sum(s.prompt + sum(s.completions) for s in spans), 2, 8, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.rand(len(layout.key_index_K), 2, 8, dtype=torch.bfloat16)
    wanted = torch.zeros(tokens.shape, dtype=torch.float64).index_add_(0, layout.key_index_K, weight.double())
    out = varlen._Gathered.apply(tokens, layout)
    assert torch.equal(out, tokens.index_select(0, layout.key_index_K))
    (found,) = torch.autograd.grad(out, tokens, weight)
    rounded = torch.zeros_like(tokens).detach()
    for place, read in enumerate(layout.key_index_K.tolist()):
        rounded[read] = rounded[read] + weight[place]

    def off(gradient: torch.Tensor) -> float:
        return float(((gradient.double() - wanted).abs() / wanted.clamp(min=1e-3)).max())

    assert found.dtype == torch.bfloat16
    assert off(found) <= 2**-8  # a single rounding
    assert off(rounded) > 2**-5


def test_no_key_is_twice_in_a_round() -> None:
    layout = VarlenLayout.of(SPANS, "cpu")
    assert torch.cat(layout.rounds).sort().values.tolist() == list(range(len(layout.key_index_K)))
    for places in layout.rounds:
        read = layout.key_index_K[places].tolist()
        assert len(set(read)) == len(read)


def test_not_used_on_a_cpu() -> None:
    assert not varlen.usable(*tensors(torch.bfloat16), 0.0, None, None)


def without(name: str, value: Any) -> Any:
    """A kernel that takes an argument and does not heed it."""

    def kernel(*args: Any, **options: Any) -> torch.Tensor:
        return loop_kernel(*args, **{**options, name: value})

    return kernel


def only_multiples_of_eight(q: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    if q.shape[-1] % 8:
        raise RuntimeError("head sizes must be multiples of 8")
    return loop_kernel(q, *args, **options)


def without_gradients(*args: Any, **options: Any) -> torch.Tensor:
    out = loop_kernel(*args, **options)
    return out.detach() + 0 * out


BROKEN: dict[str, tuple[Any, tuple[int, int, float | None, bool]]] = {
    "the window": (without("window_size", (-1, 0)), (64, 2, None, True)),
    "the scale": (without("scale", None), (64, 2, 0.3, False)),
    "odd head sizes": (only_multiples_of_eight, (20, 2, None, False)),
    "gradients": (without_gradients, (64, 1, None, False)),
    "heads that share keys": (lambda q, k, v, *a, **o: loop_kernel(q, k.flip(1), v.flip(1), *a, **o), (64, 4, None, False)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_kernel_is_held_against_the_shape_that_it_is_wanted_for(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, shape = BROKEN[what]
    for tried, expected in ((loop_kernel, True), (kernel, False)):
        monkeypatch.setattr(varlen, "_kernel", lambda tried=tried: (tried, frozenset({"window_size", "enable_gqa", "scale"})))
        varlen.agrees.cache_clear()
        assert varlen.agrees("cpu", torch.bfloat16, *shape) is expected
    varlen.agrees.cache_clear()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("window", [None, 4])
def test_kernel_against_float64(size: int, window: int | None) -> None:
    inputs = tensors(torch.bfloat16, "cuda", size)
    assert varlen.agrees("cuda:0", torch.bfloat16, size, 2, None, window is not None)
    exact_inputs = [x.detach().double().requires_grad_() for x in inputs]
    ours = varlen.varlen_attention(*inputs, VarlenLayout.of(SPANS, "cuda"), None, window)
    exact = plain_attention(*exact_inputs, SPANS, sliding_window=window)
    torch.testing.assert_close(ours.double(), exact, rtol=2e-2, atol=2e-2)
    weight = torch.randn_like(exact)
    mine = torch.autograd.grad((ours * weight.to(ours.dtype)).sum(), inputs)
    theirs = torch.autograd.grad((exact * weight).sum(), exact_inputs)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=5e-2, atol=5e-2)
