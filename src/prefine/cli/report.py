"""``prefine report RUN ...``: the run's page, its summary and its model card, drawn anew from the run directory."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefine.cli.options import help_text, options_of, parse
from prefine.errors import ConfigError, printable
from prefine.runs import RunDirectory

ABOUT = "Draws RUN/report.html from what lies in the run directory; writes summary.json and the model card; prints the verdicts."


@dataclass
class ReportOptions:
    """Options of ``prefine report``."""

    runs: list[str] | None = field(default=None, metadata={"help": "Run directories (also as the first words)."})


def main(argv: list[str]) -> int:
    """Draw each run's page."""
    options = options_of(ReportOptions, "options")
    if not argv or "--help" in argv or "-h" in argv:
        print(help_text("report RUN ...", ABOUT, options))
        return 0
    rest: list[str] = []
    given = ReportOptions(**parse(argv, options, rest=rest))
    names = [*rest, *(given.runs or [])]
    if not names:
        raise ConfigError("report needs a RUN: the --output-dir of a training run")
    runs = [RunDirectory.open(name) for name in names]
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from prefine.report.run_page import evaluations, rate, write_report

    table = Table()
    for column in ("run", "evaluation", "measured", "outcome"):
        table.add_column(column)
    for run in runs:
        path = write_report(run)
        found = evaluations(run.path / "eval")
        for e in found:
            rated, learned = e.summary.get("win_rate"), e.summary.get("learning")
            told = f"{learned['measure']} {rate(learned['accuracy'])}" if learned else ""
            cells = (str(run.path), e.name, f"win rate {rate(rated)}" if rated else told, str(e.summary["outcome"]))
            table.add_row(*(Text(printable(c)) for c in cells))
        if not found:
            table.add_row(Text(printable(str(run.path))), "", "", "not judged yet: prefine eval")
        print(printable(f"{path}"))
    Console().print(table)
    return 0
