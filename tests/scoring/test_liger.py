"""Liger's kernels, with a stand-in for the package: no GPU, no Triton."""

from __future__ import annotations

import sys
from pathlib import Path
from types import MethodType, ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import prefine
from prefine.errors import ConfigError, ModelError
from prefine.scoring import liger
from scoring.test_exactness import SHARING, build


class _WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:
        return 3 * grads[0]


KERNELS: dict[str, Any] = {
    "right": lambda norm: lambda self, x: nn.functional.rms_norm(x, x.shape[-1:], self.weight, self.variance_epsilon),
    "log-probs": lambda norm: lambda self, x: nn.functional.rms_norm(x, x.shape[-1:], self.weight + 1, self.variance_epsilon),
    "gradients": lambda norm: lambda self, x: _WrongGradient.apply(norm(x)),
}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Liger as far as it is used here; what it is told is kept."""
    calls: list[dict[str, Any]] = []

    def put_in(model: Any, **kernels: Any) -> None:
        calls.append(kernels)
        for layer in model.model.layers:
            norm = layer.input_layernorm
            norm.forward = MethodType(KERNELS[request.param](type(norm)(norm.weight.shape[0]).forward), norm)

    module = ModuleType("liger_kernel.transformers.monkey_patch")
    module.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": put_in}  # type: ignore[attr-defined]
    module._apply_liger_kernel_to_instance = put_in  # type: ignore[attr-defined]
    parents = {"liger_kernel": ModuleType("liger_kernel"), "liger_kernel.transformers": ModuleType("liger_kernel.transformers")}
    parents["liger_kernel.transformers"].monkey_patch = module  # type: ignore[attr-defined]
    parents["liger_kernel.transformers"]._apply_liger_kernel_to_instance = put_in  # type: ignore[attr-defined]
    for name, each in (*parents.items(), (module.__name__, module)):
        monkeypatch.setitem(sys.modules, name, each)
    monkeypatch.setattr(liger, "_is_on_gpu", lambda model: True)
    return calls


@pytest.mark.parametrize("told", ["right"], indirect=True)
def test_kernels_that_compute_the_same_are_taken(told: list[dict[str, Any]]) -> None:
    model = build("llama", SHARING["llama"])
    asked = liger.apply_liger(model, {"rope": False})
    assert told == [asked]
    assert asked == {"rope": False, "cross_entropy": False, "fused_linear_cross_entropy": False}
    assert all("forward" in vars(layer.input_layernorm) for layer in model.model.layers)  # type: ignore[union-attr]


@pytest.mark.parametrize("told", ["log-probs", "gradients"], indirect=True)
def test_kernels_that_compute_something_else_are_refused(told: list[dict[str, Any]], request: pytest.FixtureRequest) -> None:
    what = request.node.callspec.params["told"]
    with pytest.raises(ModelError, match=f"has other {what} than without"):
        liger.apply_liger(build("llama", SHARING["llama"]))
    assert told


@pytest.mark.parametrize("told", ["right"], indirect=True)
def test_what_would_do_nothing_is_refused(told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no kernels for phi3"):
        liger.apply_liger(build("phi3", SHARING["phi3"]))
    model = build("llama", SHARING["llama"])
    with pytest.raises(ConfigError, match="fused_linear_cross_entropy would be ignored"):
        liger.apply_liger(model, {"fused_linear_cross_entropy": True})
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="pip install 'prefine\\[liger\\]'"):
        liger.apply_liger(model)
    assert told == []


@pytest.mark.parametrize("told", ["right"], indirect=True)
@pytest.mark.usefixtures("told")
def test_not_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liger, "_is_on_gpu", lambda model: next(model.parameters()).is_cuda)
    with pytest.raises(ConfigError, match="run on a GPU"):
        liger.apply_liger(build("llama", SHARING["llama"]))


@pytest.mark.parametrize("told", ["right"], indirect=True)
def test_a_run_takes_them_and_transformers_puts_in_no_more(
    told: list[dict[str, Any]], lab_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers.integrations import liger as theirs

    monkeypatch.setattr(theirs, "is_liger_kernel_available", lambda: True)
    run = prefine.dpo(
        lab_model, pairs_file, output_dir=tmp_path / "run", use_liger_kernel=True, max_steps=1, final_eval="off", token_budget=4096
    )
    assert run.config["use_liger_kernel"] is True
    assert len(told) == 2
    assert all(kernels["fused_linear_cross_entropy"] is False for kernels in told)
    with pytest.raises(ConfigError, match="liger_kernel_config would be ignored without use_liger_kernel"):
        prefine.dpo(lab_model, pairs_file, output_dir=tmp_path / "b", liger_kernel_config={"rope": False}, max_steps=1)
