"""``prefine generate``."""

from prefine.api.generating import Generated, generate
from prefine.cli.command import Command
from prefine.cli.terminal import Terminal


def show(found: Generated, own: None, terminal: Terminal) -> int:
    """What was made; 1 where nothing was."""
    terminal.show(*found.lines)
    return int(not found.answered)


COMMAND = Command(
    generate,
    show,
    "Responds to prompts: of preference data in any format, of a list (one a line in .txt; prompt, messages), of MT-Bench or AlpacaEval. "
    "A killed command goes on where it was; failed prompts are tried again.",
    words=(),
)
