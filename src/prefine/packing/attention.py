"""Attention in which each completion sees its prompt and itself, and nothing else.

Registered with ``transformers.AttentionInterface`` under :data:`NAME`, together
with a mask function that returns None, since the layout says everything a mask
would. The layout is a process-wide variable, not an argument: gradient
checkpointing recomputes the forward inside backward, on CUDA in another thread.
Wrap forward *and* backward in :func:`attend`.

Left out: position biases (ALiBi), chunked windows, state-space layers. The proof
step (``scoring.proof``) finds models that need them.

Legend: H heads, T tokens, D head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from prefine.packing import flex, varlen
from prefine.packing.pack import Span
from prefine.packing.plain_attention import plain_attention

NAME = "prefine"


class _Active:
    """The layout in force, and what the attention function has seen since it was set."""

    spans: Sequence[Span] | None = None
    varlen: varlen.VarlenLayout | None = None
    calls: int = 0
    windows: ClassVar[set[int | None]] = set()


@contextmanager
def attend(model: torch.nn.Module, spans: Sequence[Span] | None) -> Iterator[type[_Active]]:
    """Let ``model`` attend by ``spans`` until the block ends; ``None`` leaves the model alone."""
    if spans is None:
        yield _Active
        return
    configs = _configs(model)
    before = [config._attn_implementation for config in configs]
    outer = _Active.spans, _Active.varlen
    _Active.spans, _Active.varlen, _Active.calls, _Active.windows = spans, None, 0, set()
    try:
        for config in configs:
            config._attn_implementation_internal = NAME
        yield _Active
    finally:
        _Active.spans, _Active.varlen = outer
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation_internal = name


def _configs(model: torch.nn.Module) -> list[Any]:
    found = getattr(model, "_prefine_configs", None)
    if found is None:
        configs = (getattr(m, "config", None) for m in model.modules())
        found = list({id(c): c for c in configs if hasattr(c, "_attn_implementation_internal")}.values())
        object.__setattr__(model, "_prefine_configs", found)
    return list(found)


def shared_prefix_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """The attention function: query (1, H, T, D), key and value with grouped heads; returns (1, T, H, D).

    Handles grouped-query heads, sliding windows, soft-capped scores (Gemma 2) and
    attention sinks (``s_aux``, gpt-oss).
    """
    spans = _Active.spans
    assert spans is not None, "shared-prefix attention outside attend()"
    _Active.calls += 1
    _Active.windows.add(sliding_window)
    if not module.training:
        dropout = 0.0
    query, key, value = _in_compute_dtype(query, key, value)
    if softcap is None and s_aux is None and varlen.usable(query, key, value, dropout, scaling, sliding_window):
        if _Active.varlen is None:
            _Active.varlen = varlen.layout_of(tuple(spans), query.device)
        return varlen.varlen_attention(query, key, value, _Active.varlen, scaling, sliding_window), None
    options = scaling, sliding_window, softcap, s_aux
    if flex.usable(query, key, value, dropout, *options):
        return flex.flex_attend(query, key, value, spans, *options), None
    return plain_attention(query, key, value, spans, dropout, *options), None


def _in_compute_dtype(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Query, key and value as mixed precision's attention takes them.

    Rotary embeddings and norms leave queries and keys in float32, 4-bit layers and adapters values too, which half precision's kernels
    refuse. On the meta device, where there is no autocast, the narrowest of them tells.
    """
    device = tensors[0].device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    else:
        dtype = min((x.dtype for x in tensors), key=lambda d: d.itemsize)
    return tuple(x.to(dtype) if x.dtype != torch.float64 else x for x in tensors)


def _no_mask(*args: Any, **kwargs: Any) -> None:
    return None


AttentionInterface.register(NAME, shared_prefix_attention)
AttentionMaskInterface.register(NAME, _no_mask)
