"""Activations in main memory between forward and backward."""

from __future__ import annotations

import torch
from torch import nn

LEAST_BYTES = 1024
"""Smaller tensors stay: moving them costs more than they hold."""


class OffloadActivations(torch.autograd.graph.saved_tensors_hooks):
    """A context in which what autograd saves goes to pinned main memory, but for the model's own weights.

    Copies go through the current stream, so the memory they free is not reused before they
    are done. Left out: copies on a stream of their own, which would overlap with computing.
    """

    def __init__(self, model: nn.Module) -> None:
        weights = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}

        def pack(tensor: torch.Tensor) -> tuple[torch.device, torch.Tensor]:
            device = tensor.device
            small = tensor.numel() * tensor.element_size() < LEAST_BYTES
            if small or tensor.untyped_storage().data_ptr() in weights:
                return device, tensor
            held = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=device.type == "cuda")
            return device, held.copy_(tensor, non_blocking=True)

        def unpack(held: tuple[torch.device, torch.Tensor]) -> torch.Tensor:
            device, tensor = held
            return tensor.to(device, non_blocking=True)

        super().__init__(pack, unpack)
