"""Options of the adapter that a run trains, and of the base under it: what PEFT and bitsandbytes are told."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefine.errors import ConfigError

STARTS = ("gaussian", "orthogonal", "olora", "pissa", "pissa_niter_[iterations]")
"""PEFT's initialisations that need neither data nor a quantised base."""
_STARTS = re.compile(r"gaussian|orthogonal|olora|pissa|pissa_niter_[1-9]\d*")


def _memory(help: str) -> dict[str, Any]:
    return {"help": help, "group": "memory"}


@dataclass
class AdapterOptions:
    """A new adapter, or those to go on with, and the precision of the base; names are those of TRL and PEFT."""

    load_in_4bit: bool = field(default=False, metadata=_memory("Load the base in 4-bit (with LoRA and bitsandbytes; slow on a CPU)."))
    load_in_8bit: bool = field(default=False, metadata=_memory("Load the base in 8-bit (with LoRA and bitsandbytes; slow on a CPU)."))
    bnb_4bit_quant_type: str = field(default="nf4", metadata=_memory("--load-in-4bit: nf4 or fp4."))
    use_bnb_nested_quant: bool = field(
        default=True, metadata=_memory("--load-in-4bit: quantise the quantisation's constants, too (double quantisation).")
    )
    lora_r: int | None = field(default=None, metadata=_memory("Train a LoRA adapter of this rank. Unset: all weights."))
    lora_alpha: float | None = field(default=None, metadata=_memory("LoRA's alpha. Unset: twice the rank."))
    lora_dropout: float = field(default=0.0, metadata=_memory("LoRA's dropout."))
    lora_target: list[str] | None = field(
        default=None,
        metadata=_memory("Modules to adapt, by the ends of their names; or one regular expression for whole names. Unset: all-linear."),
    )
    lora_exclude: list[str] | None = field(default=None, metadata=_memory("Modules not to adapt, said as those of --lora-target."))
    lora_target_parameters: list[str] | None = field(
        default=None, metadata=_memory("Parameters to adapt that are no module's weight, as experts' are: mlp.experts.down_proj.")
    )
    lora_modules_to_save: list[str] | None = field(
        default=None, metadata=_memory("Modules to train whole beside the adapter, and to save with it: embed_tokens and lm_head, say.")
    )
    use_rslora: bool = field(
        default=False, metadata=_memory("Scale by alpha over the rank's square root (rsLoRA, arXiv 2312.03732), for high ranks.")
    )
    use_dora: bool = field(default=False, metadata=_memory("Train weights' magnitudes apart (DoRA, arXiv 2402.09353); slower."))
    init_lora_weights: str | None = field(
        default=None,
        metadata=_memory(f"How a new adapter starts: {', '.join(STARTS)}. Unset: as nothing, its one half zero. Saved as plain LoRA."),
    )

    @property
    def bits(self) -> int | None:
        """Of the base's linear layers; None where they are not quantised."""
        return 4 if self.load_in_4bit else 8 if self.load_in_8bit else None

    @property
    def quantised_bytes(self) -> float | None:
        """Bytes of a quantised weight with its share of the constants; None where the base is not quantised."""
        from prefine.planning.skeleton import NF4_BYTES, SINGLE_4BIT_BYTES

        return {4: NF4_BYTES if self.use_bnb_nested_quant else SINGLE_4BIT_BYTES, 8: 1.0}[self.bits] if self.bits else None

    def quantization(self, dtype: Any, sharded: bool = False) -> Any:
        """What transformers is told of the base's quantisation; None for none.

        Args:
            dtype: to compute in; sharded: whether the weights will be shared out over processes.

        Raises:
            ConfigError: bitsandbytes is not installed.
        """
        from prefine.scoring.loading import eight_bit_config, four_bit_config

        if self.bits == 8 and sharded:
            raise ConfigError("--load-in-8bit with FSDP2 or DeepSpeed's stage 3: only 4-bit weights can be shared out; give --load-in-4bit")
        if self.bits == 4:
            return four_bit_config(dtype, sharded, self.bnb_4bit_quant_type, self.use_bnb_nested_quant)
        return eight_bit_config() if self.bits == 8 else None

    def check_adapter(self, has_adapter: bool) -> None:
        """Refuse what contradicts itself, would be ignored, or cannot be exact.

        Args:
            has_adapter: whether the model is an adapter already, that training goes on with.

        Raises:
            ConfigError: which, and what to give.
        """
        if self.load_in_4bit and self.load_in_8bit:
            raise ConfigError("--load-in-4bit and --load-in-8bit contradict each other; leave one of the two out")
        for name, value in vars(AdapterOptions()).items():
            if getattr(self, name) == value:
                continue
            flag = f"--{name.replace('_', '-')}"
            if name.startswith(("bnb_4bit", "use_bnb")):
                if not self.load_in_4bit:
                    raise ConfigError(f"{flag} would be ignored without --load-in-4bit; leave it out", code="PF-C04")
            elif name not in ("load_in_4bit", "load_in_8bit", "lora_r") and self.lora_r is None:
                todo = "the model is an adapter, and goes on as it is; leave it out" if has_adapter else "give --lora-r 16, say"
                raise ConfigError(f"{flag} would be ignored without --lora-r; {todo}", code="PF-C04")
        if self.bits and self.lora_r is None and not has_adapter:
            raise ConfigError(f"--load-in-{self.bits}bit trains an adapter on a frozen base: give --lora-r 16, say")
        start = self.init_lora_weights
        for name, fine, expected in (
            ("lora_r", self.lora_r is None or self.lora_r >= 1, "at least 1"),
            ("lora_alpha", self.lora_alpha is None or self.lora_alpha > 0, "a number above 0"),
            ("lora_dropout", 0 <= self.lora_dropout < 1, "0 to below 1"),
            ("bnb_4bit_quant_type", self.bnb_4bit_quant_type in ("nf4", "fp4"), "nf4 or fp4"),
            ("init_lora_weights", start is None or _STARTS.fullmatch(start) is not None, f"one of {', '.join(STARTS)}"),
        ):
            if not fine:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}; expected {expected}", code="PF-C03")
        if start is not None and start.startswith(("pissa", "olora")) and (self.bits or self.use_dora):
            other = f"--load-in-{self.bits}bit" if self.bits else "--use-dora"
            raise ConfigError(
                f"--init-lora-weights {start} with {other}: what it takes from the base's weights could not be given back exactly; "
                "leave one of the two out"
            )

    def peft_config(self) -> Any:
        """The new adapter that is asked for; None where all weights are trained, or an adapter goes on.

        Raises:
            ConfigError: PEFT refuses a combination.
        """
        if self.lora_r is None:
            return None
        from peft import LoraConfig

        targets = pattern(self.lora_target or ["all-linear"])
        more: dict[str, Any] = {} if self.init_lora_weights is None else {"init_lora_weights": self.init_lora_weights}
        if self.lora_target_parameters:
            more["target_parameters"] = self.lora_target_parameters
        try:
            return LoraConfig(
                r=self.lora_r,
                lora_alpha=self.lora_alpha or 2 * self.lora_r,
                lora_dropout=self.lora_dropout,
                target_modules="all-linear" if targets == ["all-linear"] else targets,
                exclude_modules=pattern(self.lora_exclude) if self.lora_exclude else None,
                modules_to_save=self.lora_modules_to_save,
                use_rslora=self.use_rslora,
                use_dora=self.use_dora,
                task_type="CAUSAL_LM",
                **more,
            )
        except ValueError as error:
            raise ConfigError(f"PEFT refuses these options of the adapter: {str(error).strip()}") from error


def pattern(names: list[str]) -> Any:
    """Names as they are; one that is a regular expression is one for PEFT, which matches it against whole names.

    Raises:
        ConfigError: no regular expression, or one among several names.
    """
    special = [n for n in names if re.search(r"[^\w.-]", n)]
    if not special:
        return names
    if len(names) > 1:
        raise ConfigError(f"{special[0]}: a regular expression stands alone; write several as one, with |")
    try:
        re.compile(special[0])
    except re.error as error:
        raise ConfigError(f"{special[0]}: no regular expression ({error})", code="PF-C03") from error
    return special[0]


def is_adapter(model: str) -> bool:
    """Whether a folder holds an adapter."""
    return (Path(model) / "adapter_config.json").exists()
