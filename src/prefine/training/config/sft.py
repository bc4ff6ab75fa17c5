"""Supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from prefine.errors import ConfigError, nearest
from prefine.training.config.pack import PackConfig

LOSS_TYPES = ("nll", "dft")
PACKING_STRATEGIES = ("bfd", "bfd_split", "wrapped")


@dataclass
class SFTConfig(PackConfig):
    """Supervised fine-tuning; names, meanings and defaults follow TRL 1.16."""

    _VALID_DICT_FIELDS: ClassVar = [*PackConfig._VALID_DICT_FIELDS, "dataset_kwargs"]

    learning_rate: float = field(default=2e-5, metadata={"help": "Peak learning rate of AdamW."})
    disable_dropout: bool = field(default=False, metadata={"help": "Switch dropout off; TRL's SFT leaves the model's own on."})
    assistant_only_loss: bool = field(
        default=False, metadata={"help": "Messages: train on the assistant's turns, not on every token of the conversation."}
    )
    completion_only_loss: bool | None = field(
        default=None,
        metadata={"help": "Rows of prompt and completion: train on the completion (default) or, if false, on the prompt too."},
    )
    mask_reasoning: bool = field(
        default=False, metadata={"help": "Leave a response's reasoning out of the loss; the response after it is still given it."}
    )
    loss_type: str = field(default="nll", metadata={"help": "nll, or dft (Dynamic Fine-Tuning, arXiv 2508.05629)."})
    dataset_text_field: str = field(default="text", metadata={"help": "The column of plain text."})
    dataset_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "skip_prepare_dataset: rows are token ids already and are read anew each epoch."}
    )
    split_texts: bool = field(
        default=False, metadata={"help": "Plain text longer than max_length: windows, each token trained on once; else it is truncated."}
    )
    shuffle_dataset: bool = field(default=False, metadata={"help": "Shuffle the rows once, by the seed, before packing."})
    packing: bool = field(
        default=False,
        metadata={"help": "Make blocks of up to max_length tokens of the sequences; the batch size then counts blocks."},
    )
    packing_strategy: str = field(
        default="bfd",
        metadata={
            "help": "packing: bfd (best fit, longer sequences are truncated), bfd_split (they are split) or wrapped (one stream of "
            "tokens, cut anywhere)."
        },
    )
    eval_packing: bool | None = field(default=None, metadata={"help": "Pack evaluation data too. Unset: as packing."})
    eos_token: str | None = field(default=None, metadata={"help": "The token that ends a response. Unset: the tokenizer's own."})
    chat_template_path: str | None = field(
        default=None, metadata={"help": "A chat template in a Jinja file, or a tokenizer's folder or Hub id whose template is taken."}
    )
    router_aux_loss_coef: float | None = field(
        default=None,
        metadata={"help": "Weight of a mixture of experts' load-balancing loss, taken pack by pack. Unset: the model's own."},
    )

    def __post_init__(self) -> None:
        """Check before anything is loaded."""
        if isinstance(self.dataset_kwargs, str):
            self.dataset_kwargs = self.read_json("dataset_kwargs")
        unknown = set(self.dataset_kwargs or {}) - {"skip_prepare_dataset"}
        if unknown:
            raise ConfigError(f"dataset_kwargs: {', '.join(map(str, unknown))}; the one key that is read is skip_prepare_dataset")
        if self.loss_type == "chunked_nll":
            self.loss_type = "nll"  # TRL's older name of what is always done here
        if self.packing_strategy == "bfd-requeue":
            self.packing_strategy = "bfd_split"  # TRL's older name
        for name, known in (("loss_type", LOSS_TYPES), ("packing_strategy", PACKING_STRATEGIES)):
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(f"{name} is {value!r}; expected one of {', '.join(known)}{nearest(value, known)}", code="PF-C03")
        packs = self.packing or bool(self.eval_packing)
        if packs and self.max_length is None:
            raise ConfigError("packing fills blocks of max_length tokens, and max_length is None; give it, or leave out packing")
        if not packs:
            self.refuse_unused(["packing_strategy"], "without packing")
        if self.skips_preparation:
            moot = ["packing", "eval_packing", "shuffle_dataset", "assistant_only_loss", "completion_only_loss", "split_texts"]
            self.refuse_unused(moot, "with skip_prepare_dataset")
        if packs and self.truncation_mode != "keep_start":
            raise ConfigError(
                "truncation_mode would be ignored with packing: packing_strategy says what becomes of long sequences", code="PF-C04"
            )
        super().__post_init__()

    @property
    def skips_preparation(self) -> bool:
        """Whether rows are token ids that are read anew each epoch."""
        return isinstance(self.dataset_kwargs, dict) and bool(self.dataset_kwargs.get("skip_prepare_dataset"))
