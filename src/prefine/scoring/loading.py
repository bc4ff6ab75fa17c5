"""Loading a model and its tokenizer: precision, LoRA, 4-bit."""

from __future__ import annotations

import copy
import json
import math
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from prefine.errors import ConfigError, MissingFile, ModelError, PrefineError, nearest
from prefine.packing.encoding import KWARGS_NAME
from prefine.packing.out_of_memory import is_out_of_memory
from prefine.packing.rendering import read_template_kwargs
from prefine.scoring.accelerator import unused_gpu

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

OWN_CODE = "read that code, and give --trust-remote-code if it may run"

NF4_BLOCK = 64
"""Weights that share a scale (QLoRA, arXiv 2305.14314, section 3)."""


def pick_dtype(setting: str = "auto") -> tuple[torch.dtype, str]:
    """The precision to compute in and the reason, in words.

    ``auto``: bfloat16 where CUDA hardware has it, else float16 on CUDA, else float32.
    """
    if setting != "auto":
        if setting not in DTYPES:
            raise ConfigError(f"dtype is {setting!r}; expected auto, {', '.join(DTYPES)}{nearest(setting, DTYPES)}", code="PF-C03")
        return DTYPES[setting], f"{setting}, as asked"
    if why := unused_gpu():
        warnings.warn(why, stacklevel=2)
    return automatic_dtype()


def automatic_dtype() -> tuple[torch.dtype, str]:
    """What ``auto`` is on this machine, and the reason."""
    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "bfloat16, which this GPU has"
        return torch.float16, "float16 with loss scaling: this GPU has no bfloat16"
    return torch.float32, "float32: no GPU"


def load_tokenizer(model: str, trust_remote_code: bool = False, template_kwargs: Any = None, revision: str | None = None) -> Any:
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
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code, revision=revision or "main")
    except Exception as error:  # tokenizers' own code raises what it likes, an ImportError too
        todo = "install what it names" if isinstance(error, ImportError) else "save one there with tokenizer.save_pretrained"
        todo = OWN_CODE if brings_code(error) else todo
        raise ModelError(f"{model}: no tokenizer could be loaded ({first_line(error)}); {todo}", code="PF-M02") from error
    if getattr(tokenizer, "vocab_size", 0) in (0, None):
        raise ModelError(f"{model}: its tokenizer is empty; save the real one there with tokenizer.save_pretrained", code="PF-M02")
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{model}: its tokenizer has no end-of-sequence token; set tokenizer.eos_token and save it again", code="PF-M14")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if template_kwargs is not None:
        tokenizer.init_kwargs[KWARGS_NAME] = read_template_kwargs(template_kwargs)
    return tokenizer


def pad_apart(tokenizer: Any, ids: float = math.inf) -> None:
    """Give a pad token other than the end token, of the ``ids`` that the model has embeddings of.

    transformers' classifiers read the last token that is not the pad token.
    """
    if tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    special = {i: str(t) for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    special |= {i: str(tokenizer.convert_ids_to_tokens(i)) for i in tokenizer.all_special_ids}
    taken = (tokenizer.eos_token_id, tokenizer.bos_token_id)
    free = [t for i, t in sorted(special.items()) if i not in taken and i < ids and "end" not in t]
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
            "give a reference with the policy's tokenizer, or leave it out to use the policy's start",
            code="PF-M10",
        )


@contextmanager
def whole() -> Iterator[None]:
    """A block that loads models whole in this process, where transformers would share them out as DeepSpeed's stage 3 does."""
    from transformers.integrations import deepspeed

    known = deepspeed._hf_deepspeed_config_weak_ref
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed._hf_deepspeed_config_weak_ref = known


def load_model(model: str, dtype: torch.dtype = torch.float32, trust_remote_code: bool = False, **kwargs: Any) -> Any:
    """Load a causal language model (a folder with an adapter loads its base too).

    Args:
        trust_remote_code: False refuses a model that brings code of its own; nobody is asked on standard input.

    Raises:
        MissingFile, ModelError: nothing there, or not a causal language model.
    """
    from transformers import AutoModelForCausalLM

    kwargs |= {"trust_remote_code": trust_remote_code}

    check_exists(model)
    base = check_base(model)
    try:
        with whole():
            if base:
                return as_in_training(_with_adapter(model, dtype, **kwargs))
            loaded = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, **kwargs)
    except Exception as error:  # a model's code, its files and its packages: anything
        raise cannot_load(model, base, "a causal language model", error) from error
    _refuse_encoder(model, loaded.config)
    _refuse_narrow_quantised(model, loaded)
    return as_in_training(loaded)


def _with_adapter(folder: str, dtype: torch.dtype, **kwargs: Any) -> Any:
    """The base of an adapter with it, as it was trained.

    PEFT's own loader gives the base an embedding more, of random numbers, for every token that the folder's tokenizer has beyond it.
    """
    from peft import PeftConfig, PeftModelForCausalLM
    from transformers import AutoModelForCausalLM

    where = {k: kwargs.pop(k) for k in ("revision",) if k in kwargs}
    config = PeftConfig.from_pretrained(folder, **where)
    if config.task_type not in (None, "CAUSAL_LM"):
        raise ValueError(f"its task_type is {config.task_type}, not CAUSAL_LM")
    library = str((getattr(config, "auto_mapping", None) or {}).get("parent_library", "transformers"))
    if config.task_type is None and library.partition(".")[0] != "transformers":
        raise ValueError(f"its base's class is one of {library!r}, which is not imported")
    base = AutoModelForCausalLM.from_pretrained(config.base_model_name_or_path, dtype=dtype, revision=config.revision, **kwargs)
    rows = _saved_embeddings(folder, base)
    if rows is not None and rows != base.get_input_embeddings().weight.shape[0]:
        base.resize_token_embeddings(rows)  # as whoever trained it did; what is new is saved with it
    return PeftModelForCausalLM.from_pretrained(base, folder, is_trainable=True, config=config, **where)


def _saved_embeddings(folder: str, base: Any) -> int | None:
    """How many embeddings an adapter's folder brings; None where it brings none."""
    from peft.utils import load_peft_weights
    from safetensors import safe_open

    path = Path(folder) / "adapter_model.safetensors"
    name = next((n for n, m in base.named_modules() if m is base.get_input_embeddings()), None)
    keys = (f"base_model.model.{name}.weight", f"base_model.model.{name}.base_layer.weight")  # whole; under an adapter of its own
    if not path.is_file():  # of the Hub, or in torch's own format
        state = load_peft_weights(folder, device="cpu")
        return next((len(state[key]) for key in keys if key in state), None)
    with safe_open(path, "pt") as weights:
        there = set(weights.keys())
        return next((int(weights.get_slice(key).get_shape()[0]) for key in keys if key in there), None)


def as_in_training(model: Any) -> Any:
    """The same model, whose quantised layers compute in evaluation as in training.

    On processors with bfloat16 instructions bitsandbytes (0.50) would pack 4-bit weights in the first evaluation, to multiply in bfloat16
    from then on; weights that are stored as floats, to be shared out, it packs wrong. Its 8-bit layers on a CPU quantise what comes in as
    well, in evaluation alone.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        if type(module).__name__ == "Linear8bitLt" and hasattr(module, "state") and module.weight.device.type == "cpu":
            kind = type(module.state)
            always = property(lambda self: True, lambda self, value: None)
            module.state.__class__ = type(kind.__name__, (kind,), {"is_training": always})
    return model


def load_settings(model: str, trust_remote_code: bool = False, adapter: bool = False) -> Any:
    """A model's config without its weights, or that of the adapter in its folder.

    Raises:
        ModelError: it cannot be read.
    """
    from peft import PeftConfig
    from transformers import AutoConfig

    try:
        return PeftConfig.from_pretrained(model) if adapter else AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    except Exception as error:  # a model's code, its files and its packages: anything
        raise cannot_load(model, None, "an adapter" if adapter else "a model", error) from error


def _refuse_encoder(name: str, config: Any) -> None:
    """transformers loads BERT and its like as causal language models, whose tokens all the same see what follows them."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and getattr(config, "is_decoder", None) is False:
        raise ModelError(
            f"{name}: could not be loaded as a causal language model: {config.model_type} is an encoder (is_decoder is false in its "
            "config.json), whose tokens see what follows them; give a decoder",
            code="PF-M05",
        )


def _refuse_narrow_quantised(name: str, model: Any) -> None:
    """bitsandbytes 0.50 on a CPU reshapes by whole blocks of a row, and has no sentence for those that are not."""
    for place, module in model.named_modules():
        if type(module).__name__ == "Linear4bit" and module.weight.device.type == "cpu" and module.in_features % NF4_BLOCK:
            raise ModelError(
                f"{name}: {place} is {module.in_features} wide, and 4-bit on a CPU takes multiples of {NF4_BLOCK}; leave load_in_4bit out",
                code="PF-M20",
            )


def four_bit_config(dtype: torch.dtype, sharded: bool = False, kind: str = "nf4", nested: bool = True) -> Any:
    """4-bit weights (QLoRA, arXiv 2305.14314).

    Args:
        sharded: whether the weights will be shared out over processes (FSDP2), which moves numbers of floating point alone: the bits are
            then stored as such.
        kind: nf4 or fp4; nested: double quantisation.

    Raises:
        ConfigError: bitsandbytes is not installed.
    """
    _need_bitsandbytes("load_in_4bit")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_use_double_quant=nested,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype if sharded else torch.uint8,
    )


def eight_bit_config() -> Any:
    """LLM.int8 (arXiv 2208.07339).

    Raises:
        ConfigError: bitsandbytes is not installed.
    """
    _need_bitsandbytes("load_in_8bit")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_8bit=True)


def _need_bitsandbytes(option: str) -> None:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"{option} needs bitsandbytes: pip install 'prefine[qlora]'", code="PF-C10") from error


def add_adapter(model: Any, peft_config: Any, gradient_checkpointing: bool = False) -> Any:
    """Wrap with a new adapter, its weights in float32 under mixed precision's own casts."""
    from peft import get_peft_model, prepare_model_for_kbit_training

    if getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=gradient_checkpointing)
    if getattr(peft_config, "use_dora", False) and getattr(model, "is_loaded_in_8bit", False) and model.device.type == "cpu":
        raise ConfigError("DoRA on an 8-bit base does not work on a CPU (PEFT 0.21 loses its scales); take --load-in-4bit, or a GPU")
    peft_config = copy.deepcopy(peft_config)  # PEFT writes into it
    _refuse_unmatched(model, peft_config)
    try:
        out = get_peft_model(model, peft_config)
        _refuse_half_of_tied(out)
        for parameter in out.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                parameter.data = parameter.data.float()  # peft leaves a head that is trained whole in the base's dtype
        return out
    except PrefineError:
        raise
    except Exception as error:  # PEFT's, for whatever an option asks of a module
        raise ConfigError(f"the adapter does not fit the model: {first_line(error)}") from error


NAMING = {
    "target_modules": "--lora-target",
    "exclude_modules": "--lora-exclude",
    "modules_to_save": "--lora-modules-to-save",
    "target_parameters": "--lora-target-parameters",
}
"""Settings of PEFT that name parts of a model, and the options that are about them."""


def _refuse_unmatched(model: Any, peft_config: Any) -> None:
    """PEFT is content where one of several names is in the model, and of some settings where none is."""
    modules, parameters = [n for n, _ in model.named_modules()], [n for n, _ in model.named_parameters()]
    for setting, option in NAMING.items():
        names = getattr(peft_config, setting, None) or []
        known = parameters if setting == "target_parameters" else modules
        if setting == "modules_to_save" and peft_config.task_type in ("SEQ_CLS", "TOKEN_CLS"):
            names = set(names) - {"classifier", "score"}  # which PEFT adds, whatever the head is called
        for name in [] if isinstance(names, str) else sorted(names):
            if not any(n == name or n.endswith(f".{name}") for n in known):
                ends = sorted({n.rpartition(".")[2] for n in known} if "." not in name else {".".join(n.split(".")[-3:]) for n in known})
                raise ConfigError(
                    f"the adapter does not fit the model: {option} {name} is nothing in it{nearest(name, ends)}", code="PF-C03"
                )


def _refuse_half_of_tied(model: Any) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    base = model.get_base_model()
    ends = (base.get_input_embeddings(), base.get_output_embeddings())
    if base.config.get_text_config().tie_word_embeddings and None not in ends and any(isinstance(e, BaseTunerLayer) for e in ends):
        raise ConfigError(
            "the adapter is on the embeddings or the output head (--lora-target), which are one tensor in this model, and an adapter on "
            "either could not be merged; leave them out (all-linear does), or untie them first"
        )


def check_base(model: str) -> str | None:
    """The base of a folder's adapter; None where the folder holds no adapter.

    Raises:
        ModelError: the adapter names no base, or one that is not there.
    """
    path = Path(model) / "adapter_config.json"
    if not path.exists():
        return None
    try:
        base = json.loads(path.read_bytes())["base_model_name_or_path"]
        damage = "" if base is None or isinstance(base, str) else f"base_model_name_or_path is {type(base).__name__}, not a name"
    except KeyError:
        base, damage = None, ""
    except (ValueError, TypeError, RecursionError) as error:
        base, damage = None, f"not a JSON object ({first_line(error)})"
    if damage:
        raise ModelError(f"{path}: {damage}; copy the adapter again", code="PF-M05")
    todo = f"put it back, or write its place into {path} (base_model_name_or_path)"
    if not base:
        raise ModelError(f"{model}: an adapter that names no base; {todo}", code="PF-M04")
    try:
        check_exists(base)
    except PrefineError as error:
        raise ModelError(f"{model}: an adapter whose base is gone: {error}; {todo}", code="PF-M04") from error
    return str(base)


def cannot_load(model: str, base: str | None, what: str, error: BaseException) -> ModelError:
    """What to say of a model that another library could not load."""
    of = f", an adapter on {base}" if base else ""
    if is_out_of_memory(error):
        todo = "load it in bfloat16 (--dtype) or in 4-bit, or take a smaller one"
        return ModelError(f"{model}{of}: does not fit into memory ({first_line(error)}); {todo}", code="PF-M08")
    todo = f"; {OWN_CODE}" if brings_code(error) else ""
    return ModelError(f"{model}{of}: could not be loaded as {what}: {first_line(error)}{todo}", code="PF-M05")


def brings_code(error: BaseException) -> bool:
    """Whether transformers refused a model for the code that comes with it."""
    return "contains custom code" in str(error)


def check_exists(model: str, needed: tuple[str, ...] = ("config.json", "adapter_config.json")) -> None:
    """Refuse a path that is no model folder; what looks like a Hub id passes.

    Raises:
        MissingFile, ModelError: nothing there, or none of the files ``needed``.
    """
    path = Path(model).expanduser()
    if path.exists():
        if path.is_dir() and not any((path / n).exists() for n in needed):
            raise ModelError(f"{model}: a folder without config.json; give the folder that save_pretrained wrote", code="PF-M05")
    elif model.startswith((".", "/", "~")) or model.count("/") != 1 or path.parent.is_dir():
        siblings = [str(p) for p in path.parent.glob("*/")] if path.parent.is_dir() else []
        raise MissingFile(f"{model}: no such model folder{nearest(model, siblings)}", code="PF-F02")


def first_line(error: BaseException) -> str:
    """The first line of another library's error; of torch's about a pickle, which advises to run what is in it, what it comes to."""
    if isinstance(error, pickle.UnpicklingError):
        return "a pickle that is damaged, or would run code to be read, and was not read"
    return str(error).strip().split("\n")[0][:300]
