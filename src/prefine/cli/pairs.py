"""``prefine pairs``."""

from prefine.api.own_pairs import MadePairs, make_pairs
from prefine.cli.command import Command
from prefine.cli.terminal import Terminal


def show(found: MadePairs, own: None, terminal: Terminal) -> int:
    """What was made; 1 where nothing was."""
    terminal.show(*found.lines)
    return int(not found.count)


COMMAND = Command(
    make_pairs,
    show,
    "Samples several responses to each prompt, has --judge score them (reward-model, python, exact, or openai with --mode single), "
    "and writes pairs with their scores. A killed command goes on where it was.",
    words=(),
)
