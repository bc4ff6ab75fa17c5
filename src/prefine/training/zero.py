"""DeepSpeed's ZeRO: what it is told, and where it keeps what a trainer asks for.

The engine adds gradients up over as many packs as a batch takes, and moves the weights when it is told to
(``managed_gradient_accumulation`` false).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from prefine.errors import ConfigError, MissingFile

STAGES = {f"zero{stage}": stage for stage in (1, 2, 3)}
UNMANAGED = "managed_gradient_accumulation"
OF_OPTIONS = {
    "train_micro_batch_size_per_gpu": "per_device_train_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_clipping": "max_grad_norm",
}
"""DeepSpeed's names of what our options say."""
ELSEWHERE = {
    "optimizer": "--optim says which",
    "scheduler": "--lr-scheduler-type says which",
    "tensor_parallel": "packs are not split over processes",
    "sequence_parallel_size": "packs are not split over processes",
    "pipeline": "packs are not split over processes",
    "compile": "every packed batch has another shape",
    "amp": "--bf16 is mixed precision",
    "torch_autocast": "--bf16 is mixed precision",
    "curriculum_learning": "rows are drawn by the trainer",
    "data_efficiency": "rows are drawn by the trainer",
    "progressive_layer_drop": "a layer that is dropped changes log-probs",
}
"""Parts of a DeepSpeed file that would be ignored or would break a pack, and why."""


def is_launched() -> bool:
    """Whether accelerate's launcher was told to use DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() in ("1", "true")


def launched_settings() -> Any:
    """What accelerate's configuration says of it: a file's path, or settings."""
    file = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if file != "none":
        return file
    from accelerate.utils import DeepSpeedPlugin

    parts = DeepSpeedPlugin().deepspeed_config
    return {name: parts[name] for name in ("zero_optimization", "communication_data_type") if name in parts}


def settings_of(asked: Any) -> dict[str, Any]:
    """DeepSpeed's settings, from a stage's name, a file of JSON, or themselves; what our options say is filled in by them.

    Raises:
        ConfigError: DeepSpeed is not installed, or is asked for something that would break a pack or go unread.
        MissingFile: there is no such file.
    """
    if find_spec("deepspeed") is None:
        raise ConfigError("deepspeed needs DeepSpeed: pip install 'prefine[deepspeed]', or leave deepspeed out", code="PF-C10")
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # else each process warns that it is
    from deepspeed.runtime import constants

    if not hasattr(constants, UNMANAGED.upper()):
        raise ConfigError("deepspeed needs DeepSpeed 0.19.8 or later: pip install -U deepspeed", code="PF-C10")
    settings = dict(asked) if isinstance(asked, Mapping) else _read(str(asked))
    zero = dict(settings.get("zero_optimization") or {})
    stage = zero.get("stage", 0)
    if stage not in STAGES.values():
        raise ConfigError(
            f"deepspeed: zero_optimization.stage is {stage!r}; expected 1, 2 or 3; without one, leave deepspeed out", code="PF-C03"
        )
    unread = [f"{name} ({why})" for name, why in ELSEWHERE.items() if settings.get(name)]
    if unread:
        raise ConfigError(f"deepspeed: {', '.join(unread)} would be ignored; leave it out", code="PF-C04")
    if (settings.get("fp16") or {}).get("enabled") is True:
        raise ConfigError(
            "deepspeed: fp16 is not supported, as its steps that overflow would be taken for a broken run; give bf16", code="PF-C02"
        )
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True  # else what is saved is no model
    if stage == 1:
        zero["overlap_comm"] = False  # else gradients travel with each pack
    return {
        **dict.fromkeys([*OF_OPTIONS, "train_batch_size"], "auto"),
        "bf16": {"enabled": "auto"},
        **settings,
        "zero_optimization": zero,
        UNMANAGED: False,
        "zero_allow_untested_optimizer": True,  # every one of --optim
    }


def _read(asked: str) -> dict[str, Any]:
    if asked in STAGES:
        return {"zero_optimization": {"stage": STAGES[asked]}}
    try:
        text = asked if asked.lstrip().startswith("{") else Path(asked).read_text(encoding="utf-8")
    except OSError as error:
        raise MissingFile(
            f"deepspeed: {asked} could not be read ({error.strerror}); give {', '.join(STAGES)} or a file of settings"
        ) from error
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"deepspeed: {asked} is no JSON ({error})", code="PF-C03") from error
    if not isinstance(found, dict):
        raise ConfigError(f"deepspeed: {asked} is JSON, but no object", code="PF-C03")
    return found


def share_out(model: nn.Module, settings: Mapping[str, Any]) -> None:
    """Share a frozen model's weights out over processes (stage 3), as the policy's are."""
    import deepspeed

    kept = {name: settings[name] for name in ("bf16", "train_micro_batch_size_per_gpu") if name in settings}
    zero = {k: v for k, v in settings["zero_optimization"].items() if k != "offload_optimizer"}
    deepspeed.initialize(model=model, config=kept | {"zero_optimization": zero})


@contextmanager
def reading_data_alone() -> Iterator[None]:
    """A block that loads a checkpoint of DeepSpeed's as data: no code in a file of it is run."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    known, before = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ[known] = "1"
    try:
        with torch.serialization.safe_globals([DynamicLossScaler, LossScaler, ZeroStageEnum, fragment_address]):
            yield
    finally:
        if before is None:
            del os.environ[known]
        else:
            os.environ[known] = before


def own_part(parameter: nn.Parameter) -> torch.Tensor:
    """What this process holds of a parameter, whoever shares it out."""
    if hasattr(parameter, "ds_tensor"):
        return parameter.ds_tensor.detach()
    whole = parameter.detach()
    return whole.to_local() if hasattr(whole, "to_local") else whole
