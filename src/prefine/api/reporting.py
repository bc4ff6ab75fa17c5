"""A run's page, its summary and its model card, drawn anew from the run directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefine.api.calls import call
from prefine.api.progress import Progress
from prefine.api.tables import Shows, Table
from prefine.errors import ConfigError
from prefine.runs import RunDirectory, as_written


@dataclass
class ReportOptions:
    """Options of ``prefine report``."""

    runs: list[str] | None = field(default=None, metadata={"help": "Run directories (also as the first words)."})


@dataclass(repr=False)
class Reports(Shows):
    """Pages that were drawn, and what they say in short."""

    pages: Sequence[Path]
    table: Table

    def parts(self) -> list[Any]:
        """What there is to see."""
        return [*map(str, self.pages), self.table]


@call(ReportOptions, positional=("runs",), rest=True)
def report(given: ReportOptions, progress: Progress) -> Reports:
    """Draw RUN/report.html from what lies in the run directory; write summary.json and the model card.

    Raises:
        ConfigError, MissingFile: no run was named, or it is none.
    """
    names = [str(name) for name in given.runs or []]
    if not names:
        raise ConfigError("report needs a RUN: the --output-dir of a training run")
    from prefine.report.run_page import evaluations, rate, write_report

    pages, rows = [], []
    for run in [RunDirectory.open(name) for name in names]:
        with as_written(run.path):
            pages.append(write_report(run))
            found = evaluations(run.path / "eval")
            for e in found:
                rated, learned = e.summary.get("win_rate"), e.summary.get("learning")
                told = f"{learned['measure']} {rate(learned['accuracy'])}" if learned else ""
                rows.append([str(run.path), e.name, f"win rate {rate(rated)}" if rated else told, str(e.summary["outcome"])])
            if not found:
                rows.append([str(run.path), "", "", "not judged yet: prefine eval"])
    return Reports(pages, Table(["run", "evaluation", "measured", "outcome"], rows))
