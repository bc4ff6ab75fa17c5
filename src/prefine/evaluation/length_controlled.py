"""AlpacaEval 2's length-controlled win rate (arXiv 2404.04475, and ``glm_winrate.py`` of its repository).

logit P(model wins) = theta m + phi tanh(d / sd(d)) + psi difficulty, without an intercept, where d is the
baseline's length less the model's, m is 1 for the model and 0 for two gamed versions of the baseline, which
are fitted along at a tenth of the weight each, and difficulty is a number for each instruction, fitted once
over the leaderboard. The penalty is L1, its strength found by cross-validation
on that project's five folds. The rate is the mean P at d = 0.

What it needs beside annotations is that project's ``df_gamed.csv`` (columns ``index``,
``instruction_difficulty``, ``preference``, ``std_delta_len``, ``not_gamed_baseline``). The published standard
error is that of the *predicted* rates over instructions, which is no sampling error; here the whole fit is
redone in the bootstrap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefine.errors import ColumnError, DataError
from prefine.evaluation.interval import Interval, bootstrap
from prefine.evaluation.verdict_files import alpaca_preference
from prefine.preferences.source import read_rows

Floats = NDArray[np.float64]
GAMED_WEIGHT = 0.1
"""lambda = 0.2, over the two gamed baselines."""
COLUMNS = ("index", "instruction_difficulty", "preference", "std_delta_len")
FOLDS, REFITS = 5, 400
STRENGTHS = np.logspace(-4, 4, 10)
"""The inverse penalties that scikit-learn's LogisticRegressionCV tries by default."""


@dataclass(frozen=True)
class Gamed:
    """Difficulties by instruction (its place in AlpacaEval's set, or its text), and the gamed baselines' rows."""

    difficulty: Mapping[str, float]
    features: Floats
    wins: Floats


def read_gamed(source: str) -> Gamed:
    """Read ``df_gamed.csv``.

    Raises:
        ColumnError, DataError: a column is missing, or not a number.
    """
    difficulty: dict[str, float] = {}
    features, wins = [], []
    for number, row in read_rows(source):
        missing = [c for c in COLUMNS if c not in row]
        if missing:
            raise ColumnError(f"{source}, row {number}: no column {', '.join(missing)}; expected AlpacaEval 2's df_gamed.csv")
        try:
            hard, win, length = (float(row[c]) for c in COLUMNS[1:])
        except (TypeError, ValueError) as error:
            raise DataError(f"{source}, row {number}: not numbers ({error})") from error
        for key in (row["index"], row.get("instruction")):
            if key is not None:
                difficulty[str(int(key) if isinstance(key, float) else key)] = hard
        features.append((np.tanh(length), hard, 0.0))
        wins.append(win)
    return Gamed(difficulty, np.array(features), np.array(wins))


def length_controlled(rows: Sequence[Mapping[str, Any]], gamed: Gamed) -> Interval:
    """The rate with its interval, from AlpacaEval's annotations.

    Args:
        rows: whole files, in AlpacaEval's order: an instruction's difficulty is found by its text, else by ``index``, else by its place.

    Raises:
        DataError: outputs are missing, or an instruction has no difficulty.
    """
    wins, lengths, hard = [], [], []
    for place, row in enumerate(rows):
        preference = alpaca_preference(row.get("preference"))
        if preference is None:
            continue
        if "output_1" not in row or "output_2" not in row:
            raise DataError(f"row {place + 1}: a length-controlled rate needs output_1 and output_2")
        keys = (str(row.get("instruction")), str(row.get("index", place)))
        found = next((gamed.difficulty[k] for k in keys if k in gamed.difficulty), None)
        if found is None:
            raise DataError(f"row {place + 1}: no difficulty for the instruction {keys[0][:60]!r}")
        wins.append(preference - 1)
        lengths.append(len(str(row["output_1"])) - len(str(row["output_2"])))
        hard.append(found)
    if len(wins) < FOLDS:
        raise DataError(f"{len(wins)} rows with a preference; a length-controlled rate needs AlpacaEval's annotations, at least {FOLDS}")
    difference = np.array(lengths, float)
    spread = difference.std(ddof=1) if len(difference) > 1 else 0.0
    scaled = np.tanh(difference / spread) if spread > 0 else np.zeros_like(difference)
    features = np.column_stack((scaled, hard, np.ones(len(hard))))
    outcomes = np.array(wins)
    strength = _strength(*_with_gamed(features, outcomes, gamed))

    def rate(places: NDArray[np.int64]) -> float:
        coefficients = _fit(*_with_gamed(features[places], outcomes[places], gamed), strength)
        at_equal_length = features[places] * (0.0, 1.0, 1.0)
        return float((1 / (1 + np.exp(-at_equal_length @ coefficients))).mean())

    # A fit each takes milliseconds, so there are fewer of them.
    low, high = bootstrap(lambda picks: np.array([rate(p) for p in picks]), len(outcomes), REFITS)
    return Interval(rate(np.arange(len(outcomes))), low, high, len(outcomes), len(outcomes))


def _with_gamed(features: Floats, wins: Floats, gamed: Gamed) -> tuple[Floats, Floats, Floats]:
    """The gamed baselines' rows stand first, as in that project, whose folds go by place."""
    weights = np.concatenate((np.full(len(gamed.wins), GAMED_WEIGHT), np.ones(len(wins))))
    return np.concatenate((gamed.features, features)), np.concatenate((gamed.wins, wins)), weights


def _fit(features: Floats, wins: Floats, weights: Floats, strength: float) -> Floats:
    """Coefficients; a win of 0.7 is a row of weight 0.7 that won and one of 0.3 that lost."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(l1_ratio=1, C=strength, solver="liblinear", fit_intercept=False, random_state=123)
    outcome = np.repeat([1, 0], len(wins))
    model.fit(np.concatenate((features, features)), outcome, np.concatenate((weights * wins, weights * (1 - wins))))
    found: Floats = model.coef_[0]
    return found


def _strength(features: Floats, wins: Floats, weights: Floats) -> float:
    """The inverse penalty of the least held-out log-loss, a mean over folds of means over rows, as LogisticRegressionCV takes it."""
    from sklearn.model_selection import GroupKFold

    places = np.arange(len(wins))
    # That project's rows are doubled, one an outcome, and grouped, which decides how scikit-learn deals them out.
    folds = [held[held < len(wins)] for _, held in GroupKFold(FOLDS).split(np.zeros(2 * len(wins)), groups=np.tile(places, 2))]

    def loss(strength: float) -> float:
        total = 0.0
        for held in folds:
            out = np.isin(places, held)
            logits = features[out] @ _fit(features[~out], wins[~out], weights[~out], strength)
            total += float((weights[out] * (np.logaddexp(0, logits) - wins[out] * logits)).mean())
        return total

    return float(min(STRENGTHS, key=loss))
