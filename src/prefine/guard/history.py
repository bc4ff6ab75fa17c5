"""A run's metrics so far, as rules look at them. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from statistics import median
from typing import Any

LN2 = math.log(2)


@dataclass(frozen=True)
class Facts:
    """What is known of a run beside its metrics; None where nobody knows.

    Attributes:
        method: dpo, kto, sft, reward, ppo or online-dpo; empty where it is not known.
        usual_learning_rate: the range beyond which a rate is unusual for the method and for what is trained.
        steps: optimizer steps in all; epochs: passes over the data.
        pairs: pairs, prompts or texts trained on; held_out: those held out.
        pairs_per_log: how many pairs a logged mean is of.
        equal_pairs: pairs left out since both responses are equal once truncated; duplicated: share of rows that repeat others.
        trainable: weights that are trained; dtypes: those they are in.
        weights: the model's weights, trained or not.
        start_gap: nats/response by which policy and reference differed before the first update, where that is more than noise;
        start_loss: the first batch's loss.
    """

    method: str = ""
    adapter: bool | None = None
    loss: tuple[str, ...] = ()
    beta: float | None = None
    learning_rate: float | None = None
    usual_learning_rate: tuple[float, float] | None = None
    steps: int | None = None
    epochs: float | None = None
    pairs: int | None = None
    held_out: int | None = None
    pairs_per_log: int | None = None
    equal_pairs: int = 0
    duplicated: float = 0.0
    trainable: int | None = None
    weights: int | None = None
    dtypes: tuple[str, ...] = ()
    start_gap: float | None = None
    start_loss: float | None = None

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Facts:
        """Facts as JSON has them; what is not known by name is left out."""
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in kept.items() if k in known}
        return cls(**values)

    @property
    def on_pairs(self) -> bool:
        """Whether it learns by a policy's log-probs of chosen and rejected responses."""
        return self.method in ("dpo", "kto", "online-dpo")

    @property
    def starts_at_ln2(self) -> bool:
        """Whether its loss is ln 2 while policy and reference are equal."""
        return self.on_pairs and self.loss in (("sigmoid",), ("robust",)) and self.start_gap in (None, 0.0)


class History:
    """Logged rows in order, each a mapping of metrics with its ``step``.

    Args:
        rows: what was logged of training (``loss``), of evaluations (``eval_loss``) and of probes (``probe/...``).
        after: so many rows do not count for what looks back: something was changed behind them.
    """

    def __init__(self, facts: Facts, rows: Sequence[Mapping[str, Any]], after: int = 0) -> None:
        self.facts = facts
        self.rows = rows
        self.after = after
        self.since = int(rows[after - 1].get("step", 0)) if after else 0

    @cached_property
    def step(self) -> int:
        """The last logged step."""
        return max((int(row.get("step", 0)) for row in self.rows), default=0)

    @property
    def progress(self) -> float | None:
        """How much of the run is done, 0 to 1."""
        return min(1.0, self.step / self.facts.steps) if self.facts.steps else None

    def points(self, name: str, whole: bool = False) -> list[tuple[int, float]]:
        """A metric's logged steps and finite values, since something was changed, or of the whole run."""
        rows = self.rows if whole or not self.after else self.rows[self.after :]
        found = ((int(r.get("step", 0)), r[name]) for r in rows if isinstance(r.get(name), int | float))
        return [(s, float(v)) for s, v in found if math.isfinite(v)]

    def of(self, name: str, whole: bool = False) -> list[float]:
        """A metric's finite values."""
        return [v for _, v in self.points(name, whole)]

    def last(self, name: str, count: int = 1) -> float | None:
        """The median of a metric's last values; None where there are fewer."""
        found = self.of(name)
        return median(found[-count:]) if len(found) >= count else None

    def first(self, name: str) -> float | None:
        """A metric's first value in the run."""
        found = self.of(name, whole=True)
        return found[0] if found else None

    def thirds(self, name: str, least: int = 9) -> tuple[float, float] | None:
        """Medians of a metric's first and last third; None where it was logged fewer times than ``least``."""
        found = self.of(name)
        part = len(found) // 3
        return (median(found[:part]), median(found[-part:])) if len(found) >= least else None

    def failed(self, *names: str) -> str | None:
        """The first of these metrics that is NaN or infinite in the last row, or was logged as none."""
        row = self.rows[-1] if self.rows else {}
        return next((n for n in names if is_lost(row, n)), None)

    def now(self, name: str) -> float | None:
        """A metric in the last row, where it is there and finite."""
        value = self.rows[-1].get(name) if self.rows else None
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def is_lost(row: Mapping[str, Any], name: str) -> bool:
    """Whether a metric was logged, but as no finite number."""
    value = row.get(name, 0.0)
    return value is None or (isinstance(value, int | float) and not math.isfinite(value))
