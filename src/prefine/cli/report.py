"""``prefine report RUN ...``."""

from prefine.api.reporting import Reports, report
from prefine.cli.command import Command
from prefine.cli.terminal import Terminal


def show(found: Reports, own: None, terminal: Terminal) -> int:
    """The pages' paths, and the verdicts."""
    terminal.show(*map(str, found.pages), found.table)
    return 0


COMMAND = Command(
    report,
    show,
    "Draws RUN/report.html from what lies in the run directory; writes summary.json and the model card; prints the verdicts.",
)
