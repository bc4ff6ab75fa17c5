"""``prefine chat RUN``."""

import sys
from typing import Any

from prefine.api.conversation import Chat
from prefine.api.conversation import chat as call
from prefine.cli.command import Command
from prefine.cli.terminal import Terminal
from prefine.errors import printable

ABOUT = "Asks base and tuned the same, each keeping its own conversation. /reset begins anew, /seed N draws otherwise, /quit ends."


def show(chat: Chat, own: None, terminal: Terminal) -> int:
    """Read lines until the end."""
    terminal.show(ABOUT)
    while (line := _read()) is not None:
        word, _, rest = line.partition(" ")
        if word in ("/quit", "/exit"):
            break
        if word == "/reset":
            chat.reset()
            terminal.show("(a new conversation)")
        elif word == "/seed":
            chat.seed = int(rest) if rest.strip().lstrip("-").isdigit() else chat.seed
            terminal.show(f"(seed {chat.seed})")
        elif word.startswith("/"):
            terminal.show("(commands: /reset, /seed N, /quit)")
        elif line.strip():
            _show(chat.ask(line), terminal)
    return 0


def _read() -> str | None:
    try:
        if sys.stdin.isatty():
            return input("you> ")
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else None
    except EOFError:
        return None


def _show(texts: tuple[str, str], terminal: Terminal) -> None:
    """Two columns where the terminal is wide, else one below the other; responses are untrusted text."""
    from rich.columns import Columns
    from rich.panel import Panel
    from rich.text import Text

    named = list(zip(("base", "tuned"), texts, strict=True))
    half = max(30, terminal.console.width // 2 - 1)
    panels: list[Any] = [Panel(Text(printable(t)), title=n, width=half) for n, t in named]
    terminal.show(*([Columns(panels)] if terminal.console.width >= 80 else (f"{name}: {text}" for name, text in named)))


COMMAND = Command(call, show, ABOUT)
