"""``prefine compare RUN RUN ...``."""

from prefine.api.comparing import Comparison, compare
from prefine.cli.command import Command
from prefine.cli.terminal import Terminal


def show(found: Comparison, own: None, terminal: Terminal) -> int:
    """Settings that differ, what was measured, differences."""
    terminal.show(found.settings or "the runs were told the same", found.table, *found.lines)
    return 0


COMMAND = Command(
    compare,
    show,
    "Shows runs side by side: settings that differ, win rates over the base, skills, drift; and paired differences on the prompts "
    "that both were judged on by the same judge.",
)
