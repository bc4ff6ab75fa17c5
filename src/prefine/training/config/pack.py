"""What every packed trainer takes."""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar

import torch
from transformers import TrainingArguments

from prefine.errors import ConfigError
from prefine.packing.budget import TokenBudget
from prefine.packing.encoding import Encoder
from prefine.packing.rendering import read_template_kwargs
from prefine.redaction import redacted, remember
from prefine.training.config.conditional import CONDITIONAL, refuse_conditional
from prefine.training.config.fields import MACHINE, REFUSED
from prefine.training.zero import OF_OPTIONS, is_launched, launched_settings, settings_of

LEAST = {
    **{"per_device_train_batch_size": 1, "per_device_eval_batch_size": 1, "gradient_accumulation_steps": 1},
    **{"dataloader_num_workers": 0, "seed": 0, "learning_rate": 0, "weight_decay": 0},
}
"""transformers' options that it would fail on late, or take to mean nothing."""
FSDP1 = "FSDP1 is not supported, and transformers gives it up; leave the version out, or give 2"


@dataclass
class PackConfig(TrainingArguments):
    """What every packed trainer takes, on top of ``transformers.TrainingArguments``."""

    _VALID_DICT_FIELDS: ClassVar = [
        *TrainingArguments._VALID_DICT_FIELDS,
        "model_init_kwargs",
        "chat_template_kwargs",
        "liger_kernel_config",
    ]

    learning_rate: float = field(default=1e-6, metadata={"help": "Peak learning rate of AdamW."})
    logging_steps: float = field(default=10, metadata={"help": "Log every so many optimizer steps."})
    gradient_checkpointing: bool = field(default=True, metadata={"help": "Recompute activations in backward: less memory, more time."})
    bf16: bool | None = field(default=None, metadata={"help": "Mixed bfloat16. Unset: on where CUDA hardware has it and fp16 is off."})
    report_to: list[str] | str | None = field(default="none", metadata={"help": "Trackers to report to (wandb, tensorboard, ...)."})
    lr_scheduler_kwargs: dict[str, Any] | str | None = field(default=None, metadata={"help": "Further settings of the schedule."})
    model_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments of from_pretrained when the model is given by name."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the model."})
    loraplus_lr_ratio: float | None = field(
        default=None, metadata={"help": "Learning rate of LoRA's B over that of A (LoRA+, arXiv 2402.12354: 16, say). Unset: the same."}
    )
    disable_dropout: bool = field(default=True, metadata={"help": "Switch dropout off, so that policy and reference agree."})
    max_length: int | None = field(default=1024, metadata={"help": "Maximum tokens of prompt + completion."})
    max_prompt_length: int | None = field(default=None, metadata={"help": "Maximum tokens of the prompt."})
    truncation_mode: str = field(
        default="keep_start", metadata={"help": "A prompt that is too long: keep_start, keep_end, or drop the row."}
    )
    chat_template_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "What the chat template is given beside the messages: enable_thinking=false. Saved with the model."}
    )
    token_budget: str = field(
        default="auto", metadata={"help": "Maximum tokens of one forward pass: auto or a number. Never changes a result."}
    )
    activation_offloading: bool = field(
        default=False,
        metadata={"help": "Keep activations in main memory until backward (CUDA only): less memory, more time."},
    )
    padding_free: bool = field(default=False, metadata={"help": "TRL's; packed batches hold no padding, so it changes nothing."})
    pad_to_multiple_of: int | str | None = field(
        default="auto", metadata={"help": "TRL's; packed batches hold no padding, so it changes nothing."}
    )
    pad_token: str | None = field(default=None, metadata={"help": "TRL's; packed batches hold no padding, so it changes nothing."})
    dataset_num_proc: int | None = field(default=None, metadata={"help": "Processes that encode more than 2,000 rows. Unset: one a core."})
    retain: str | None = field(
        default=None, metadata={"help": "Other data (a file) mixed into each step, so that skills it shows are kept."}
    )
    retain_weight: float = field(default=0.1, metadata={"help": "Weight of the retention loss."})
    retain_batch_size: int | None = field(
        default=None, metadata={"help": "Retention examples a batch. Unset: as many as prompts in the batch."}
    )

    def __post_init__(self) -> None:
        """Fill what depends on the machine and check our own fields."""
        asked: Any = getattr(self, "fsdp", None)
        if isinstance(asked, str) and asked.lower() in ("true", "false", ""):  # of a command line
            setattr(self, "fsdp", asked.lower() == "true" or None)  # noqa: B010  transformers has it of another type
        given: Any = self.deepspeed or (launched_settings() if is_launched() else None)
        if given:
            self._read_deepspeed(given)
        if not torch.cuda.is_available():
            self.use_cpu = True  # else transformers refuses bf16 here, though the CPU computes it
        if self.bf16 is None:
            self.bf16 = bool(not self.fp16 and torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False))
        # transformers renamed gradient_checkpointing within the versions we support; both names work in all of them.
        new: bool | None = getattr(self, "activation_checkpointing", None)
        self.gradient_checkpointing = self.gradient_checkpointing if new is None else new
        if hasattr(self, "activation_checkpointing"):
            setattr(self, "activation_checkpointing", self.gradient_checkpointing)  # noqa: B010  absent in older versions
        if self.neftune_noise_alpha is not None and not hasattr(self, "assistant_only_loss"):
            raise ConfigError("neftune_noise_alpha is for SFT; leave it out")
        for name, least in LEAST.items():
            value = getattr(self, name)
            if isinstance(value, int | float) and value < least:
                raise ConfigError(f"{name} is {value}; expected at least {least}", code="PF-C03")
        if self.loraplus_lr_ratio is not None and self.loraplus_lr_ratio <= 0:
            raise ConfigError(f"loraplus_lr_ratio is {self.loraplus_lr_ratio}; expected a number above 0, as 16", code="PF-C03")
        if self.max_steps <= 0 and self.num_train_epochs <= 0:
            raise ConfigError(f"num_train_epochs is {self.num_train_epochs}; expected a number above 0, or max_steps", code="PF-C03")
        self._refuse_or_warn()
        if any(how in str(self.train_sampling_strategy) for how in ("group", "rebalance")):
            raise ConfigError(
                "train_sampling_strategy: no batch is padded, so grouping rows by length saves nothing, and rows are dealt to processes by "
                "their tokens already; leave it out"
            )
        if "inputs" in self.include_for_metrics:
            raise ConfigError("include_for_metrics: batches are packed prompt groups, and have no inputs to include; leave them out")
        if isinstance(self.model_init_kwargs, str):
            self.model_init_kwargs = self.read_json("model_init_kwargs")
        self.remove_unused_columns = False  # batches are prompt groups, not columns
        TokenBudget.of(self.token_budget, "cpu")
        self.encoder(None)
        self.init_kwargs()
        if self.retain is None:
            self.refuse_unused(["retain_weight", "retain_batch_size"], "without retain")
        if self.retain_weight <= 0:
            raise ConfigError(
                f"retain_weight is {self.retain_weight}; expected a number above 0; leave out --retain for none", code="PF-C03"
            )
        refuse_conditional(self, {name for row in CONDITIONAL for name in row.names if self._is_given(name)})
        super().__post_init__()
        if (self.fsdp_plugin_args or {}).get("fsdp_version", 2) != 2:
            raise ConfigError(FSDP1, code="PF-C02")

    def _read_deepspeed(self, given: Any) -> None:
        if self.fsdp or is_launched_sharded():
            raise ConfigError("fsdp and deepspeed both share out what is trained; give one of the two", code="PF-C02")
        self.deepspeed = settings = settings_of(given)
        in_half = settings["bf16"].get("enabled", "auto")
        if in_half != "auto" and self.bf16 is None:
            self.bf16 = in_half
        each = self.per_device_train_batch_size * self.gradient_accumulation_steps
        for name, there, option, here in (
            *((name, settings[name], option, getattr(self, option)) for name, option in OF_OPTIONS.items()),
            ("bf16.enabled", in_half, "bf16", bool(self.bf16)),
            ("train_batch_size", settings["train_batch_size"], "a batch of all processes", each * int(os.environ.get("WORLD_SIZE") or 1)),
        ):
            if there not in ("auto", here):
                raise ConfigError(f"deepspeed: {name} is {there} and {option} is {here}; leave {name} out", code="PF-C02")
        if "LOCAL_RANK" not in os.environ:
            raise ConfigError("DeepSpeed needs a launcher: prefine launch, torchrun or accelerate launch", code="PF-C02")

    @property
    def zero_stage(self) -> int:
        """DeepSpeed's; 0 without."""
        return int(self.deepspeed["zero_optimization"]["stage"]) if isinstance(self.deepspeed, dict) else 0

    @property
    def is_sharded(self) -> bool:
        """Whether the model's weights are to be shared out over processes."""
        return bool(self.fsdp) or is_launched_sharded() or self.zero_stage == 3

    def __getstate__(self) -> dict[str, Any]:
        """What ``training_args.bin`` holds, beside each saved model: no secrets."""
        remember({"hub_token": self.hub_token, "model_init_kwargs": self.model_init_kwargs})
        return self.__dict__ | {"hub_token": None, "model_init_kwargs": redacted(self.model_init_kwargs)}

    def __copy__(self) -> PackConfig:
        new = object.__new__(type(self))
        new.__dict__.update(self.__dict__)
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> PackConfig:
        new = object.__new__(type(self))
        new.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return new

    def to_dict(self) -> dict[str, Any]:
        """All fields, as trackers are told them: no secrets."""
        return dict(redacted(super().to_dict()))

    def _refuse_or_warn(self) -> None:
        for name, why in REFUSED.items():
            if self._is_given(name):
                raise ConfigError(f"{name} would be ignored ({why}); leave it out", code="PF-C04")
        moot = [name for name in MACHINE if self._is_given(name)]
        if moot:
            because = "; ".join(dict.fromkeys(MACHINE[name] for name in moot))
            warnings.warn(f"{', '.join(moot)}: of no effect ({because}); no result depends on it", stacklevel=4)

    def _is_given(self, name: str) -> bool:
        """Whether a field says something else than its default; a parser may write "none" as an empty value."""
        value, default = getattr(self, name, None), self.default(name)
        unset = [v is None or v is False or (isinstance(v, str | list | dict) and v in ("", "no", [], {})) for v in (value, default)]
        return value != default and not all(unset)

    def read_json(self, name: str) -> dict[str, Any]:
        """A field that a command line gave as JSON."""
        text = getattr(self, name)
        try:
            loaded = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{name} is {text!r}; expected a JSON object", code="PF-C03") from error
        if not isinstance(loaded, dict):
            raise ConfigError(f"{name} is {text!r}; expected a JSON object", code="PF-C03")
        return loaded

    def default(self, name: str) -> Any:
        """What a field is where it is not given; None where this config has no such field."""
        found = next((f for f in fields(self) if f.name == name), None)
        if found is None:
            return None
        return found.default if found.default is not MISSING else found.default_factory()  # type: ignore[operator]

    def encoder(self, tokenizer: Any) -> Encoder:
        """A new encoder under these limits."""
        kwargs = None if self.chat_template_kwargs is None else read_template_kwargs(self.chat_template_kwargs)
        masked = getattr(self, "mask_reasoning", False)
        return Encoder(tokenizer, self.max_length, self.max_prompt_length, self.truncation_mode, kwargs, masked)

    def refuse_unused(self, names: Sequence[str], why: str) -> None:
        """Refuse options that were given though nothing would read them; ``why`` follows "would be ignored"."""
        for name in names:
            if self._is_given(name):
                raise ConfigError(f"{name} would be ignored {why}; leave it out", code="PF-C04")

    @property
    def trusts_code(self) -> bool:
        """``trust_remote_code``, said here or in ``model_init_kwargs``."""
        assert not isinstance(self.model_init_kwargs, str)
        return self.trust_remote_code or bool((self.model_init_kwargs or {}).get("trust_remote_code"))

    def init_kwargs(self) -> dict[str, Any]:
        """``model_init_kwargs`` as our loaders take them: a dtype by its name is looked up, ``torch_dtype`` is ``dtype``, and
        ``trust_remote_code`` is left to :attr:`trusts_code`.
        """
        assert not isinstance(self.model_init_kwargs, str)
        kwargs = dict(self.model_init_kwargs or {})
        kwargs.pop("trust_remote_code", None)
        dtype = kwargs.pop("torch_dtype", kwargs.pop("dtype", None))
        if isinstance(dtype, str) and dtype != "auto":
            if not isinstance(getattr(torch, dtype, None), torch.dtype):
                raise ConfigError(f"model_init_kwargs: no dtype {dtype!r}; expected float32, bfloat16, float16 or auto", code="PF-C03")
            dtype = getattr(torch, dtype)
        return kwargs if dtype is None else kwargs | {"dtype": dtype}


def is_launched_sharded() -> bool:
    """Whether accelerate's launcher was told to share the weights out."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() in ("1", "true")
