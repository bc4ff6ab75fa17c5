"""``prefine demo``."""

from prefine.api.demo import Demo
from prefine.api.demo import demo as call
from prefine.cli.command import Command
from prefine.cli.terminal import Terminal


def before(own: None, terminal: Terminal) -> None:
    """What will happen."""
    terminal.show("Prefine's laboratory: a help desk in 190 words, a model of 0.4 million parameters, an oracle judge.")
    terminal.show("1 base model by SFT   2 pairs of its own responses, labelled with 10 % mistakes   3 DPO   4 verdict on unseen cases")


def show(found: Demo, own: None, terminal: Terminal) -> int:
    """The table, responses side by side, the verdict last."""
    terminal.show(found.table)
    for prompt, base, tuned in found.samples:
        terminal.show(f"\nuser: {prompt}\nbase: {base}\nDPO:  {tuned}")
    terminal.show("", *found.lines)
    return 0


COMMAND = Command(call, show, bare=True, before=before)
