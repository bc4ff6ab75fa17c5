"""Shared-prefix attention as one scaled-dot-product call a sequence: what every device computes, and kernels are held against.

Legend: H heads, T tokens, D head size, Q query tokens, K key tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from prefine.packing.pack import Span


def plain_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    spans: Sequence[Span],
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
) -> torch.Tensor:
    """One scaled-dot-product call a sequence: every device, every option; returns (1, T, H, D)."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key = key.repeat_interleave(groups, dim=1)
        value = value.repeat_interleave(groups, dim=1)
    # The prompt and its first completion are one ordinary causal sequence; every
    # further completion attends to a copy of the prompt's keys followed by its own.
    sizes = [n for s in spans for n in (s.prompt + s.completions[0], *s.completions[1:])]
    queries, keys, values = (x.split(sizes, dim=2) for x in (query, key, value))
    outputs = []
    at = 0
    for span in spans:
        for member in range(len(span.completions)):
            if sizes[at + member] == 0:
                outputs.append(queries[at + member].transpose(1, 2)[..., : value.shape[-1]])
                continue
            own_key, own_value = keys[at + member], values[at + member]
            if member > 0:
                own_key = torch.cat((keys[at][:, :, : span.prompt], own_key), dim=2)
                own_value = torch.cat((values[at][:, :, : span.prompt], own_value), dim=2)
            out = _attention(queries[at + member], own_key, own_value, dropout, scaling, sliding_window, softcap, s_aux)
            outputs.append(out.transpose(1, 2))
        at += len(span.completions)
    return torch.cat(outputs, dim=1)


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: float,
    scaling: float | None,
    window: int | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Causal attention whose last query is the last key; query (1, H, Q, D), key and value (1, H, K, D)."""
    num_queries, num_keys = query.shape[2], key.shape[2]
    if window is not None and window >= num_keys:
        window = None
    plain = softcap is None and sinks is None
    if plain and window is None and num_queries == num_keys:
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True, scale=scaling)
    q_pos = torch.arange(num_keys - num_queries, num_keys, device=query.device)[:, None]
    k_pos = torch.arange(num_keys, device=query.device)[None, :]
    visible = k_pos <= q_pos
    if window is not None:
        visible &= k_pos > q_pos - window
    if plain:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=visible, dropout_p=dropout, scale=scaling)
    scores = query @ key.transpose(2, 3) * (scaling if scaling is not None else query.shape[-1] ** -0.5)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.float().masked_fill(~visible, float("-inf"))
    if sinks is not None:
        # A sink is one more score in the softmax that carries no value.
        sink = sinks.float().reshape(1, -1, 1, 1).expand(query.shape[0], -1, num_queries, 1)
        weights = torch.cat((scores, sink), dim=-1).softmax(-1)[..., :-1]
    else:
        weights = scores.softmax(-1)
    return F.dropout(weights, dropout).to(value.dtype) @ value
