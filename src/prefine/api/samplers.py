"""Which settings are tried, and for how long: pure decisions, told what each trial measured. Ties go to what stands first."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prefine.api.grid import Range, Settings, Values
from prefine.errors import ConfigError

ETA = 3
"""Of how many settings one goes on, and how many times longer it is then trained."""
Measure = Callable[[Sequence[Settings], int], Sequence[float]]
"""Trains settings for one part in so many of their full length; gives what each one measured, minus infinity where it failed."""


def rungs(count: int, eta: int = ETA) -> list[tuple[int, int]]:
    """How many settings are trained on each rung, and for one part in how many of the full length.

    Nine settings are 9 for a ninth, 3 for a third, 1 in full: three full lengths in all, a third of what nine cost.
    """
    sizes = [count]
    while sizes[-1] > 1:
        sizes.append(max(1, sizes[-1] // eta))
    return [(size, eta ** (len(sizes) - 1 - place)) for place, size in enumerate(sizes)]


def halving(settings: Sequence[Settings], measure: Measure, eta: int = ETA) -> Settings | None:
    """Successive halving (Jamieson and Talwalkar, arXiv 1502.07943): train all a little, the best ``1 / eta`` longer, the last in full.

    Every rung is trained anew with its own schedule: a cosine's warm-up and decay belong to one length, so that a run which
    was planned for a third of the steps and then goes on is another run than one planned for all of them.

    Returns:
        The best, None where all failed. Where the last fails at its full length, the next in order is trained.
    """
    order = list(settings)
    for size, part in rungs(len(settings), eta)[:-1]:
        tried, rest = order[:size], order[size:]
        scores = measure(tried, part) if tried else []
        ranked = sorted(range(len(tried)), key=lambda i: -scores[i])
        order = [tried[i] for i in ranked if scores[i] > -math.inf] + rest
    for each in order:
        if measure([each], 1)[0] > -math.inf:
            return each
    return None


def every(settings: Sequence[Settings], measure: Measure) -> Settings | None:
    """All in full; the best, None where all failed."""
    scores = measure(settings, 1)
    best = max(range(len(settings)), key=lambda i: scores[i])
    return settings[best] if scores[best] > -math.inf else None


def tpe(grid: Mapping[str, Values], first: Settings, measure: Measure, trials: int, seed: int) -> Settings | None:
    """Optuna's tree-structured Parzen estimator over values and ranges, each trial in full; ``first`` is tried first.

    Raises:
        ConfigError: Optuna is not installed.
    """
    try:
        optuna = importlib.import_module("optuna")
    except ImportError as error:
        raise ConfigError("--sampler optuna needs Optuna: pip install optuna; or take --sampler halving") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    tried: list[Settings] = [first]
    scores = [measure([first], 1)[0]]
    for _ in range(trials - 1):
        trial = study.ask()
        settings = {name: _suggested(trial, name, values) for name, values in grid.items()}
        tried.append(settings)
        scores.append(measure([settings], 1)[0])
        failed = scores[-1] == -math.inf
        study.tell(trial, None if failed else scores[-1], state=optuna.trial.TrialState.FAIL if failed else None)
    best = max(range(len(tried)), key=lambda i: scores[i])
    return tried[best] if scores[best] > -math.inf else None


def _suggested(trial: Any, name: str, values: Values) -> Any:
    if not isinstance(values, Range):
        return values[trial.suggest_categorical(name, list(range(len(values))))]
    if values.whole:
        return trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
    return trial.suggest_float(name, values.low, values.high, log=values.log)
