"""``prefine data show``."""

from typing import Any

from prefine.api.showing import Shown, TokenLine
from prefine.api.showing import show as call
from prefine.cli.command import Command
from prefine.cli.terminal import Terminal

STYLES = {"prompt": "cyan", "trained": "bold green", "skipped": "yellow"}
"""How tokens are shown on a terminal; without colours they stand in brackets of three kinds."""
BRACKETS = {"prompt": "⟨⟩", "trained": "[]", "skipped": "{}"}
LEGEND = {"prompt": "prompt", "trained": "trained on", "skipped": "not trained on (not the model's own turn)"}


def show(found: Shown, own: None, terminal: Terminal) -> int:
    """Lines; tokens coloured by what becomes of them."""
    for line in found.lines:
        if isinstance(line, str):
            terminal.show(line)
        else:
            _show_tokens(line, terminal)
    return 0


def _show_tokens(line: TokenLine, terminal: Terminal) -> None:
    """A line of tokens; under it the ids."""
    from rich.text import Text

    console = terminal.console
    marked = console.is_terminal and not console.no_color
    text, kinds, last = Text(f"{line.name:>9}: "), dict.fromkeys(kind for _, kind in line.runs), ""
    for piece, kind in line.pieces():
        if not marked and kind != last:
            text.append(BRACKETS[last][1] if last else "").append(BRACKETS[kind][0])
        last = kind
        text.append(piece, style=STYLES[kind] if marked else "")
        text.append("·" if marked else "|", style="dim" if marked else "")
    if not marked and last:
        text.append(BRACKETS[last][1])
    ids = line.ids()
    told: Any = ", ".join(f"{BRACKETS[kind]} {LEGEND[kind]}" for kind in kinds)
    console.print(text, soft_wrap=True)
    console.print(f"{'':>9}  {len(ids)} tokens{'' if marked else f'; {told}'}: {' '.join(map(str, ids))}", style="dim", soft_wrap=True)


COMMAND = Command(call, show)
