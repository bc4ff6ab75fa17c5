"""``prefine env``."""

from prefine.api.environment import Environment, environment
from prefine.cli.command import Command
from prefine.cli.terminal import Terminal


def show(found: Environment, own: None, terminal: Terminal) -> int:
    """A line each, to paste into a bug report."""
    terminal.show(*found.lines())
    return 0


COMMAND = Command(environment, show, bare=True)
