"""An optimizer's step that runs out of memory is taken back and taken in smaller pieces, so that no parameter moves twice.

Left out: optimizers that are not torch's own, whose parameters may depend on one another. Their step cannot be taken back, and
memory that runs out there ends the run, whose last checkpoint stays.
"""

from __future__ import annotations

import functools
import math
import types
import warnings
from typing import Any

import torch

from prefine.errors import ModelError
from prefine.packing.out_of_memory import PIECE_BYTES, smaller_on_oom

HELP = "give --optim adamw_8bit or adafactor, or train with LoRA; the last complete checkpoint stays, and --resume goes on from it"


def survive_out_of_memory(optimizer: Any) -> None:
    """Replace an optimizer's ``step`` by one that survives; hooks on it are called once a piece.

    The first step allocates the moments; steps that are not fused allocate as much again each time.
    """
    if hasattr(optimizer.step, "survives"):
        return
    inner = optimizer.step
    in_pieces = type(optimizer).__module__.startswith("torch.optim") and not isinstance(optimizer, torch.optim.LBFGS)
    pieces = _Pieces(optimizer, inner)

    @functools.wraps(inner)
    def step(self: Any, closure: Any = None) -> Any:
        if closure is None and in_pieces:
            return pieces.step()
        return smaller_on_oom(lambda: inner() if closure is None else inner(closure), functools.partial(_refuse, self))

    step.survives = True  # type: ignore[attr-defined]
    optimizer.step = types.MethodType(step, optimizer)


def _refuse(optimizer: Any, one: str = "") -> None:
    raise ModelError(f"out of memory in the step of {type(optimizer).__name__}{one}; {HELP}", code="PF-M08")


class _Pieces:
    """A step as a sequence of steps over parts of a group's parameters, each of which can be taken back.

    A fused step allocates nothing but moments, before anything moves, and is taken whole, without copies.
    """

    def __init__(self, optimizer: Any, inner: Any) -> None:
        self.optimizer = optimizer
        self.inner = inner
        self.most_bytes = math.inf
        self.copies: list[tuple[Any, Any, Any]] = []

    def step(self) -> None:
        groups = self.optimizer.param_groups
        self.is_fused = all(group.get("fused") for group in groups)
        self.most_bytes = min(self.most_bytes, math.inf if self.is_fused else PIECE_BYTES)
        whole = [group["params"] for group in groups]
        try:
            for group in groups:
                group["params"] = []
            for group, params in zip(groups, whole, strict=True):
                left = [p for p in params if p.grad is not None]
                while left:
                    work = functools.partial(self._move, group, left)
                    left = left[smaller_on_oom(work, functools.partial(self._shrink, left), self._take_back) :]
                group["params"] = []
        finally:
            for group, params in zip(groups, whole, strict=True):
                group["params"] = params

    def _move(self, group: Any, left: list[Any]) -> int:
        """Move the first of these parameters, as many as may move together; returns how many."""
        state = self.optimizer.state
        group["params"] = piece = left[: self._count(left)]
        self.copies = []
        for p in piece:
            if not self.is_fused:
                kept = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in state[p].items()} if p in state else None
                self.copies.append((p, p.detach().clone(), kept))
            elif p not in state:
                self.copies.append((p, None, None))
        self.inner()
        self.copies = []
        return len(piece)

    def _count(self, left: list[Any]) -> int:
        total = 0
        for count, p in enumerate(left):
            total += p.numel() * p.element_size()
            if total > self.most_bytes:
                return max(1, count)
        return len(left)

    @torch.no_grad()
    def _take_back(self) -> None:
        for p, value, kept in self.copies:
            if value is not None:
                p.copy_(value)
            if kept is None:
                self.optimizer.state.pop(p, None)
            else:
                self.optimizer.state[p] = kept
        self.copies = []

    def _shrink(self, left: list[Any]) -> None:
        tried = left[: self._count(left)]
        if len(tried) == 1:
            _refuse(self.optimizer, f" with a single parameter of shape {tuple(tried[0].shape)}")
        self.most_bytes = sum(p.numel() * p.element_size() for p in tried) / 2
        warnings.warn("out of memory in the optimizer's step; going on with fewer parameters at a time, same result", stacklevel=2)
