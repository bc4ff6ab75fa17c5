"""What is searched: names of options with the values that each may take, and every combination of them."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefine.api.options import Option, coerce, load_yaml, meant
from prefine.errors import ConfigError

Settings = dict[str, Any]
"""Options of a training and their values."""
FIXED = {
    *("model", "data", "data_weights", "eval_data", "map", "format", "pairing", "min_gap"),
    *("output_dir", "resume", "eval_fraction", "guard", "ignore_audit", "reference_cache_dir", "precompute_ref_log_probs"),
}
"""Options whose values no measure may choose: other data or another base would be another question."""
LONGEST_NAME = 80


@dataclass(frozen=True)
class Range:
    """Any value from ``low`` to ``high``, whole where ``whole``."""

    low: float
    high: float
    whole: bool

    @property
    def log(self) -> bool:
        """Whether it is searched by orders of magnitude."""
        return self.low > 0 and self.high >= 10 * self.low


Values = Sequence[Any] | Range


def read_grid(given: Sequence[str] | Mapping[str, Any], options: Mapping[str, Option]) -> dict[str, Values]:
    """``["learning_rate=1e-6,1e-5", "beta=0.05..0.5"]``, or a mapping of names to lists, with values as their options' types say.

    Raises:
        ConfigError: an unknown name, one that cannot be searched, no value, or a value of another type.
    """
    pairs = list(given.items()) if isinstance(given, Mapping) else [_named(word) for word in given]
    found: dict[str, Values] = {}
    for name, values in pairs:
        name = str(name).strip().lstrip("-").replace("-", "_")
        if name in FIXED or name not in options:
            why = "cannot be searched: trials must differ in nothing but how they are trained" if name in FIXED else "is no option"
            raise ConfigError(f"--grid: {name} {why}{'' if name in FIXED else f' of prefine dpo{meant(name, options)}'}")
        if name in found:
            raise ConfigError(f"--grid: {name} is given twice; give all its values at once, as {name}=A,B")
        found[name] = _values(name, values, options[name])
    if not found:
        raise ConfigError("--grid is empty; expected names with their values, as learning_rate=1e-6,1e-5")
    return found


def _named(word: str) -> tuple[str, str]:
    name, equals, values = word.partition("=")
    if not equals or not values.strip() or not name.strip():
        raise ConfigError(f"--grid {word}: expected NAME=VALUE,VALUE as in learning_rate=1e-6,1e-5")
    return name, values


def _values(name: str, given: Any, option: Option) -> Values:
    if isinstance(given, str):
        low, dots, high = given.partition("..")
        if dots:
            return _range(name, low, high, option)
        given = _listed(given)
    elif not isinstance(given, list | tuple):
        given = [given]
    values: list[Any] = []
    for value in given:
        read = coerce(option, value, f"--grid: {name}")
        if read not in values:
            values.append(read)
    if not values:
        raise ConfigError(f"--grid: {name} has no value; expected some, as {name}=A,B")
    return values


def _listed(text: str) -> list[Any]:
    """Values between commas; those in brackets are lists."""
    import yaml

    try:
        return list(load_yaml(f"[{text}]"))
    except yaml.YAMLError as error:
        raise ConfigError(f"--grid: {text!r} are no values between commas ({' '.join(str(error).split())})") from error


def _range(name: str, low: str, high: str, option: Option) -> Range:
    ends = [coerce(option, end, f"--grid: {name}") for end in (low, high)]
    numbers = [end for end in ends if isinstance(end, int | float) and not isinstance(end, bool)]
    if len(numbers) < 2 or not numbers[0] < numbers[1]:
        raise ConfigError(f"--grid: {name}={low}..{high} is no range; expected two numbers, the lower first")
    return Range(numbers[0], numbers[1], set(option.kinds) <= {int, type(None)})


def combinations(grid: Mapping[str, Values]) -> list[Settings]:
    """Every combination, in order.

    Raises:
        ConfigError: a range, which has no end of values.
    """
    for name, values in grid.items():
        if isinstance(values, Range):
            raise ConfigError(f"--grid: {name} is a range, which only --sampler optuna searches; give its values, as {name}=A,B")
    lists = [values for values in grid.values() if not isinstance(values, Range)]
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*lists)]


def shown(value: Any) -> str:
    """A value as a reader sees it."""
    if isinstance(value, list):
        return "+".join(map(shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def told(settings: Mapping[str, Any]) -> str:
    """Settings in one line."""
    return ", ".join(f"{name} {shown(value)}" for name, value in settings.items())


def folder_name(settings: Mapping[str, Any], steps: int) -> str:
    """A folder's name that settings and steps decide; another for others."""
    text = "_".join(f"{name}={repr(value) if isinstance(value, float) else shown(value)}" for name, value in settings.items())
    name = re.sub(r"[^\w.+=-]", "-", text)[:LONGEST_NAME]
    if name != text:
        name = f"{name}-{hashlib.sha256(repr(settings).encode()).hexdigest()[:8]}"
    return f"{name}-{steps}"
