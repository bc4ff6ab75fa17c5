"""``prefine chat RUN``: base and tuned answer side by side, same seed, turn by turn."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from prefine.cli.options import help_text, options_of, parse
from prefine.errors import ConfigError, printable
from prefine.runs import RunDirectory

ABOUT = "Asks base and tuned the same, each keeping its own conversation. /reset begins anew, /seed N draws otherwise, /quit ends."


@dataclass
class ChatOptions:
    """Options of ``prefine chat``."""

    run: str = field(default="", metadata={"help": "Run directory (also as the first word)."})
    system: str | None = field(default=None, metadata={"help": "System prompt."})
    max_new_tokens: int = field(default=256, metadata={"help": "Most tokens of an answer."})
    temperature: float = field(default=0.7, metadata={"help": "0 for greedy."})
    seed: int = field(default=0, metadata={"help": "Seed of sampling; both sides draw by it."})
    chat_template_kwargs: str | None = field(
        default=None, metadata={"help": "What the chat template is given beside the messages: enable_thinking=false. Unset: as trained."}
    )
    dtype: str = field(default="auto", metadata={"help": "auto, float32, bfloat16 or float16."})


@dataclass
class Conversation:
    """Both sides' messages so far."""

    system: str | None = None
    sides: tuple[list[dict[str, str]], list[dict[str, str]]] = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        self.sides = (list(first), list(first))

    def say(self, text: str) -> None:
        """The user's turn, to both."""
        for side in self.sides:
            side.append({"role": "user", "content": text})

    def answer(self, answers: Sequence[str]) -> None:
        """Each side's own answer."""
        for side, text in zip(self.sides, answers, strict=True):
            side.append({"role": "assistant", "content": text})


def main(argv: list[str]) -> int:
    """Load both, then read lines until the end."""
    options = options_of(ChatOptions, "options")
    if not argv or "--help" in argv or "-h" in argv:
        print(help_text("chat RUN", ABOUT, options))
        return 0
    given = ChatOptions(**parse(argv, options, ("run",)))
    if not given.run:
        raise ConfigError("chat needs a RUN: the --output-dir of a training run")
    run = RunDirectory.open(given.run)
    from prefine.evaluation.sides import Sides
    from prefine.generation.engine import Failure, Request, Sampling

    sampling = Sampling(given.max_new_tokens, given.temperature)
    sides = Sides.load(run, given.dtype, given.chat_template_kwargs)
    talk = Conversation(given.system)
    seed = given.seed
    print(ABOUT)
    while (line := _read()) is not None:
        word, _, rest = line.partition(" ")
        if word in ("/quit", "/exit"):
            break
        if word == "/reset":
            talk.reset()
            print("(a new conversation)")
        elif word == "/seed":
            seed = int(rest) if rest.strip().lstrip("-").isdigit() else seed
            print(f"(seed {seed})")
        elif word.startswith("/"):
            print("(commands: /reset, /seed N, /quit)")
        elif line.strip():
            talk.say(line)
            texts = []
            for tuned in (False, True):
                with sides.engine(tuned) as engine:
                    turn = (seed << 16) + len(talk.sides[0])
                    [(_, answer)] = engine.answers([Request(tuple(talk.sides[tuned]), turn % 2**64)], sampling)
                texts.append(f"({answer.reason})" if isinstance(answer, Failure) else answer.text)
            talk.answer(texts)
            _show(texts)
    return 0


def _read() -> str | None:
    try:
        if sys.stdin.isatty():
            return input("you> ")
        line = sys.stdin.readline()
        return line.rstrip("\n") if line else None
    except EOFError:
        return None


def _show(texts: Sequence[str]) -> None:
    """Two columns where the terminal is wide, else one below the other; answers are untrusted text."""
    from rich.columns import Columns
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    console = Console()
    half = max(30, console.width // 2 - 1)
    panels: list[Any] = [Panel(Text(printable(t)), title=n, width=half) for n, t in zip(("base", "tuned"), texts, strict=True)]
    if console.width >= 80:
        console.print(Columns(panels))
    else:
        for name, text in zip(("base", "tuned"), texts, strict=True):
            console.print(f"{name}: {printable(text)}", markup=False, highlight=False)
