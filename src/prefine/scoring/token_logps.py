"""Log-probs of completion tokens, with the LM head run on those positions only, in chunks.

Legend: N scored tokens, C tokens of a chunk, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

CHUNK_BYTES = {"cpu": 64 * 2**20, "cuda": 512 * 2**20}
"""The most float32 logits that exist at a time. A GPU wants a thousand tokens of a large vocabulary to be busy."""
TILE = 256
"""Tokens by which a GPU's chunks are rounded down: its products are made of such tiles."""
AS_IT_IS = ("cpu", "meta")
"""Devices on which mixed precision leaves the head in the dtype of its input: float32 is more exact there, and not ten times slower."""


@dataclass(frozen=True)
class HeadScaling:
    """What a model does to its logits after the head: ``cap * tanh(x * factor / cap)``."""

    factor: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, config: Any) -> HeadScaling:
        """Read from a model's config (Gemma's soft-cap, Cohere's and Granite's scales)."""
        config = config.get_text_config()
        factor = 1.0
        if getattr(config, "logit_scale", None):
            factor *= float(config.logit_scale)
        if getattr(config, "logits_scaling", None):
            factor /= float(config.logits_scaling)
        cap = getattr(config, "final_logit_softcapping", None)
        return cls(factor, float(cap) if cap else None)

    def __call__(self, logits: torch.Tensor) -> torch.Tensor:
        """Apply to logits of any shape."""
        if self.factor != 1.0:
            logits = logits * self.factor
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


class _LinearHead(torch.autograd.Function):
    """log p(target) for a plain linear head, without keeping logits for backward.

    d logp_n / d hidden_n = (onehot - p) W does not depend on the loss but for a factor per
    token, so it is computed in forward, while p is at hand. The head's own gradient, wanted
    in full fine-tuning only, recomputes p chunk by chunk.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        target_N: torch.Tensor,
        scaling: HeadScaling,
        with_stats: bool,
        device: str,
    ) -> tuple[torch.Tensor, ...]:
        needs_hidden, needs_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1]
        weight = weight_VD.to(hidden_ND.dtype)
        chunk = chunk_tokens(weight_VD.shape[0], device)
        logps, jacobians, probabilities, stats = [], [], None, []
        for hidden_CD, target_C in zip(hidden_ND.split(chunk), target_N.split(chunk), strict=True):
            logits, slope = _scaled_logits(hidden_CD, weight, bias_V, scaling)
            logp_C, p, told = _softmax_in_place(logits, target_C, with_stats)
            logps.append(logp_C)
            stats += [told] if with_stats else []
            if needs_hidden or needs_weight:
                d_logits = _onehot_minus(p, target_C, slope).to(hidden_ND.dtype)
                if needs_hidden:
                    jacobians.append(d_logits @ weight)
                if needs_weight and len(hidden_ND) <= chunk:
                    probabilities = d_logits  # one chunk: it fits, keep it
        ctx.scaling, ctx.chunk, ctx.probabilities = scaling, chunk, probabilities
        jacobian = torch.cat(jacobians) if jacobians else None
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, target_N, jacobian)
        whole = [torch.cat(parts) for parts in zip(*stats, strict=True)]
        ctx.mark_non_differentiable(*whole)
        return torch.cat(logps), *whole

    @staticmethod
    def backward(ctx: Any, grad_N: torch.Tensor, *of_stats: torch.Tensor) -> Any:
        hidden_ND, weight_VD, bias_V, target_N, jacobian = ctx.saved_tensors
        grad_hidden = jacobian * grad_N[:, None].to(jacobian.dtype) if ctx.needs_input_grad[0] else None
        grad_weight = grad_bias = None
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            weight = weight_VD.to(hidden_ND.dtype)
            # What stands on ctx outlives backward, as long as the pack's loss does: into the next pack's forward.
            kept, ctx.probabilities = ctx.probabilities, None
            parts = zip(hidden_ND.split(ctx.chunk), target_N.split(ctx.chunk), grad_N.split(ctx.chunk), strict=True)
            for hidden_CD, target_C, grad_C in parts:
                d_logits = kept
                if d_logits is None:
                    logits, slope = _scaled_logits(hidden_CD, weight, bias_V, ctx.scaling)
                    d_logits = _onehot_minus(_softmax_in_place(logits, target_C)[1], target_C, slope).to(hidden_CD.dtype)
                scale_C = grad_C[:, None].to(hidden_CD.dtype)
                step = (d_logits.T @ (hidden_CD * scale_C)).to(weight_VD.dtype)
                grad_weight = step if grad_weight is None else grad_weight.add_(step)
                if bias_V is not None and ctx.needs_input_grad[2]:
                    step_V = (d_logits * scale_C).sum(0).to(bias_V.dtype)
                    grad_bias = step_V if grad_bias is None else grad_bias + step_V
        return grad_hidden, grad_weight, grad_bias, None, None, None, None


def _scaled_logits(
    hidden_CD: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, scaling: HeadScaling
) -> tuple[torch.Tensor, torch.Tensor | float]:
    """float32 logits (C, V) and their slope by the unscaled ones."""
    if _adds_up_in_float32(str(hidden_CD.device), hidden_CD.dtype):
        raw = torch.mm(hidden_CD, weight.T, out_dtype=torch.float32)  # half precision's logits would be rounded by up to .1
        raw = raw if bias is None else raw + bias.float()
    else:
        raw = nn.functional.linear(hidden_CD, weight, None if bias is None else bias.to(hidden_CD.dtype)).float()
    logits = scaling(raw)
    if scaling.cap is None:
        return logits, scaling.factor
    return logits, (1 - (logits / scaling.cap).square()) * scaling.factor


@lru_cache(maxsize=16)
def _adds_up_in_float32(device: str, dtype: torch.dtype) -> bool:
    """Whether a product of half precision can be had in float32 there, as CUDA's kernels add it up."""
    if dtype not in (torch.float16, torch.bfloat16) or torch.device(device).type in AS_IT_IS:
        return False
    try:
        few = torch.ones(16, 16, device=device, dtype=dtype)
        return bool((torch.mm(few, few, out_dtype=torch.float32) == 16).all())
    except (RuntimeError, TypeError, NotImplementedError):
        return False


def _softmax_in_place(
    logits: torch.Tensor, target_C: torch.Tensor, with_stats: bool = False
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
    """Log-probs of the targets (C,), probabilities (C, V), and what :class:`TokenStats` has, of float32 logits (C, V), given up for it.

    One exponential an entry, and no further block of that size but for the entropies.
    """
    rest = (logits.mean(-1), logits.argmax(-1) == target_C) if with_stats else ()
    logits.sub_(logits.amax(-1, keepdim=True))
    logit_C = logits.gather(1, target_C[:, None]).squeeze(1)
    p = logits.exp() if with_stats else logits.exp_()
    sum_C = p.sum(-1)
    p.div_(sum_C[:, None])
    log_sum_C = sum_C.log()
    stats = (log_sum_C - torch.bmm(p[:, None], logits[:, :, None]).flatten(), *rest) if with_stats else ()
    return logit_C - log_sum_C, p, stats


def _onehot_minus(p: torch.Tensor, target_C: torch.Tensor, slope: torch.Tensor | float) -> torch.Tensor:
    """d logp / d unscaled logits (C, V), computed in place of the probabilities."""
    out = p.neg_()
    out[torch.arange(len(target_C), device=out.device), target_C] += 1.0
    if isinstance(slope, torch.Tensor):
        return out.mul_(slope)
    return out if slope == 1.0 else out.mul_(slope)


def chunk_tokens(vocabulary: int, device: str = "cpu") -> int:
    """Tokens whose float32 logits fill :data:`CHUNK_BYTES` of such a device."""
    if device == "cuda":
        return max(TILE, CHUNK_BYTES["cuda"] // (4 * vocabulary) // TILE * TILE)
    return max(16, CHUNK_BYTES["cpu"] // (4 * vocabulary))


def in_mixed_precision(hidden: torch.Tensor) -> torch.Tensor:
    """What the head is given under mixed precision, whose norms end in float32. Call it where autocast is on, or is not."""
    device = hidden.device.type
    if device in AS_IT_IS or not torch.is_autocast_enabled(device):
        return hidden
    return hidden.to(torch.get_autocast_dtype(device))


def as_head_input(hidden: torch.Tensor, head: nn.Module) -> torch.Tensor:
    """Hidden states in the dtype of the head's weights, which mixed precision may have left: a layer norm's output is float32."""
    weight = getattr(head, "weight", None)
    return hidden.to(weight.dtype) if isinstance(weight, torch.Tensor) and weight.is_floating_point() else hidden


@dataclass(frozen=True)
class TokenStats:
    """What the head says of each scored token, shapes (N,), float32 but for ``is_top1``.

    Attributes:
        entropy: of the next-token distribution, nats.
        mean_logit: over the vocabulary.
        is_top1: whether the target has the highest logit.
    """

    entropy: torch.Tensor
    mean_logit: torch.Tensor
    is_top1: torch.Tensor


def head_token_logps(
    hidden_ND: torch.Tensor,
    head: nn.Module,
    target_N: torch.Tensor,
    scaling: HeadScaling,
    with_stats: bool = False,
    device: str | None = None,
) -> tuple[torch.Tensor, TokenStats | None]:
    """Log-prob of each target, shape (N,), float32, differentiable; and what else the head says there, where it is wanted.

    A plain ``nn.Linear`` head takes the fused path; any other (an adapter on the head,
    a quantised one) is called chunk by chunk under activation checkpointing.

    Args:
        device: of which kind chunks are made for; unset, the hidden states'.
    """
    device = device or hidden_ND.device.type
    if isinstance(head, nn.Linear) and type(head).forward is nn.Linear.forward:
        logps, *stats = _LinearHead.apply(hidden_ND, head.weight, head.bias, target_N, scaling, with_stats, device)
        return logps, TokenStats(*stats) if with_stats else None

    def one(hidden_CD: torch.Tensor, target_C: torch.Tensor) -> torch.Tensor:
        logits = scaling(call_head(head, hidden_CD).float())
        return logits.gather(1, target_C[:, None]).squeeze(1) - logits.logsumexp(-1)

    chunk = chunk_tokens(getattr(head, "out_features", 2**17), device)
    pieces = list(zip(hidden_ND.split(chunk), target_N.split(chunk), strict=True))
    grad = torch.is_grad_enabled()
    logps = torch.cat([checkpoint(one, h, t, use_reentrant=False) if grad else one(h, t) for h, t in pieces])
    if not with_stats:
        return logps, None
    found = []
    with torch.no_grad():  # once more, as nothing of it is kept
        for hidden_CD, target_C in pieces:
            logits = scaling(call_head(head, hidden_CD).float())
            found.append(_softmax_in_place(logits, target_C, True)[2])
    return logps, TokenStats(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def head_logps(hidden_CD: torch.Tensor, head: nn.Module, scaling: HeadScaling) -> torch.Tensor:
    """Log-probs of the whole vocabulary, shape (C, V), float32: for few tokens at a time."""
    return scaling(call_head(head, hidden_CD).float()).log_softmax(-1)


def head_entropy(hidden_ND: torch.Tensor, head: nn.Module, scaling: HeadScaling) -> torch.Tensor:
    """Entropy of each next-token distribution, shape (N,), nats, differentiable, chunk by chunk under activation checkpointing."""

    def one(hidden_CD: torch.Tensor) -> torch.Tensor:
        logp = head_logps(hidden_CD, head, scaling)
        return -(logp.exp() * logp).sum(-1)

    chunk = chunk_tokens(getattr(head, "out_features", 2**17))
    return torch.cat([checkpoint(one, h, use_reentrant=False) for h in hidden_ND.split(chunk)])


@torch.no_grad()
def head_log_sum_sq(hidden_ND: torch.Tensor, head: nn.Module, scaling: HeadScaling) -> torch.Tensor:
    """log sum_v p(v)^2 per token, shape (N,): what WPO aligns its weights by (arXiv 2406.11827, eq. 2)."""
    chunk = chunk_tokens(getattr(head, "out_features", 2**17))
    out = []
    for hidden_CD in hidden_ND.split(chunk):
        logits = scaling(call_head(head, hidden_CD).float())
        out.append((2 * logits).logsumexp(-1) - 2 * logits.logsumexp(-1))
    return torch.cat(out)


def call_head(head: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """A head's own product, in the dtype of its weights and without its hooks: sharding's have run where this is within its forward."""
    out: torch.Tensor = type(head).forward(head, as_head_input(hidden, head))
    return out


def is_shared_out(parameter: nn.Parameter) -> bool:
    """Whether each process holds a part of it (FSDP2, DeepSpeed's stage 3)."""
    return hasattr(parameter, "full_tensor") or hasattr(parameter, "ds_id")


def whole_head(head: nn.Module) -> nn.Module:
    """A head that can be used outside of its model's forward: a sharded one's weights, gathered; to be asked for in every process."""
    own = dict(head.named_parameters())
    if not any(is_shared_out(p) for p in own.values()):
        return head
    if any(hasattr(p, "ds_id") for p in own.values()):
        from deepspeed.runtime.zero import GatheredParameters

        with GatheredParameters(list(own.values())):
            parts = {name: p.detach().clone() for name, p in own.items()}
    else:
        parts = {name: p.full_tensor() for name, p in own.items() if hasattr(p, "full_tensor")}
    out = nn.Linear(1, 1, "bias" in parts, device="meta")
    for name, part in parts.items():
        setattr(out, name, nn.Parameter(part.detach(), requires_grad=False))
    return out


class _Anchor(torch.autograd.Function):
    """What a head gives back in the place of logits: a zero a position, which depends on the head's input and has no gradient to it."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.new_zeros((*hidden.shape[:-1], 1))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> None:
        return None


class _Tied(torch.autograd.Function):
    """Tensors as they are, whose backward goes through the anchor first."""

    @staticmethod
    def forward(ctx: Any, anchor: torch.Tensor, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        ctx.save_for_backward(anchor)
        return tuple(t.view_as(t) for t in tensors)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        return torch.zeros_like(ctx.saved_tensors[0]), *grads


@dataclass
class HeadWork:
    """What is made of a head's input within its forward."""

    found: tuple[Any, ...] = ()

    def tied(self, output: torch.Tensor) -> tuple[Any, ...]:
        """The same, with the model's output in their graph.

        A sharded model gathers weights for backward when the gradient of what its forward returned is there, so that must be on the way.
        """
        at = [i for i, x in enumerate(self.found) if isinstance(x, torch.Tensor) and x.requires_grad]
        if not at or not output.requires_grad:
            return self.found
        tied = _Tied.apply(output, *(self.found[i] for i in at))
        known = dict(zip(at, tied, strict=True))
        return tuple(known.get(i, x) for i, x in enumerate(self.found))


@contextmanager
def within_head(head: nn.Module, work: Callable[[torch.Tensor], tuple[Any, ...]]) -> Iterator[HeadWork]:
    """Have the head's forward do ``work`` on its input (R, L, D): where the weights of a sharded model are whole.

    Work is done without mixed precision where it is off outside of the block, whatever the model's own forward has: logits are to be exact.
    """
    done = HeadWork()
    before = vars(head).get("forward")
    modes = {
        device: torch.is_autocast_enabled(device) for device in ("cpu", "cuda", "mps", "xpu") if torch.amp.is_autocast_available(device)
    }

    def forward(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        hidden = in_mixed_precision(hidden)
        device = hidden.device.type
        mixed = torch.autocast(device, torch.get_autocast_dtype(device), modes[device]) if device in modes else nullcontext()
        with mixed:
            done.found = work(hidden)
            anchor: torch.Tensor = _Anchor.apply(hidden)
        return anchor

    head.__dict__["forward"] = forward
    try:
        yield done
    finally:
        head.__dict__.pop("forward")
        if before is not None:
            head.__dict__["forward"] = before
