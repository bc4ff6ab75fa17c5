"""Frozen weights in the dtype that mixed precision multiplies them in."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def hold_frozen_linears(model: Any, dtype: torch.dtype) -> None:
    """Keep weights of frozen linear layers in ``dtype``: what autocast to it makes of them at each call, bit for bit, in less memory.

    Embeddings, norms and the head stay as they are: of them autocast makes nothing, or they are shared.
    """
    for module in _inner_linears(model):
        for parameter in module.parameters():
            if not parameter.requires_grad and parameter.dtype == torch.float32:
                parameter.data = parameter.data.to(dtype)


def linears_alone_in_half(model: Any) -> None:
    """Bring all but linear layers of a model in float16 to float32, where float16 would overflow between layers.

    It then computes under autocast what the same model in float32 would.
    """
    linear = {id(p) for m in model.modules() if type(m) is nn.Linear for p in m.parameters()}
    shared = {id(p) for m in model.modules() if not isinstance(m, nn.Linear) for p in m.parameters(recurse=False)}
    for parameter in model.parameters():
        if parameter.dtype == torch.float16 and (id(parameter) not in linear or id(parameter) in shared):
            parameter.data = parameter.data.float()


def needs_autocast(model: Any) -> bool:
    """Whether linear layers are in another dtype than what reaches them, so that the model computes under mixed precision alone."""
    inside = {m.weight.dtype for m in _inner_linears(model) if not m.weight.requires_grad}
    return model.get_input_embeddings().weight.dtype == torch.float32 and bool(inside & {torch.float16, torch.bfloat16})


def _inner_linears(model: Any) -> list[nn.Linear]:
    """Its linear layers but for the head."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    kept = {id(module.weight) for module in ends if module is not None}
    return [m for m in model.modules() if type(m) is nn.Linear and id(m.weight) not in kept]
