"""What trainers take that were written for TRL: arguments of other kinds, and hooks that packed batches cannot serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from transformers import Trainer, TrainingArguments

from prefine.errors import ConfigError, MissingFile
from prefine.packing.end_tokens import end_tokens
from prefine.scoring.loading import load_tokenizer
from prefine.training.config import PackConfig

C = TypeVar("C", bound=PackConfig)


def config_of(args: Any, kind: type[C]) -> C:
    """A trainer's own config: as given, made of plain ``TrainingArguments``, or its defaults.

    Raises:
        ConfigError: something else.
    """
    if args is None:
        return kind(output_dir="trainer_output")
    if isinstance(args, kind):
        return args
    if isinstance(args, TrainingArguments) and not isinstance(args, PackConfig):
        values = args.to_dict()
        values["hub_token"] = args.hub_token  # to_dict hides it
        known = {name: value for name, value in values.items() if name in kind.__dataclass_fields__}
        lost = sorted(set(values) - set(known) - set(TrainingArguments.__dataclass_fields__) - {"push_to_hub_token"})
        if lost:
            raise ConfigError(
                f"args is a {type(args).__name__}, of which {', '.join(lost)} would be ignored; give a {kind.__name__}", code="PF-C04"
            )
        return kind(**known)
    raise ConfigError(f"args is a {type(args).__name__}; expected a {kind.__name__}", code="PF-C03")


NEVER_CALLED = (
    *("compute_loss", "_compute_loss", "_prepare_dataset", "_prepare_inputs", "_prepare_input", "_forward", "tokenize_row"),
    *("_set_signature_columns_if_needed", "_remove_unused_columns", "_calculate_rewards_from_functions", "dpo_loss"),
    *("concatenated_forward", "get_batch_loss_metrics"),
)
"""Methods of transformers' and TRL's trainers that people override, and that packed trainers have no use for."""
NO_COLLATOR = "data_collator would be ignored: batches are packed prompt groups, made under the token budget; leave it out"


def refuse_hooks(trainer: Trainer, data_collator: Any = None, compute_loss_func: Any = None) -> None:
    """Refuse what would never be called.

    Raises:
        ConfigError: a collator, a loss function, or a subclass's ``compute_loss``.
    """
    if data_collator is not None:
        raise ConfigError(NO_COLLATOR)
    why = "losses are functions of packed log-probs, pack by pack"
    if compute_loss_func is not None or trainer.__dict__.get("compute_loss_func") is not None:
        raise ConfigError(f"compute_loss_func would be ignored: {why}; override batch_backward and batch_loss in a subclass", code="PF-C04")
    for kind in type(trainer).__mro__:
        theirs = kind.__module__.split(".")[0] in ("prefine", "transformers", "builtins")
        found = [name for name in NEVER_CALLED if name in (() if theirs else vars(kind)) or name in trainer.__dict__]
        if found:
            raise ConfigError(
                f"{type(trainer).__name__}.{found[0]} would never be called: {why}; "
                "override encode_rows, batch_backward or batch_loss instead"
            )


def fit_settings(model: Any, processing_class: Any, args: PackConfig) -> None:
    """Give the tokenizer the end token and the chat template that the config says; the model is told the end token.

    Raises:
        ConfigError: a processor of images, a token that does not exist, or a template that needs tokens which the tokenizer has not.
    """
    if hasattr(processing_class, "tokenizer"):
        raise ConfigError(f"processing_class is a {type(processing_class).__name__}; only text is trained on: give its tokenizer")
    path = getattr(args, "chat_template_path", None)
    if path is not None:
        _take_template(model, processing_class, str(path), args.trusts_code)
    token = getattr(args, "eos_token", None)
    if token is not None:
        if token not in processing_class.get_vocab():
            raise ConfigError(
                f"The specified `eos_token` ({token!r}) is not found in the vocabulary of the tokenizer; give one of its tokens, or add it "
                "there and resize the model's embeddings first"
            )
        _end_with(model, processing_class, token)


def _end_with(model: Any, tokenizer: Any, token: str) -> None:
    tokenizer.eos_token = token
    model.config.get_text_config().eos_token_id = tokenizer.eos_token_id
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.eos_token_id = end_tokens(model, tokenizer)


def _take_template(model: Any, tokenizer: Any, path: str, trust_remote_code: bool) -> None:
    if path.endswith((".jinja", ".j2")):
        file = Path(path)
        if not file.is_file():
            raise MissingFile(f"chat_template_path {path}: no such file")
        tokenizer.chat_template = file.read_text(encoding="utf-8")
        return
    source = load_tokenizer(path, trust_remote_code)
    if source.chat_template is None:
        raise ConfigError(f"chat_template_path {path}: its tokenizer has no chat template", code="PF-M01")
    vocabulary, template = tokenizer.get_vocab(), str(source.chat_template)
    special = {str(token) for token in source.added_tokens_decoder.values()}
    missing = sorted(token for token in special - vocabulary.keys() if token in template)
    if missing:
        raise ConfigError(
            f"chat_template_path {path}: its template writes {', '.join(missing)}, which this tokenizer has no token for; add them with "
            "tokenizer.add_special_tokens, call model.resize_token_embeddings(len(tokenizer)), and give both to the trainer",
            code="PF-M03",
        )
    tokenizer.chat_template = source.chat_template
    if source.eos_token in vocabulary and source.eos_token != tokenizer.eos_token:
        _end_with(model, tokenizer, source.eos_token)
