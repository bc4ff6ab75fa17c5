"""``prefine lab EXPERIMENT``."""

from prefine.api.experiments import ABOUT, Found, experiment
from prefine.cli.command import Command
from prefine.cli.terminal import Terminal


def show(found: Found, own: None, terminal: Terminal) -> int:
    """The findings, and where the page is."""
    terminal.show(*found.tables, *found.lines)
    return 0


NAMES = "; ".join(f"{name}: {about}" for name, about in ABOUT.items())
COMMAND = Command(experiment, show, f"Runs one of the laboratory's experiments, seed by seed. No network, no GPU. {NAMES}.")
