"""Another of a model's adapters, or none of them, for the length of a block: by its layers' own switches.

peft's ``disable_adapter`` and ``set_adapter`` walk every module and set ``requires_grad`` of every adapter's weights, both ways: 40 ms for
224 layers on a CPU, for every pack that a reference scores. LoRA's layers read two attributes of their own, which is all that is set here;
for other kinds of adapter peft's way is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def switched(model: Any, adapter: str | None) -> Iterator[None]:
    """Within the block the adapter of that name is active, or none; which weights require a gradient stays as it is.

    Args:
        model: peft's.
    """
    if not all(config.peft_type == "LORA" and config.bias == "none" for config in model.peft_config.values()):
        with _as_peft_does(model, adapter):
            yield
        return
    layers = _layers(model)
    before = [(layer._disable_adapters, layer._active_adapter) for layer in layers]
    try:
        for layer in layers:
            layer._disable_adapters = adapter is None
            if adapter is not None:
                there = getattr(layer, "_adapters", (adapter,))  # of a whole module that is trained: the adapters that have a copy
                layer._active_adapter = [adapter] if adapter in there else []
        yield
    finally:
        for layer, (disabled, active) in zip(layers, before, strict=True):
            layer._disable_adapters, layer._active_adapter = disabled, active


def _layers(model: Any) -> list[Any]:
    """What has adapters of its own or copies of weights, in a model of these adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    known: tuple[tuple[str, ...], list[Any]] | None = model.__dict__.get("_prefine_layers")
    names = tuple(model.peft_config)
    if known is None or known[0] != names:
        known = names, [m for m in model.modules() if isinstance(m, BaseTunerLayer | AuxiliaryTrainingWrapper)]
        model.__dict__["_prefine_layers"] = known  # a module's own __setattr__ is for modules and parameters
    return known[1]


@contextmanager
def _as_peft_does(model: Any, adapter: str | None) -> Iterator[None]:
    flags = [(p, p.requires_grad) for p in model.parameters()]
    try:
        if adapter is None:
            with model.disable_adapter():
                yield
            return
        before = model.active_adapter
        model.set_adapter(adapter)
        try:
            yield
        finally:
            model.set_adapter(before)
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
