"""``prefine completion SHELL``."""

from __future__ import annotations

import re
from typing import Any

from cyclopts import App

from prefine.cli import COMMANDS, OWN_WORDS, find
from prefine.cli.parsing import make_app
from prefine.errors import ConfigError, nearest

SHELLS = ("bash", "zsh", "fish")


def completion(words: list[str]) -> str:
    """A script that completes commands and options.

    Raises:
        ConfigError: another shell.
    """
    if not words or set(words) & {"-h", "--help", "--help-all"}:
        return "usage: prefine completion bash|zsh|fish\n\nPrints a script that completes commands and options, for source <(...)."
    if len(words) != 1 or words[0] not in SHELLS:
        hint = nearest(words[0], SHELLS) if words else ""
        raise ConfigError(f"completion needs a shell: {', '.join(SHELLS)}{hint}, as in: source <(prefine completion bash)")
    app, data = App(name="prefine", version_flags=[]), App(name="data", version_flags=[])
    app.command(data)
    for name, about in COMMANDS.items():
        parent = data if name.startswith("data ") else app
        if name in OWN_WORDS:
            parent.command(App(name=name, help=about, version_flags=[]))
        else:
            parent.command(make_app(name, about, find(name).options(), everything=True))
    shell: Any = words[0]
    script = app.generate_completion(prog_name="prefine", shell=shell)
    # Where nothing is known of a word, bash goes on as without the script: with files.
    return re.sub(r"^complete -F", "complete -o bashdefault -o default -F", script, flags=re.M)
