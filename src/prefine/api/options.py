"""Options: fields of dataclasses, which are a command's flags, a YAML file's keys and a call's keywords, by the same names."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from prefine.errors import ConfigError, MissingFile, nearest
from prefine.redaction import remember_text

T = TypeVar("T")
HINTS = {
    **dict.fromkeys(("lr", "peak_lr"), "learning_rate"),
    **dict.fromkeys(("model_name_or_path", "model_name", "base_model", "model_path", "pretrain", "model_id", "policy_model"), "model"),
    **dict.fromkeys(("dataset_name", "dataset", "datasets", "train_data", "train_file", "train_dataset", "data_path"), "data"),
    **dict.fromkeys(("eval_dataset", "validation_file", "val_data", "test_data"), "eval_data"),
    **dict.fromkeys(("val_size", "val_set_size", "test_size", "validation_split"), "eval_fraction"),
    **dict.fromkeys(
        ("batch_size", "per_device_batch_size", "micro_batch_size", "micro_train_batch_size", "train_batch_size", "bs"),
        "per_device_train_batch_size",
    ),
    **dict.fromkeys(
        ("grad_accum", "gradient_accumulation", "accumulation_steps", "grad_accumulation_steps"), "gradient_accumulation_steps"
    ),
    **dict.fromkeys(("epochs", "num_epochs", "max_epochs", "n_epochs"), "num_train_epochs"),
    **dict.fromkeys(("max_new_tokens", "max_completion_length", "generate_max_len"), "response_length"),
    **dict.fromkeys(("max_tokens", "max_length_tokens"), "max_new_tokens"),
    **dict.fromkeys(("cutoff_len", "sequence_len", "max_seq_length", "max_seq_len", "max_len", "block_size"), "max_length"),
    **dict.fromkeys(("lora_rank", "use_peft", "lora", "peft", "rank", "peft_config"), "lora_r"),
    **dict.fromkeys(("lora_target_modules", "target_modules", "lora_modules"), "lora_target"),
    **dict.fromkeys(("dora", "peft_use_dora"), "use_dora"),
    **dict.fromkeys(("rslora", "peft_use_rslora"), "use_rslora"),
    **dict.fromkeys(("pissa", "pissa_init", "lora_init", "init_lora", "peft_init_lora_weights"), "init_lora_weights"),
    **dict.fromkeys(("modules_to_save", "additional_target", "lora_additional_target"), "lora_modules_to_save"),
    **dict.fromkeys(("exclude_modules", "lora_exclude_modules"), "lora_exclude"),
    **dict.fromkeys(("loraplus", "loraplus_ratio", "loraplus_lr"), "loraplus_lr_ratio"),
    **dict.fromkeys(("double_quantization", "bnb_4bit_use_double_quant", "bnb_double_quant"), "use_bnb_nested_quant"),
    **dict.fromkeys(("quantization_type", "bnb_quant_type"), "bnb_4bit_quant_type"),
    **dict.fromkeys(("load_8bit", "use_8bit", "load_in_8_bit"), "load_in_8bit"),
    **dict.fromkeys(("pref_beta", "dpo_beta", "rl_beta", "kl_beta"), "beta"),
    **dict.fromkeys(("kl_coef", "init_kl_coef", "kl_penalty"), "kl_coef"),
    **dict.fromkeys(("pref_loss", "loss", "dpo_loss", "loss_function"), "loss_type"),
    **dict.fromkeys(("load_4bit", "quantization_bit", "use_4bit", "qlora", "load_in_4_bit"), "load_in_4bit"),
    **dict.fromkeys(("torch_dtype", "precision"), "dtype"),
    **dict.fromkeys(("out", "output", "out_dir", "save_path", "save_dir"), "output_dir"),
    **dict.fromkeys(("grad_checkpointing", "use_gradient_checkpointing"), "gradient_checkpointing"),
    **dict.fromkeys(("reward_fn", "reward_funcs", "reward_func", "remote_rm_url"), "reward_function"),
    **dict.fromkeys(("reward_model_path", "reward_model_name", "reward_pretrain"), "reward_model"),
    **dict.fromkeys(("num_generations", "n_samples_per_prompt", "rloo_k", "n"), "num_samples"),
    **dict.fromkeys(("warmup", "lr_warmup_steps", "num_warmup_steps"), "warmup_steps"),
    **dict.fromkeys(("scheduler", "lr_scheduler"), "lr_scheduler_type"),
    **dict.fromkeys(("temp",), "temperature"),
    **dict.fromkeys(("prompt_file", "prompt_data", "questions_file"), "prompts"),
}
"""What options are called in TRL, LLaMA-Factory, Axolotl, OpenRLHF and by habit -> their names here."""
ALIASES = {"works": "min_win_rate", "even": "null_rate", "allowed": "tolerance"}
"""Names that options had once, and still answer to."""


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        type: of its value, as in an annotation; default: what it is where it is not given.
        group: its heading in help; common: whether the short help shows it; objects: whether it takes what no file could hold.
    """

    name: str
    type: Any
    default: Any
    help: str
    group: str = "options"
    common: bool = True
    objects: bool = False

    @property
    def flag(self) -> str:
        """How it is written on the command line."""
        return "--" + self.name.replace("_", "-")

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The members of its type, where that is a union."""
        return _members(self.type)

    @property
    def is_many(self) -> bool:
        """Whether it may be several values."""
        return any(kind is list or typing.get_origin(kind) is list for kind in self.kinds)


def options_of(kind: Any) -> dict[str, Option]:
    """The options that a dataclass offers; its ``GROUP`` is their heading, where a field names none."""
    group = getattr(kind, "GROUP", "options")
    hints = typing.get_type_hints(kind)
    return {
        f.name: Option(
            f.name,
            hints[f.name],
            _default(f),
            str(f.metadata.get("help", "")),
            str(f.metadata.get("group", group)),
            objects=bool(f.metadata.get("objects")),
        )
        for f in fields(kind)
        if f.init and "help" in f.metadata
    }


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else None


def pick(kind: type[T], given: Mapping[str, Any]) -> T:
    """One option class's instance from what was given for several."""
    return kind(**{f.name: given[f.name] for f in fields(kind) if f.name in given})  # type: ignore[arg-type]


def checked(given: Mapping[str, Any], options: Mapping[str, Option], where: str = "") -> dict[str, Any]:
    """What was given, each value as its option's type says; objects that no file could hold (a model, a judge) pass as they are.

    Args:
        where: what stands before a name in errors, as ``runs.yaml: key``.

    Raises:
        ConfigError: an unknown name, with the known one that is meant, or a value of another type.
    """
    out = {}
    for key, value in given.items():
        name = str(key).replace("-", "_")
        if name not in options and ALIASES.get(name) in options:
            name = ALIASES[name]
        if name not in options:
            what = f"{where.removesuffix(': key')}: unknown key {key!r}" if where else f"unknown option {key}"
            raise ConfigError(f"{what}{meant(name, options)}", code="PF-C01")
        out[name] = coerce(options[name], value, f"{where} {key!r}" if where else options[name].flag)
    return out


def meant(name: str, known: Iterable[str]) -> str:
    """What an unknown name is called here, as a person from another tool would have it; else the nearest; else nothing."""
    name = name.lstrip("-").replace("-", "_")
    known = list(known)
    target = HINTS.get(name)
    if target in known:
        return f"; here it is {target!r}"
    return nearest(name, known)


def coerce(option: Option, value: Any, where: str) -> Any:
    """A value as its option's type says. Text is read as YAML means it, 5e-7 is a number, ``none`` is None.

    Paths, tuples, numpy's numbers and torch's dtypes are what they stand for; other objects pass where the option takes objects.

    Raises:
        ConfigError: it is of another type.
    """
    value = _simple(value)
    kinds = option.kinds
    if option.objects and isinstance(value, list) and (not option.is_many or any(isinstance(v, dict) for v in value)):
        return value  # rows, prompts
    if not _is_plain(value):
        if option.objects or Any in kinds:
            return value
        hint = ": give its name or folder here, or train it with prefine.DPOTrainer and its like" if hasattr(value, "state_dict") else ""
        raise ConfigError(f"{where}: a {type(value).__name__} is no value for it{hint}; expected {_told(option)}", code="PF-C02")
    if value is None or (isinstance(value, str) and value.lower() in ("none", "null") and option.default != "none"):
        if option.default is None or type(None) in kinds:
            return None
        if value is None:
            raise ConfigError(f"{where} has no value; expected {_told(option)}", code="PF-C02")
    if Any in kinds:
        return _loaded(value) if isinstance(value, str) and value.strip().startswith(("{", "[")) else value
    if isinstance(value, str) and any(k is dict or typing.get_origin(k) is dict for k in kinds):
        value = _mapping(value)
    if isinstance(value, str) and str in kinds and {bool, int, float} & set(kinds):
        switch = isinstance(option.default, bool) and value.lower() in ("yes", "no")
        value = value.lower() == "yes" if switch else _as_said(value, kinds)
    if isinstance(value, bool) and bool not in kinds:
        raise ConfigError(f"{where}: {value} is no value for it; expected {_told(option)}", code="PF-C02")
    if option.is_many and not isinstance(value, list | dict):
        lone = [k for k in kinds if k is not list and typing.get_origin(k) is not list]
        value = value if any(k is not type(None) for k in lone) else [value]
    if str in kinds and isinstance(value, int | float) and not isinstance(value, bool) and not {int, float} & set(kinds):
        value = str(value)
    found = value if _is_of(value, kinds) else _converted(option, value, where)
    # One of what may be several is as the default is, however it was given.
    if isinstance(option.default, list) and not isinstance(found, list | dict | None):
        found = [found]
    elif isinstance(option.default, str | float) and isinstance(found, list) and len(found) == 1:
        found = found[0]
    # A whole number that was written as one stays one, so that a file says 16 and not 16.0.
    return int(found) if isinstance(found, float) and found.is_integer() and str(value).lstrip("-").isdigit() else found


def _simple(value: Any) -> Any:
    """What a value stands for, where a file could hold that."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return [_simple(v) for v in value]
    kind = type(value)
    if kind.__module__ == "torch" and kind.__name__ == "dtype":
        return str(value).removeprefix("torch.")
    if kind.__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def _as_said(text: str, kinds: tuple[Any, ...]) -> Any:
    """Text that may be a word, a number or true: what it looks like, where the option can be that."""
    if bool in kinds and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if {int, float} & set(kinds):
        try:
            return int(text) if text.lstrip("-").isdigit() else float(text)
        except ValueError:
            return text
    return text


def _is_of(value: Any, kinds: tuple[Any, ...]) -> bool:
    """Whether a value is of a kind as it stands: no library need be imported to say so."""
    if type(value) in kinds and not isinstance(value, list):
        return True
    items = [typing.get_args(k) for k in kinds if typing.get_origin(k) is list]
    return isinstance(value, list) and any(all(type(v) is item[0] for v in value) for item in items)


def _converted(option: Option, value: Any, where: str) -> Any:
    import pydantic

    try:
        return _adapter(option.type).validate_python(value)
    except pydantic.ValidationError:
        raise ConfigError(f"{where}: {value!r} is {_not_what(option)}", code="PF-C02") from None


@functools.cache
def _adapter(kind: Any) -> Any:
    import pydantic

    return pydantic.TypeAdapter(kind)


def _is_plain(value: Any) -> bool:
    """Whether a value is one that a YAML file could hold."""
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, str | int | float | bool | dict)


def _members(kind: Any) -> tuple[Any, ...]:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(member for part in typing.get_args(kind) for member in _members(part))
    return (kind,)


NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a mapping", list: "a list"}


def _told(option: Option) -> str:
    """What an option's value is, in words."""
    told = []
    for kind in option.kinds:
        if kind is type(None):
            continue
        if typing.get_origin(kind) is list:
            told.append(f"a list ({NAMES.get(typing.get_args(kind)[0], 'values')} each)")
        else:
            told.append(NAMES.get(typing.get_origin(kind) or kind, "a value"))
    return " or ".join(dict.fromkeys(told)) or "a value"


def _not_what(option: Option) -> str:
    kinds = set(option.kinds) - {type(None)}
    if kinds <= {int, float}:
        return "not a whole number" if kinds == {int} else "not a number"
    return "not true or false" if kinds == {bool} else f"not {_told(option)}"


def _mapping(text: str) -> Any:
    """``{...}`` or ``a=b`` as a mapping; anything else as it is: a file's name."""
    if text.strip().startswith("{"):
        return _loaded(text)
    name, equals, value = text.partition("=")
    return {name.strip(): _loaded(value)} if equals and name.strip().isidentifier() else text


@functools.cache
def _loader() -> Any:
    """YAML 1.2's core schema: ``off`` and ``no`` are words, as in ``eval_strategy: no``; 5e-7 is a number; 010 is ten; no dates.

    Source: https://yaml.org/spec/1.2.2/, 10.3.2.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {}
    for tag, pattern, first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("null", r"~|null|Null|NULL|", "~nN\0"),
        ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
        ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+0123456789."),
        ("merge", r"<<", "<"),
    ):
        firsts: list[Any] = ["" if c == "\0" else c for c in first]
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), firsts)

    def whole(loader: Any, node: Any) -> int:
        text = loader.construct_scalar(node)
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)

    Loader.add_constructor("tag:yaml.org,2002:int", whole)
    return Loader


def load_yaml(text: str) -> Any:
    """What a file of ours says: as YAML 1.2 has it.

    Raises:
        yaml.YAMLError: it is none.
    """
    import yaml

    return yaml.load(text, _loader())


def _loaded(text: str) -> Any:
    import yaml

    try:
        return load_yaml(text) if text.strip() else text
    except yaml.YAMLError:
        return text  # a glob, a query: plain text


def read_yaml(path: str, options: Mapping[str, Option], flag: str = "--config") -> dict[str, Any]:
    """A configuration file; its keys are those of flags, with underscores or hyphens.

    Raises:
        MissingFile, ConfigError: no such file; not YAML; an unknown key or a value of another type.
    """
    import yaml

    file = Path(path)
    if not file.is_file():
        raise MissingFile(f"{flag} {path}: no such file")
    try:
        text = file.read_text(encoding="utf-8")
        remember_text(text)  # an error may show a line of it
        loaded = load_yaml(text) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())})", code="PF-C12") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, found {type(loaded).__name__}", code="PF-C12")
    return checked(loaded, options, f"{path}: key")


def as_flags(command: str, given: Mapping[str, Any]) -> list[str]:
    """The words of a command line that gives the same; values are plain."""
    words = command.split()
    for name, value in given.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True or value is False:
            words.append(flag if value else f"--no-{flag[2:]}")
        elif isinstance(value, list):
            words += (
                [flag, *map(str, value)] if value and not any(str(v).startswith("-") for v in value) else [f"{flag}={v}" for v in value]
            )
        elif isinstance(value, dict):
            words += [flag, json.dumps(value)]
        elif value is None:
            words += [flag, "none"]
        else:
            words += [f"{flag}={value}"] if str(value).startswith("-") or not str(value) else [flag, str(value)]
    return words


def print_config(command: str, options: Mapping[str, Option]) -> str:
    """A YAML file to start from: each key with its default, commented out, under its help."""
    import textwrap

    import yaml

    lines = [f"# prefine {command} --config FILE.yaml; flags win over keys. Remove the # of a key to set it."]
    for group in dict.fromkeys(o.group for o in options.values()):
        lines += ["", f"# --- {group}"]
        for option in (o for o in options.values() if o.group == group):
            lines += ["", *textwrap.wrap(" ".join(option.help.split()), 100, initial_indent="# ", subsequent_indent="# ")]
            value = yaml.safe_dump(option.default, default_flow_style=True).removesuffix("\n").removesuffix("\n...").strip()
            lines.append(f"#{option.name}: {value}")
    return "\n".join(lines)


def json_schema(command: str, options: Mapping[str, Option]) -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a command's YAML file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"prefine {command}",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            o.name: _schema_of(o) | ({} if o.default is None else {"default": o.default}) | {"description": " ".join(o.help.split())}
            for o in options.values()
        },
    }


def _schema_of(option: Option) -> dict[str, Any]:
    if Any in option.kinds:
        return {}
    plain = {int: "integer", float: "number", bool: "boolean", str: "string", dict: "object", type(None): "null", list: "array"}
    choices: list[dict[str, Any]] = []
    for kind in dict.fromkeys((*option.kinds, *([type(None)] if option.default is None else []))):
        origin = typing.get_origin(kind)
        if origin is list:
            choices.append({"type": "array", "items": {"type": plain.get(typing.get_args(kind)[0], "string")}})
        else:
            choices.append({"type": plain[origin or kind]})
    if option.is_many:  # one value stands for a list of one
        choices += [c["items"] for c in choices if "items" in c and c["items"] not in choices]
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def asdict_shallow(value: Any) -> dict[str, Any]:
    """A dataclass's fields by name, values as they are."""
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
