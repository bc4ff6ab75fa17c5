"""``prefine demo``."""

from prefine.api.demo import Demo
from prefine.api.demo import demo as call
from prefine.cli.command import Command
from prefine.cli.terminal import Terminal


def show(found: Demo, own: None, terminal: Terminal) -> int:
    """The table, responses side by side, the verdict last."""
    terminal.show(found.table)
    for prompt, base, tuned in found.samples:
        terminal.show(f"\nuser: {prompt}\nbase: {base}\nDPO:  {tuned}")
    terminal.show("", *found.lines)
    return 0


COMMAND = Command(call, show, bare=True)
