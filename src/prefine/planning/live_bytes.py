"""How many bytes a piece of torch code holds at a time, counted while it runs on the meta device, where nothing is computed.

Every tensor is counted from the operation that makes it until its storage is freed, so views are free and what autograd keeps for
backward is counted once. Two things that the meta device does not do as a CPU or GPU does have a stand-in here: fused attention
(on meta it would compute scores) and mixed precision (meta has no autocast).

What is left out: memory that a kernel takes and gives back within one operation, but for :data:`WITHIN`.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

WITHIN: dict[Any, Callable[[Any], int]] = {
    # ATen/native/ReduceOps.cpp, logsumexp_out_impl: (self - maxes).exp_() before the sum
    torch.ops.aten.logsumexp.default: lambda args: int(args[0].numel() * args[0].element_size()),
}
"""Bytes that an operation holds while it runs, beside what it is given and what it returns."""


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are alive, and their peak.

    Args:
        known: tensors that were there before and are counted elsewhere: weights, gradients.
    """

    def __init__(self, known: Iterable[torch.Tensor] = ()) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._held = {t.untyped_storage()._cdata for t in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return True  # what code asks of numbers that are not there: whether all positions are one sequence's
        # Autograd sums gradients in place (input_buffer.cpp, accumulate), but not where a mode looks on.
        summed = func is torch.ops.aten.add.Tensor and not kwargs and _sums_gradients(*args)
        out = args[0] if summed else func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage())
        self.peak = max(self.peak, self.live + (WITHIN[func](args) if func in WITHIN else 0))
        return out

    def _see(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self._held:
            size = storage.nbytes()
            self._held.add(key)
            self.live += size
            weakref.finalize(storage, self._forget, key, size).atexit = False

    def _forget(self, key: int, size: int) -> None:
        self._held.discard(key)
        self.live -= size


def _sums_gradients(one: Any, other: Any) -> bool:
    """Whether an addition is autograd's own, of gradients that reach one tensor by several ways: nothing else adds within backward."""
    within = torch._C._current_graph_task_id() != -1 and not torch.is_grad_enabled()
    return within and isinstance(other, torch.Tensor) and one.shape == other.shape and one.dtype == other.dtype


class AsDevice(TorchFunctionMode):
    """Lets code on the meta device allocate as it would on a device: fused attention, and mixed precision where ``autocast`` is set.

    Modes are off within backward, where checkpointing runs the forward again: it is to enter :meth:`again`.

    Args:
        autocast: the dtype that linear layers and attention compute in; None where there is no mixed precision.
    """

    def __init__(self, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self.autocast = autocast
        self.casts: dict[int, torch.Tensor] | None = None
        """Weights in the compute dtype, which autocast keeps from their first use until the forward ends; None outside of it."""

    def again(self) -> tuple[Any, Any]:
        """``context_fn`` of ``torch.utils.checkpoint``: contexts of the forward and of its repetition."""
        return contextlib.nullcontext(), self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query, key, value = map(self._cast, args[:3])
            mask = kwargs.get("attn_mask")
            # Fused kernels take a mask of numbers: one of true and false is converted first.
            return FusedAttention.apply(query, key, value, None if mask is None else mask.to(query.dtype))
        if func is F.linear and self.autocast is not None:
            args = [x if x is None else self._cast(x) for x in args]
            kwargs = {name: x if x is None else self._cast(x) for name, x in kwargs.items()}
        return func(*args, **kwargs)

    def _cast(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.autocast is None or tensor.dtype == self.autocast or not tensor.is_floating_point():
            return tensor
        if self.casts is None or not (tensor.is_leaf and tensor.requires_grad):
            return tensor.to(self.autocast)
        if id(tensor) not in self.casts:
            self.casts[id(tensor)] = tensor.to(self.autocast)
        return self.casts[id(tensor)]


class FusedAttention(torch.autograd.Function):
    """What a fused attention kernel allocates: its output and one number a query; scores are never there as a whole.

    Legend: H heads, Q query tokens, K key tokens, D head size. Query (1, H, Q, D), key and value (1, H, K, D), or each without its first
    dimension.
    """

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """The output, shape of the query with the value's head size."""
        out = query.new_empty((*query.shape[:-1], value.shape[-1]))
        log_sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, mask, out, log_sums)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """A gradient of each input."""
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


def varlen_kernel(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *layout: Any, **options: Any) -> torch.Tensor:
    """What stands in for the variable-length kernel; query (T, H, D), key and value (K, heads, D); returns (T, H, D)."""
    out: torch.Tensor = FusedAttention.apply(query, key, value, None)
    return out
