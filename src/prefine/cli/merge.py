"""``prefine merge RUN``."""

from prefine.api.merging import MergedModel, merge
from prefine.cli.command import Command
from prefine.cli.terminal import Terminal


def show(found: MergedModel, own: None, terminal: Terminal) -> int:
    """Where the model is, and how equal it is."""
    terminal.show(*found.lines)
    return 0


COMMAND = Command(
    merge,
    show,
    "Folds a run's adapter into its base: a folder that transformers, vLLM and llama.cpp's converter load. Proves it equal first.",
)
