"""Adapters that take their start out of the base's weights (PiSSA, OLoRA), saved as plain LoRA on the base as it was.

PEFT subtracts such a start B0 A0 from the base. Who loads the adapter alone would have to take the very same part out again: merging in
another precision would not, and other engines never do. So what is saved has twice the rank and stands on the base itself: B A - B0 A0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from prefine.errors import ConfigError

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
TAKING = ("pissa", "olora")


def takes_from_base(config: Any) -> bool:
    """Whether a new adapter of this PEFT configuration changes the base's weights."""
    start = getattr(config, "init_lora_weights", True)
    return isinstance(start, str) and start.startswith((*TAKING, "corda"))


class TakenStart:
    """What a new adapter took from its base.

    Args:
        model: PEFT's, with the adapter active and as it starts.

    Raises:
        ConfigError: an adapter whose start could not be given back exactly.
    """

    def __init__(self, model: Any) -> None:
        from peft import get_peft_model_state_dict

        config = model.peft_config[model.active_adapter]
        state = get_peft_model_state_dict(model, adapter_name=model.active_adapter)
        start = {n: t.detach().clone() for n, t in state.items() if ".lora_" in n}
        unusual = [
            f.rpartition(".lora_")[2] for f, t in start.items() if t.ndim != 2 or not f.endswith((".lora_A.weight", ".lora_B.weight"))
        ]
        if unusual or config.use_dora or config.rank_pattern or config.alpha_pattern or not config.init_lora_weights.startswith(TAKING):
            why = "use_dora" if config.use_dora else "a pattern of ranks" if config.rank_pattern or config.alpha_pattern else ""
            why = why or (unusual[0] if unusual else str(config.init_lora_weights))
            raise ConfigError(f"init_lora_weights {config.init_lora_weights} with {why}: its start could not be given back exactly")
        self.start, self.rank = start, config.r

    def save_plain(self, folder: Path) -> None:
        """Make the adapter that PEFT saved in a folder a plain one."""
        from safetensors.torch import load_file, save_file

        state = load_file(folder / WEIGHTS)
        for name, start in self.start.items():
            is_a = name.endswith("lora_A.weight")
            taken = (start if is_a else -start).to(state[name])
            state[name] = torch.cat([state[name], taken], 0 if is_a else 1).contiguous()
        save_file(state, folder / WEIGHTS, {"format": "pt"})
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        config |= {"r": 2 * self.rank, "init_lora_weights": True}
        config["lora_alpha"] *= 2**0.5 if config["use_rslora"] else 2  # the scale stays what it was
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")

    def load(self, model: Any, folder: Path) -> None:
        """Take back from a folder what :meth:`save_plain` made of the adapter.

        Raises:
            ValueError: an adapter of another shape.
        """
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        state = load_file(folder / WEIGHTS)
        if not self.start.keys() <= state.keys():
            raise ValueError("weights of another adapter")
        for name, start in self.start.items():
            along = 0 if name.endswith("lora_A.weight") else 1
            if state[name].shape[along] != 2 * self.rank:
                raise ValueError(f"{name} has rank {state[name].shape[along]}, expected {2 * self.rank}")
            taken = state[name].narrow(along, self.rank, self.rank).to(start) * (1 if along == 0 else -1)
            if not torch.allclose(taken, start, rtol=1e-3, atol=1e-3 * float(start.abs().max())):
                raise ValueError(f"{name} started from another part of the base (another machine or version of torch?); begin anew")
            state[name] = state[name].narrow(along, 0, self.rank).contiguous()
        set_peft_model_state_dict(model, state, adapter_name=model.active_adapter)
