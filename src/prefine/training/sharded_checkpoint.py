"""Checkpoints of a model whose weights are shared out over processes: the same files that one process writes, read by any number.

Gathered by the first process's torch.distributed.checkpoint and written by it alone; read by it and handed out. Every process calls each
function.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

GATHER = StateDictOptions(full_state_dict=True, cpu_offload=True)
HAND_OUT = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
"""Not strict: a tied weight stands in a file once, and an adapter's file without its base."""


def gathered_optimizer(model: Any, optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's state as :meth:`torch.optim.Optimizer.state_dict` has it without sharding; whole in the first process alone."""
    with _all_trained(optimizer):
        by_name: Any = get_optimizer_state_dict(model, optimizer, options=GATHER).get("state", {})
    state = {place: by_name[name] for place, name in enumerate(_names(model, optimizer)) if name in by_name}
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}


def hand_out_optimizer(model: Any, optimizer: Optimizer, path: Path) -> None:
    """Load what :func:`gathered_optimizer` gave, or an optimizer's own ``state_dict``."""
    names = _names(model, optimizer)
    whole: dict[str, Any] = {}
    if torch.distributed.get_rank() == 0:
        plain = torch.load(path, map_location="cpu", weights_only=True)
        groups = [{**group, "params": [names[place] for place in group["params"]]} for group in plain["param_groups"]]
        whole = {"state": {names[place]: state for place, state in plain["state"].items()}, "param_groups": groups}
    with _all_trained(optimizer):
        set_optimizer_state_dict(model, optimizer, whole, options=HAND_OUT)


def hand_out_weights(model: Any, folder: Path) -> None:
    """Load the safetensors of a model, or of an adapter into the one that is active.

    Raises:
        ValueError: there are none.
    """
    files = sorted(folder.glob("adapter_model*.safetensors")) or sorted(folder.glob("model*.safetensors"))
    if not files:
        raise ValueError("no weights as safetensors")
    state: dict[str, Any] = {}
    if torch.distributed.get_rank() == 0:
        known = _names_in_file(model) if files[0].name.startswith("adapter") else {}
        for file in files:
            state |= {known.get(name, name): weight for name, weight in load_file(file).items()}
    set_model_state_dict(model, state, options=HAND_OUT)


def gathered(weight: torch.Tensor) -> torch.Tensor:
    """A weight whole, on the CPU."""
    whole: torch.Tensor = weight.full_tensor() if isinstance(weight, DTensor) else weight
    return whole.detach().cpu()


@torch.no_grad()
def hand_out(weight: torch.Tensor, whole: torch.Tensor) -> None:
    """Put into a weight what every process has whole."""
    whole = whole.to(weight.device, weight.dtype)
    if isinstance(weight, DTensor):
        whole = distribute_tensor(whole, weight.device_mesh, weight.placements)
    weight.copy_(whole)


@contextmanager
def _all_trained(optimizer: Optimizer) -> Iterator[None]:
    """A block in which all that is optimized requires gradients: of another adapter than the active one torch would leave the state out."""
    resting = [p for group in optimizer.param_groups for p in group["params"] if not p.requires_grad]
    for parameter in resting:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in resting:
            parameter.requires_grad_(False)


def _names(model: Any, optimizer: Optimizer) -> list[str]:
    """Of an optimizer's parameters, in its order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _names_in_file(model: Any) -> dict[str, str]:
    """By its name in the active adapter's file, which leaves the adapter's own out: a weight's name in the model."""
    from peft import get_peft_model_state_dict

    names: Any = {name: name for name, _ in model.named_parameters()}
    adapter = {"adapter_name": model.active_adapter, "save_embedding_layers": False}
    return dict(get_peft_model_state_dict(model, state_dict=names, **adapter))
