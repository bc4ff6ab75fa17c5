"""What a search for settings found, as an object that shows itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefine.api.grid import Settings, told
from prefine.api.run import Run
from prefine.api.tables import Shows, Table
from prefine.api.trials import Trial, percent
from prefine.evaluation.interval import Interval


@dataclass(repr=False)
class Tuned(Shows):
    """What a search found.

    Attributes:
        best: the chosen settings, by option; empty where the default is the best of those tried.
        measured: ``win rate`` or ``reward accuracy``; estimate: of the chosen setting, on fresh prompts.
        outcome: against the default: ``better``, ``inconclusive``, ``worse`` or ``default``, where that is what was chosen.
        trials: a pandas DataFrame, a row a trial; run: the chosen setting's full-length run.
        config: a file for ``prefine dpo --config``; page: the report.
    """

    best: Settings
    measured: str
    estimate: Interval
    outcome: str
    trials: Any
    run: Run
    config: Path
    page: Path
    table: Table
    lines: Sequence[str]

    @property
    def win_rate(self) -> Interval | None:
        """The chosen setting's win rate over the base on fresh prompts; None where no judge compared responses."""
        return self.estimate if self.measured == "win rate" else None

    def parts(self) -> list[Any]:
        """What there is to see."""
        return [self.table, *self.lines]


def outcome(chosen: Settings, change: Mapping[str, Any]) -> str:
    """Against the default, by the interval of the difference on fresh prompts."""
    if not chosen:
        return "default"
    if "low" not in change:
        return "inconclusive"
    return "better" if change["low"] > 0 else "worse" if change["high"] < 0 else "inconclusive"


def against(outcome: str, change: Mapping[str, Any] | None, settings: Settings, default: Trial) -> str:
    """The choice beside the default, in a sentence."""
    if outcome == "default":
        return "none of the settings tried was better than the default where they were compared"
    if default.failed:
        return f"the default ({told(settings)}) failed: {default.failed}"
    if change is None:
        return f"against the default ({told(settings)}): too few prompts were measured with both to compare them"
    points = f"{100 * change['estimate']:+.1f} points [{100 * change['low']:+.1f}, {100 * change['high']:+.1f}] on the fresh prompts"
    said = {"better": "better", "worse": "worse", "inconclusive": "inconclusive, the default may be as good"}[outcome]
    return f"against the default ({told(settings)}): {points}: {said}"


def table(trials: Sequence[Trial]) -> Table:
    """A row a trial, those that were trained longest first, the best first among them."""
    order = sorted(trials, key=lambda t: (t.part, -t.score))
    rows = [
        [
            "full" if t.part == 1 else f"1/{t.part}",
            told(t.settings),
            str(t.steps),
            f"failed: {t.failed}" if t.measure is None else percent(t.measure),
            f"{t.seconds:.0f}",
            "; ".join(t.guard),
        ]
        for t in order
    ]
    return Table(["length", "settings", "steps", "measure, 95 % CI", "seconds", "guard"], rows, "trials", numbers=frozenset({2, 4}))


def frame(trials: Sequence[Trial]) -> Any:
    """A pandas DataFrame, a row a trial in the order in which they were made."""
    import pandas

    return pandas.DataFrame(
        {**t.settings, "part": t.part, "steps": t.steps, **(t.measure or {}), "failed": t.failed, "seconds": t.seconds, "guard": t.guard}
        | {"run": t.name}
        for t in trials
    )
