"""The proof, attention and the head in the precisions that models are trained in."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn

from prefine.packing import attention
from prefine.packing.pack import Span
from prefine.packing.plain_attention import plain_attention
from prefine.scoring import token_logps
from prefine.scoring.proof import prove_layout
from prefine.scoring.scorer import Scorer
from scoring.test_exactness import NOT_SHARING, SHARING, build, groups


class Quantised(nn.Linear):
    """A linear layer as bitsandbytes makes them: it multiplies in its own dtype, and gives back its input's."""

    compute_dtype = torch.bfloat16

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.to(self.compute_dtype)
        out = nn.functional.linear(x.to(self.compute_dtype), self.weight.to(self.compute_dtype), bias)
        return out.to(x.dtype)


def quantised(model: nn.Module) -> nn.Module:
    """Embeddings, norms and head in float32, as ``prepare_model_for_kbit_training`` leaves them."""
    for module in model.modules():
        if type(module) is nn.Linear and module is not model.get_output_embeddings():  # type: ignore[operator]
            module.__class__ = Quantised
    return model


MODES: dict[str, tuple[Any, torch.dtype | None]] = {
    "bfloat16": (lambda m: m.to(torch.bfloat16), None),
    "float16": (lambda m: m.to(torch.float16), None),
    "autocast to bfloat16": (lambda m: m, torch.bfloat16),
    "4-bit": (quantised, None),
    "4-bit under autocast": (quantised, torch.bfloat16),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [*SHARING, *NOT_SHARING])
def test_layouts_are_proven_in_every_precision(name: str, mode: str) -> None:
    change, autocast = MODES[mode]
    model = change(build(name, {**SHARING, **NOT_SHARING}[name]))
    proof = prove_layout(model, 64, autocast=autocast)
    assert proof.layout == ("shared" if name in SHARING else "padded"), proof


def seeing_others(span: Span) -> list[Span]:
    """Ordinary causal attention: completions see those before them."""
    return [Span(span.prompt, (sum(span.completions),))]


def without_prompt(span: Span) -> list[Span]:
    """Later completions see themselves alone."""
    return [Span(span.prompt, span.completions[:1]), *(Span(0, (n,)) for n in span.completions[1:])]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("mistake", [seeing_others, without_prompt])
@pytest.mark.parametrize("name", list(SHARING))
def test_a_wrong_layout_is_caught_in_every_precision(name: str, mistake: Any, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(query: Any, key: Any, value: Any, spans: Any, *rest: Any, **more: Any) -> torch.Tensor:
        return plain_attention(query, key, value, [w for s in spans for w in mistake(s)], *rest, **more)

    change, autocast = MODES[mode]
    model = change(build(name, SHARING[name]))
    monkeypatch.setattr(attention, "plain_attention", wrong)
    assert prove_layout(model, 64, autocast=autocast).layout != "shared"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gpt_oss"])
def test_attention_computes_in_half_precision(name: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rotary embeddings and 4-bit layers left float32, half precision's kernels are not refused."""
    change, autocast = MODES[mode]
    model = change(build(name, SHARING[name]))
    seen = set()

    def spy(query: Any, key: Any, value: Any, *rest: Any, **more: Any) -> torch.Tensor:
        seen.update((query.dtype, key.dtype, value.dtype))
        return plain_attention(query, key, value, *rest, **more)

    monkeypatch.setattr(attention, "plain_attention", spy)
    scorer = Scorer(model)
    if autocast is not None:
        scorer.autocast = lambda: torch.autocast("cpu", autocast)
    pack = scorer.pack(groups())
    with scorer.attending(pack):
        scorer.token_logps(pack).sum().backward()
    wanted = autocast or next(model.parameters()).dtype
    assert seen == {wanted}


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_the_head_computes_in_half_precision_where_that_is_quicker(name: str, half: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU; its log-probs and gradients are those of float64 but for the dtype's noise."""
    model = build(name, SHARING[name])
    exact = copy.deepcopy(model).double()
    found = []
    for one, mode in ((model, lambda: torch.autocast("cpu", half)), (exact, nullcontext)):
        scorer = Scorer(one)
        scorer.autocast = mode
        pack = scorer.pack(groups())
        monkeypatch.setattr(token_logps, "AS_IT_IS", ("meta",))
        with scorer.attending(pack):
            hidden = scorer.hidden(pack)
            assert hidden.dtype == (half if one is model else torch.float64)
            logps = scorer.head_logps(hidden, pack)
            (logps * torch.linspace(-1, 1, len(logps), dtype=logps.dtype)).sum().backward()
        assert logps.dtype == torch.float32
        found.append([logps.detach().double(), one.get_output_embeddings().weight.grad.double()])  # type: ignore[operator]
    for ours, theirs in zip(*found, strict=True):
        assert float((ours - theirs).norm() / theirs.norm()) < (0.02 if half is torch.bfloat16 else 0.004)
