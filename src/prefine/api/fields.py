"""The options of training commands, from a table made of the trainers' configs: importing those takes seconds.

The table holds for the versions of transformers and Prefine that it names; for others it is made anew, once, into the cache.
"""

from __future__ import annotations

import functools
import json
import operator
import typing
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefine.api.options import Option, options_of
from prefine.errors import PrefineError

TABLE = Path(__file__).with_name("fields.json")
CONFIGS = {
    "dpo": "DPOConfig",
    "kto": "KTOConfig",
    "sft": "SFTConfig",
    "reward": "RewardConfig",
    "ppo": "PPOConfig",
    "online-dpo": "OnlineDPOConfig",
}
TRANSFORMERS = "transformers.TrainingArguments"
COMMON = {
    "training": (
        *("loss_type", "beta", "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "max_length", "retain"),
        *("seed", "ensemble", "assistant_only_loss", "advantage_estimator", "num_samples", "response_length", "temperature", "kl_coef"),
    ),
    "memory": ("gradient_checkpointing", "gradient_accumulation_steps"),
    "output and evaluation": ("output_dir", "logging_steps", "save_steps", "eval_strategy", "report_to"),
}
"""Fields of configs that the short help shows, by heading."""
COMMON_RUN = {
    *("model", "data", "eval_data", "format", "map", "resume", "dtype", "load_in_4bit", "lora_r"),
    *("reward_model", "reward_function", "final_eval", "final_judge"),
}
GROUPS = ("model and data", "reward", "training", "memory", "output and evaluation")
KINDS: dict[str, Any] = {
    **{"int": int, "float": float, "bool": bool, "str": str, "dict": dict, "list": list, "null": type(None), "any": Any},
    **{"list[int]": list[int], "list[float]": list[float], "list[str]": list[str]},
}


def training_options(command: str, kinds: Sequence[Any]) -> dict[str, Option]:
    """All options of a training command: those of ``kinds``, then the config's, transformers' last."""
    own = [o for kind in kinds for o in options_of(kind).values()]
    named = (replace(o, common=o.name in COMMON_RUN) for o in own)
    options = [*named, *(Option(**_read(row)) for row in _table()[command])]
    order = [*GROUPS, *dict.fromkeys(o.group for o in options if o.group not in GROUPS and o.group != TRANSFORMERS), TRANSFORMERS]
    return {o.name: o for o in sorted(options, key=lambda o: order.index(o.group))}


def _read(row: Mapping[str, Any]) -> dict[str, Any]:
    kinds = [KINDS[name] for name in row["type"]]
    return {**row, "type": Any if Any in kinds else functools.reduce(operator.or_, kinds)}


def versions() -> dict[str, str]:
    """What the table depends on."""
    from importlib import metadata

    return {name: metadata.version(name) for name in ("transformers", "prefine")}


@functools.cache
def _table() -> dict[str, list[dict[str, Any]]]:
    shipped = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.exists() else {}
    if shipped.get("versions") == versions():
        return dict(shipped["commands"])
    from prefine.cache import cache_folder
    from prefine.packing.checksum import damaged, text_checksum
    from prefine.runs import write_text

    cached = cache_folder() / "fields.json"
    try:
        found = json.loads(cached.read_bytes())
        if found["checksum"] != text_checksum(json.dumps([found["versions"], found["commands"]])):
            raise ValueError("altered")
        if found["versions"] == versions():
            return dict(found["commands"])
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        damaged(cached)
    made = json.loads(json.dumps(make_table(), default=str))
    made["checksum"] = text_checksum(json.dumps([made["versions"], made["commands"]]))
    with suppress(OSError, PrefineError):  # a cache that cannot be written costs the seconds again
        cached.parent.mkdir(parents=True, exist_ok=True)
        write_text(cached, json.dumps(made))
    return dict(made["commands"])


def make_table() -> dict[str, Any]:
    """The table, from the configs themselves."""
    from dataclasses import MISSING, fields

    from transformers import TrainingArguments

    import prefine.training.config as configs

    inherited = {f.name: f for f in fields(TrainingArguments)}
    heading = {name: group for group, names in COMMON.items() for name in names}
    commands: dict[str, list[dict[str, Any]]] = {}
    for command, config_name in CONFIGS.items():
        config = getattr(configs, config_name)
        hints = typing.get_type_hints(config)
        rows = []
        for f in fields(config):
            if not f.init:
                continue
            default = f.default_factory() if f.default_factory is not MISSING else None if f.default is MISSING else f.default
            theirs = f.name in inherited and f.default == inherited[f.name].default
            group = heading.get(f.name, TRANSFORMERS if f.name in inherited else "training")
            preset = _preset(command, f.name)
            rows.append(
                {
                    "name": f.name,
                    "type": _kinds(hints[f.name]),
                    "default": None if preset else getattr(default, "value", default),
                    "help": " ".join(str(f.metadata.get("help", "")).split()) + preset,
                    "group": TRANSFORMERS if theirs and f.name not in heading else group,
                    "common": f.name in heading,
                }
            )
        commands[command] = rows
    return {"versions": versions(), "commands": commands}


def _preset(command: str, name: str) -> str:
    """What a field is where it is not given and the preset says something of it; empty where it does not."""
    from prefine.training.recipes import RECIPES

    whole, adapter = (RECIPES[command, kind].values.get(name) for kind in (False, True))
    if whole is None and adapter is None:
        return ""
    shown = f"{adapter:g}" if isinstance(adapter, float) else str(adapter)
    other = f"{whole:g}" if isinstance(whole, float) else str(whole)
    told = shown if shown == other else f"{shown} with an adapter, {other} without"
    return f" Unset: the preset's; recipe has {told}."


def _kinds(hint: Any) -> list[str]:
    """A hint by the names of :data:`KINDS`; what a file cannot hold is text, which configs turn into what they need."""
    import enum
    import types

    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return list(dict.fromkeys(name for part in typing.get_args(hint) for name in _kinds(part)))
    origin = typing.get_origin(hint) or hint
    if origin is typing.Literal or (isinstance(origin, type) and issubclass(origin, enum.Enum)):
        return ["str"]
    if origin is list:
        [item] = typing.get_args(hint) or (Any,)
        name = getattr(item, "__name__", "any")
        return [f"list[{name}]" if f"list[{name}]" in KINDS else "list"]
    name = "null" if origin is type(None) else getattr(origin, "__name__", "any")
    return [name if name in KINDS else "any"]


def config_of(command: str) -> Any:
    """A training command's config class."""
    import prefine.training.config as configs

    return getattr(configs, CONFIGS[command])
