"""``prefine report RUN ...``."""

from prefine.api.reporting import report
from prefine.cli.command import Command

COMMAND = Command(
    report,
    about="Draws RUN/report.html from what lies in the run directory; writes summary.json and the model card; prints the verdicts.",
)
