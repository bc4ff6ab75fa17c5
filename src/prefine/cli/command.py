"""What a command is: a public call, what is printed of what it gives, and options of the terminal's alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefine.api.calls import Call
from prefine.api.options import Option, options_of, pick
from prefine.api.progress import finishing
from prefine.cli.terminal import Terminal


def show_parts(found: Any, own: None, terminal: Terminal) -> int:
    """What a result shows of itself."""
    terminal.show(*found.parts())
    return 0


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        call: what it calls; show: prints what came of it, given the terminal's own options, and returns the exit code.
        about: for help; unset: the first sentence of the call's docstring.
        own: a dataclass of options that only say what is printed.
        training: its options are many, and help shows the common ones; bare: it runs without a single word.
        words: what the words without a flag are; unset: the call's own.
        before: called with the own options before anything else; an exit code ends the command.
    """

    call: Call
    show: Callable[[Any, Any, Terminal], int] = show_parts
    about: str = ""
    own: type | None = None
    training: str = ""
    bare: bool = False
    words: tuple[str, ...] | None = None
    before: Callable[[Any, Terminal], int | None] = lambda own, terminal: None

    def options(self) -> dict[str, Option]:
        """All its options."""
        return self.call.options() | (options_of(self.own) if self.own else {})

    def help(self) -> str:
        """What it does."""
        return self.about or " ".join((self.call.__doc__ or "").partition("\n\n")[0].split())

    def run(self, given: Mapping[str, Any], words: Sequence[str]) -> int:
        """Call and show; ``words`` are the command line that gave the options."""
        mine = options_of(self.own) if self.own else {}
        own = pick(self.own, {k: v for k, v in given.items() if k in mine}) if self.own else None
        values = {k: v for k, v in given.items() if k not in mine}
        terminal = Terminal()
        with finishing(terminal):
            code = self.before(own, terminal)
            if code is not None:
                return code
            if self.training:
                values["repeat"] = list(words)
            return self.show(self.call.run(values, terminal), own, terminal)
