"""Loading a model and its tokenizer: precision, LoRA, 4-bit."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from prefine.errors import ConfigError, MissingFile, ModelError, nearest
from prefine.packing.encoding import KWARGS_NAME
from prefine.packing.rendering import read_template_kwargs

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_dtype(setting: str = "auto") -> tuple[torch.dtype, str]:
    """The precision to compute in and the reason, in words.

    ``auto``: bfloat16 where CUDA hardware has it, else float16 on CUDA, else float32.
    """
    if setting != "auto":
        if setting not in DTYPES:
            raise ConfigError(f"dtype is {setting!r}; expected auto, {', '.join(DTYPES)}{nearest(setting, DTYPES)}")
        return DTYPES[setting], f"{setting}, as asked"
    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "bfloat16, which this GPU has"
        return torch.float16, "float16 with loss scaling: this GPU has no bfloat16"
    return torch.float32, "float32: no GPU"


def load_tokenizer(model: str, trust_remote_code: bool = False, template_kwargs: Any = None) -> Any:
    """Load a tokenizer; pad token falls back to the end token.

    Args:
        template_kwargs: what its chat template is given beside the messages; kept in its settings, and saved with it.

    Raises:
        MissingFile: the folder does not exist.
        ModelError: the folder has no tokenizer.
    """
    from transformers import AutoTokenizer

    check_exists(model, ("config.json", "adapter_config.json", "tokenizer.json", "tokenizer_config.json"))
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{model}: no tokenizer could be loaded ({first_line(error)}); save one there with tokenizer.save_pretrained"
        ) from error
    if getattr(tokenizer, "vocab_size", 0) in (0, None):
        raise ModelError(f"{model}: its tokenizer is empty; save the real one there with tokenizer.save_pretrained")
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{model}: its tokenizer has no end-of-sequence token; set tokenizer.eos_token and save it again")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if template_kwargs is not None:
        tokenizer.init_kwargs[KWARGS_NAME] = read_template_kwargs(template_kwargs)
    return tokenizer


def pad_apart(tokenizer: Any) -> None:
    """Give a pad token other than the end token: transformers' classifiers read the last token that is not the pad token."""
    if tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    special = {i: str(t) for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    special |= {i: str(tokenizer.convert_ids_to_tokens(i)) for i in tokenizer.all_special_ids}
    free = [t for i, t in sorted(special.items()) if i not in (tokenizer.eos_token_id, tokenizer.bos_token_id) and "end" not in t]
    if free:
        tokenizer.pad_token = free[-1]
        return
    warnings.warn(
        "the tokenizer has no pad token but its end token: transformers and TRL will read this reward model one token before the "
        "end, where Prefine reads it; give the tokenizer a pad token of its own to have the same scores there",
        stacklevel=3,
    )


def own_tokenizer(model: str, trust_remote_code: bool = False) -> Any | None:
    """A model's tokenizer; None where it was saved without one.

    Raises:
        MissingFile: the folder does not exist.
    """
    try:
        return load_tokenizer(model, trust_remote_code)
    except MissingFile:
        raise
    except ModelError:
        return None


def differing_tokens(tokenizer: Any, other: Any) -> list[str]:
    """Tokens that only one of two tokenizers has, or that have other ids, sorted."""
    ours, theirs = tokenizer.get_vocab(), other.get_vocab()
    return sorted(t for t in {*ours, *theirs} if ours.get(t) != theirs.get(t))


def check_same_tokenizer(tokenizer: Any, reference: str, trust_remote_code: bool = False) -> None:
    """Refuse a reference whose tokenizer maps text to other ids; one saved without a tokenizer is not checked.

    Raises:
        ModelError: the vocabularies differ, with the first few tokens that do.
    """
    theirs = own_tokenizer(reference, trust_remote_code)
    differing = differing_tokens(tokenizer, theirs) if theirs is not None else []
    if differing:
        raise ModelError(
            f"{reference}: its tokenizer differs from the policy's in {len(differing)} of {len(tokenizer)} tokens "
            f"({', '.join(map(repr, differing[:3]))}): their log-probs cannot be compared; "
            "give a reference with the policy's tokenizer, or leave it out to use the policy's start"
        )


def load_model(model: str, dtype: torch.dtype = torch.float32, trust_remote_code: bool = False, **kwargs: Any) -> Any:
    """Load a causal language model (a folder with an adapter loads its base too).

    Raises:
        MissingFile, ModelError: nothing there, or not a causal language model.
    """
    from transformers import AutoModelForCausalLM

    check_exists(model)
    try:
        if (Path(model) / "adapter_config.json").exists():
            from peft import AutoPeftModelForCausalLM

            return AutoPeftModelForCausalLM.from_pretrained(model, dtype=dtype, is_trainable=True, **kwargs)
        return AutoModelForCausalLM.from_pretrained(model, dtype=dtype, trust_remote_code=trust_remote_code, **kwargs)
    except (OSError, TypeError, ValueError) as error:  # TypeError: an argument that it does not take
        raise ModelError(f"{model}: could not be loaded as a causal language model: {first_line(error)}") from error


def four_bit_config(dtype: torch.dtype) -> Any:
    """NF4 with double quantisation (QLoRA, arXiv 2305.14314)."""
    if not torch.cuda.is_available():
        raise ConfigError("load_in_4bit needs an NVIDIA GPU: bitsandbytes' NF4 runs on CUDA; leave it out to train on this machine")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ConfigError("load_in_4bit needs bitsandbytes: pip install 'prefine[qlora]'") from error
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype)


def add_adapter(model: Any, peft_config: Any, gradient_checkpointing: bool = False) -> Any:
    """Wrap with a new adapter, its weights in float32 under mixed precision's own casts."""
    from peft import get_peft_model, prepare_model_for_kbit_training

    if getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=gradient_checkpointing)
    try:
        out = get_peft_model(model, peft_config)
        for parameter in out.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                parameter.data = parameter.data.float()  # peft leaves a head that is trained whole in the base's dtype
        return out
    except ValueError as error:
        raise ConfigError(f"the adapter does not fit the model: {first_line(error)}") from error


def check_exists(model: str, needed: tuple[str, ...] = ("config.json", "adapter_config.json")) -> None:
    """Refuse a path that is no model folder; what looks like a Hub id passes.

    Raises:
        MissingFile, ModelError: nothing there, or none of the files ``needed``.
    """
    path = Path(model).expanduser()
    if path.exists():
        if path.is_dir() and not any((path / n).exists() for n in needed):
            raise ModelError(f"{model}: a folder without config.json; give the folder that save_pretrained wrote")
    elif model.startswith((".", "/", "~")) or model.count("/") != 1 or path.parent.is_dir():
        siblings = [str(p) for p in path.parent.glob("*/")] if path.parent.is_dir() else []
        raise MissingFile(f"{model}: no such model folder{nearest(model, siblings)}")


def first_line(error: BaseException) -> str:
    """The first line of another library's error."""
    return str(error).strip().split("\n")[0][:300]
