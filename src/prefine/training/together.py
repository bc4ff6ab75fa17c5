"""What the processes of one run have to agree on: how many passes a batch takes, gradients, whether the weights are numbers.

Where weights or gradients are shared out (FSDP, DeepSpeed), each pass of one process waits for those of all others, so all make the same
number of passes in the same order. Where each process holds the whole model (DDP), they meet once an update.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from prefine.packing.group import PromptGroup
from prefine.training.dealing import dealt
from prefine.training.notes import Sums

T = TypeVar("T")
BUCKET = 64 * 2**20
"""Numbers of gradients that travel at once."""


class Together:
    """Questions to all processes; every one of them must ask the same, in the same order."""

    def __init__(self, accelerator: Any) -> None:
        self.accelerator = accelerator

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return bool(self.accelerator.num_processes > 1)

    @property
    def zero_stage(self) -> int:
        """DeepSpeed's; 0 without."""
        plugin = getattr(self.accelerator.state, "deepspeed_plugin", None)
        return 0 if plugin is None else int(plugin.zero_stage)

    @property
    def by_fsdp(self) -> bool:
        """Whether FSDP shares out the weights."""
        return self.several and getattr(self.accelerator.state, "fsdp_plugin", None) is not None

    @property
    def in_step(self) -> bool:
        """Whether every pass of one process waits for the others'."""
        return self.zero_stage > 0 or self.by_fsdp

    @property
    def sharded(self) -> bool:
        """Whether no process holds the whole model."""
        return self.zero_stage == 3 or self.by_fsdp

    @contextmanager
    def whole(self, model: nn.Module) -> Iterator[None]:
        """A block within which a model that FSDP shares out is whole in every process, and its passes without gradient wait for nobody."""
        units = [module for module in model.modules() if isinstance(module, FSDPModule)]
        for unit in units:
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()
        try:
            yield
        finally:
            for place, unit in enumerate(units):  # the root, which is the first, stays whole from its forward to its backward
                unit.set_reshard_after_forward(place > 0 and self.accelerator.state.fsdp_plugin.reshard_after_forward, recurse=False)
                unit.reshard()

    def _reduced(self, values: torch.Tensor, how: Any) -> torch.Tensor:
        values = values.to(self.accelerator.device)
        torch.distributed.all_reduce(values, op=how)
        return values

    def most(self, number: int) -> int:
        """The largest of all processes' numbers."""
        return int(self._reduced(torch.tensor(number), torch.distributed.ReduceOp.MAX)) if self.several else number

    def mean(self, number: torch.Tensor) -> float:
        """The mean of all processes' numbers."""
        if not self.several:
            return float(number)
        return float(self._reduced(number.detach().double(), torch.distributed.ReduceOp.SUM)) / self.accelerator.num_processes

    def all(self, flag: bool) -> bool:
        """Whether it is so in every process."""
        return self.most(int(not flag)) == 0

    def gathered(self, value: T) -> list[T]:
        """Every process's value, in order."""
        every: list[Any] = [value] * self.accelerator.num_processes
        if self.several:
            torch.distributed.all_gather_object(every, value)
        return every

    def own(self, items: Sequence[T]) -> list[T]:
        """This process's of what is dealt to all in turn."""
        return list(items[self.accelerator.process_index :: self.accelerator.num_processes])

    def of_all(self, own: Sequence[T]) -> list[T]:
        """What :meth:`own` had dealt, or what each process made of its own, in the order in which it was dealt."""
        every = self.gathered(own)
        longest = max(map(len, every))
        return [part[i] for i in range(longest) for part in every if i < len(part)]

    def own_by_tokens(self, groups: Sequence[PromptGroup], shared: bool) -> list[PromptGroup]:
        """This process's of groups that are dealt to all by tokens."""
        parts = dealt([g.num_tokens(shared) for g in groups], self.accelerator.num_processes)
        return [groups[i] for i in parts[self.accelerator.process_index]]

    def summed(self, sums: Sums) -> Sums:
        """Sums over processes by name, of names that may be those of one process alone."""
        if not self.several:
            return sums
        every = self.gathered(sums)
        names = sorted({name for each in every for name in each})
        return {name: [sum(column) for column in zip(*(each[name] for each in every if name in each), strict=True)] for name in names}

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average over processes; where one has no gradient and another has, it counts as zero."""
        trained = list(parameters)
        there = self._reduced(torch.tensor([p.grad is not None for p in trained], dtype=torch.int32), torch.distributed.ReduceOp.MAX)
        gradients = []
        for parameter, anywhere in zip(trained, there.tolist(), strict=True):
            if anywhere:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                gradients.append(parameter.grad)
        for bucket in _buckets(gradients):
            flat = torch._utils._flatten_dense_tensors(bucket)
            torch.distributed.all_reduce(flat)
            flat /= torch.distributed.get_world_size()
            for gradient, mean in zip(bucket, torch._utils._unflatten_dense_tensors(flat, bucket), strict=True):
                gradient.copy_(mean)


def _buckets(gradients: Sequence[torch.Tensor]) -> Iterable[list[torch.Tensor]]:
    """Gradients of one dtype each, in order, as many as may travel at once."""
    bucket: list[torch.Tensor] = []
    for gradient in gradients:
        if bucket and (gradient.dtype != bucket[0].dtype or sum(g.numel() for g in bucket) + gradient.numel() > BUCKET):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket


def clip_gradients(weights: Sequence[nn.Parameter], most: float) -> torch.Tensor:
    """Scale gradients down to a norm of ``most``; returns the norm there was. Of weights some may be shared out over processes."""
    shared = [p.grad for p in weights if isinstance(p.grad, DTensor)]
    own = [p for p in weights if p.grad is not None and not isinstance(p.grad, DTensor)]
    norms = [nn.utils.get_total_norm(part) for part in (shared, [p.grad for p in own if p.grad is not None]) if part]
    whole = torch.stack([n.full_tensor() if isinstance(n, DTensor) else n for n in norms] or [torch.zeros(())])
    norm = torch.linalg.vector_norm(whole)
    nn.utils.clip_grads_with_norm_(own, most, norm)
    for gradient in shared:
        gradient.to_local().mul_((most / (norm + 1e-6)).clamp(max=1.0))
    return norm


def divided(parts: list[list[PromptGroup]], wanted: int) -> list[list[PromptGroup]]:
    """The same groups in the same order in so many parts, as far as there are groups: the longest part is halved first."""
    parts = list(parts)
    while len(parts) < wanted and any(len(part) > 1 for part in parts):
        at = max((i for i, part in enumerate(parts) if len(part) > 1), key=lambda i: sum(g.num_tokens() for g in parts[i]))
        half = len(parts[at]) // 2
        parts[at : at + 1] = [parts[at][:half], parts[at][half:]]
    return parts
