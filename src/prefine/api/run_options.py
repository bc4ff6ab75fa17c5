"""Options of a training run that are not fields of its trainer's config."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from prefine.api.adapter_options import AdapterOptions

PRESETS = ("recipe", "trl")


def _in(group: str, help: str, objects: bool = False) -> dict[str, Any]:
    return {"help": help, "group": group, "objects": objects}


@dataclass
class RunOptions(AdapterOptions):
    """Model, data and adapter of a run."""

    model: str = field(default="", metadata=_in("model and data", "Model: a folder, a Hub id or a finished run."))
    data: list[str] | None = field(
        default=None,
        metadata=_in("model and data", "Training data: files, folders, globs, Hub ids[:config][:split], databases, - (stdin).", True),
    )
    data_weights: list[float] | None = field(
        default=None, metadata=_in("model and data", "How many times each source's rows are used: 2 is twice, 0.5 half of them.")
    )
    eval_data: str | None = field(
        default=None, metadata=_in("model and data", "Held-out evaluation data. Unset: a part of --data is held out.", True)
    )
    eval_fraction: float | None = field(
        default=None,
        metadata=_in(
            "model and data",
            "Share of prompts held out of --data (at most 500; of prompts to sample from, 200). "
            "Unset: one in twenty, at least 30, at most one in five.",
        ),
    )
    preset: str = field(
        default="recipe",
        metadata=_in("training", "What is not given: recipe (settings known to work, see the recipes page) or trl (TRL's defaults)."),
    )
    map: list[str] | dict[str, str] | None = field(
        default=None, metadata=_in("model and data", "Columns by another name: prompt=question.")
    )
    format: str | None = field(
        default=None, metadata=_in("model and data", "The data's format. Unset: found from its rows; see the formats page.")
    )
    pairing: str = field(
        default="best-vs-worst",
        metadata=_in("model and data", "Ranked responses to pairs: best-vs-worst, best-vs-random, adjacent or all."),
    )
    min_gap: float = field(default=0.0, metadata=_in("model and data", "Minimum difference of scores in a pair made of ranked responses."))
    ignore_audit: bool = field(
        default=False,
        metadata=_in("model and data", "Train even where the audit finds that it means nothing, or the template drops most rows."),
    )
    guard: str = field(
        default="warn",
        metadata=_in(
            "training",
            "What watches the run: off, note (findings go to the report), warn (they are said, too), act (it also lowers the learning "
            "rate, goes back to the last good weights, adds the chosen responses' NLL, or stops).",
        ),
    )
    guard_prompts: int = field(
        default=16, metadata=_in("training", "Held-out prompts that the guard samples responses to while the model trains; 0 for none.")
    )
    guard_every: int | None = field(
        default=None, metadata=_in("training", "Optimizer steps between the guard's looks at responses. Unset: a quarter of the run.")
    )
    resume: bool | str = field(
        default=False,
        metadata=_in(
            "output and evaluation",
            "Go on from the run's last complete checkpoint; at the beginning where there is none. auto is the same, for scripts.",
        ),
    )
    stop_after: str | None = field(
        default=None,
        metadata=_in(
            "output and evaluation",
            "Time limit, as 90s, 45m, 3h or 1h30m: once it is over, the step in progress is finished, a checkpoint saved, and the exit "
            "code is 75; --resume goes on.",
        ),
    )
    ignore_plan: bool = field(
        default=False, metadata=_in("memory", "Train even where the plan says that it cannot fit this machine's memory.")
    )
    dtype: str = field(default="auto", metadata=_in("memory", "auto, float32, bfloat16 or float16."))

    @property
    def sources(self) -> list[Any]:
        """Where the training data comes from."""
        return self.data or []
