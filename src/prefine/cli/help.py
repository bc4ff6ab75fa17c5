"""What ``--help``, ``--help-all``, ``--print-config`` and ``--json-schema`` print."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from cyclopts.help import PlainFormatter

from prefine.api.options import json_schema, print_config
from prefine.cli.command import Command
from prefine.cli.parsing import make_app

WORDS = {
    **dict.fromkeys(("data show", "data audit"), "SOURCE [SOURCE ...]"),
    **dict.fromkeys(("data convert", "data dedup", "data filter", "data sample"), "SOURCE OUTPUT"),
    **{
        "data split": "SOURCE --output-dir FOLDER",
        "eval": "RUN",
        "chat": "RUN",
        "merge": "RUN",
        "serve-rollouts": "MODEL",
        "report": "RUN ...",
        "lab": "EXPERIMENT",
    },
    **{"doctor": "RUN", "judge": "BASE.jsonl TUNED.jsonl --judge NAME", "compare": "RUN RUN ...", "generate": "--model M --prompts P"},
    **{"pairs": "--model M --prompts P --judge NAME"},
    **{"plan": "METHOD --model M --data D [--device NAME]"},
    **dict.fromkeys(("dpo", "kto", "sft", "reward", "ppo", "online-dpo", "tune"), "--model M --data D"),
}


class TwoLines(PlainFormatter):
    """An option's name on a line of its own, so that none is broken; what it does below."""

    def _format_parameter_entry(self, options: Any, desc: str, console: Any, entry: Any) -> None:
        default = "" if entry.default is None else f" (default: {entry.default})"
        self._print_plain(console, f"  {options[0]}")
        if desc or default:
            self._print_plain(
                console, textwrap.fill(" ".join(f"{desc}{default}".split()), 78, initial_indent=" " * 8, subsequent_indent=" " * 8)
            )


def describe(name: str, command: Command, words: Sequence[str]) -> str:
    """The text."""
    options = command.options()
    if "--print-config" in words:
        return print_config(name, options)
    if "--json-schema" in words:
        return json.dumps(json_schema(name, options), indent=2)
    from rich.console import Console

    everything = "--help-all" in words or not command.training
    app = make_app(name, command.help(), options, everything=everything, help_formatter=TwoLines())
    console = Console()
    with console.capture() as got:
        app.help_print([], console=console)
    _, _, text = got.get().partition("\n\n")
    lines = [f"usage: prefine {name} {WORDS.get(name, '')} [OPTIONS]".replace("  ", " "), "", text.rstrip()]
    hidden = sum(not o.common for o in options.values())
    more = f"--help-all shows {hidden} more options, transformers' among them. " if not everything and hidden else ""
    lines += ["", f"{more}--config FILE.yaml reads the same keys from a file, flags win; --print-config prints one to start from."]
    return "\n".join(lines)
