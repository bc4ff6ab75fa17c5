"""Flags and YAML to a config dataclass: every flag is a field, keys are the same words.

``--max-length 512``, ``--max_length=512``, ``--gradient-checkpointing`` (true),
``--no-gradient-checkpointing`` (false), ``--config FILE.yaml`` with the same keys; flags win.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from prefine.errors import ConfigError, MissingFile, nearest


@dataclass(frozen=True)
class Option:
    """One flag: its type, default and help."""

    name: str
    type: Any
    default: Any
    help: str
    group: str

    @property
    def flag(self) -> str:
        """How it is written on the command line."""
        return "--" + self.name.replace("_", "-")


def options_of(dataclass_type: Any, group: str, only: set[str] | None = None) -> dict[str, Option]:
    """The options a dataclass offers."""
    hints = typing.get_type_hints(dataclass_type)
    out = {}
    for field in fields(dataclass_type):
        if field.init and (only is None or field.name in only):
            out[field.name] = Option(field.name, hints[field.name], _default(field), str(field.metadata.get("help", "")), group)
    return out


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else None


def parse(
    argv: list[str], options: Mapping[str, Option], positional: tuple[str, ...] = (), rest: list[str] | None = None
) -> dict[str, Any]:
    """Read flags and the ``--config`` file they name; returns only what was given.

    Args:
        positional: names of the words that stand without a flag.
        rest: takes such words where their number is not fixed.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a missing or ill-typed value.
        MissingFile: the config file does not exist.
    """
    given: dict[str, Any] = {}
    from_file: dict[str, Any] = {}
    words = list(argv)
    loose = []
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            loose.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        key = name.replace("-", "_")
        if key == "config":
            from_file = read_yaml(value if equals else _next(words, word), options)
            continue
        if key not in options and key.startswith("no_") and key[3:] in options and not equals:
            given[key[3:]] = _typed(options[key[3:]], "false", word)
            continue
        option = _known(key, options, word)
        values = [value] if equals else []
        if not equals:
            while words and (not words[0].startswith("-") or words[0] == "-" or re.fullmatch(r"-[\d.].*", words[0])):
                values.append(words.pop(0))
                if not _is_many(option.type):
                    break
        if not values:
            if bool not in _choices(option.type):
                raise ConfigError(f"{word} needs a value ({option.help.rstrip('.')})")
            values = ["true"]
        typed = [_typed(option, v, word) for v in values]
        if _is_many(option.type) and key in given:
            typed = [*_listed(given[key]), *typed]
        given[key] = typed if _is_many(option.type) and (len(typed) > 1 or option.type != Any) else typed[0]
    for name, value in zip(positional, loose, strict=False):
        given[name] = value
    if rest is not None:
        rest += loose
    elif len(loose) > len(positional):
        raise ConfigError(f"unexpected argument {loose[len(positional)]!r}; options begin with --")
    return {**from_file, **given}


def read_yaml(path: str, options: Mapping[str, Option]) -> dict[str, Any]:
    """A configuration file; its keys are those of flags, with underscores or hyphens."""
    file = Path(path)
    if not file.is_file():
        raise MissingFile(f"--config {path}: no such file")
    try:
        loaded = yaml.safe_load(file.read_text()) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines, found {type(loaded).__name__}")
    out = {}
    for key, value in loaded.items():
        name = str(key).replace("-", "_")
        option = _known(name, options, f"{path}: key {str(key)!r}")
        # YAML reads 5e-7 as text; the field's type says what was meant.
        out[name] = _typed(option, value, f"{path}: key {key!r}") if isinstance(value, str) else value
    return out


def _known(key: str, options: Mapping[str, Option], where: str) -> Option:
    if key not in options:
        raise ConfigError(f"unknown option {where}{nearest(key, options)} See --help for all")
    return options[key]


def _next(words: list[str], flag: str) -> str:
    if not words:
        raise ConfigError(f"{flag} needs a value")
    return words.pop(0)


def _choices(kind: Any) -> tuple[Any, ...]:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(c for part in typing.get_args(kind) for c in _choices(part))
    return (kind,)


def _is_many(kind: Any) -> bool:
    return kind is Any or any(typing.get_origin(c) is list or c is list for c in _choices(kind))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _typed(option: Option, text: Any, where: str) -> Any:
    kinds = _choices(option.type)
    if str(text).lower() in ("none", "null") and (type(None) in kinds or option.default is None):
        return None
    loaded = _loaded(text) if isinstance(text, str) and text.strip() else text
    if bool in kinds and isinstance(loaded, bool):
        return loaded
    numbers = [k for k in kinds if k in (int, float)]
    element = next((typing.get_args(k)[0] for k in kinds if typing.get_origin(k) is list), None)
    if element in (int, float):
        numbers.append(element)
    if numbers:
        try:
            number = float(text)
            return int(number) if number == int(number) and (int in numbers or ("." not in str(text) and "e" not in str(text))) else number
        except (ValueError, OverflowError):
            if str not in kinds and not any(k in (dict, Any) for k in kinds):
                raise ConfigError(f"{where}: {text!r} is not a number") from None
    if kinds == (bool,) or (bool in kinds and str not in kinds):
        raise ConfigError(f"{where}: {text!r} is not true or false")
    if any(k is dict or typing.get_origin(k) is dict for k in kinds) and isinstance(loaded, dict):
        return loaded
    return text


def _loaded(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # a glob, a query: plain text


def help_text(command: str, about: str, options: Mapping[str, Option]) -> str:
    """``--help`` of a command: its options by group with their defaults."""
    lines = [f"usage: prefine {command} [OPTIONS]", "", about]
    for group in dict.fromkeys(o.group for o in options.values()):
        lines += ["", f"{group}:"]
        for option in (o for o in options.values() if o.group == group):
            shown = "" if option.default is None else f" (default: {option.default})"
            lines.append(f"  {option.flag}\n        {' '.join(option.help.split())}{shown}")
    lines += ["", "--config FILE.yaml reads the same keys from a file; flags win."]
    return "\n".join(lines)
