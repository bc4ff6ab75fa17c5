"""The command line. Each command is a small file; torch is imported only by those that compute."""

from __future__ import annotations

import os
import sys
import warnings

from prefine.errors import ConfigError, PrefineError, nearest, printable
from prefine.runs import discard_unused

COMMANDS = {
    "demo": "the offline laboratory, from nothing to a verdict",
    "lab": "the laboratory's experiments: frontier, hacking, ensembles, live, filters",
    "data": "show preference data: format, counts, what would be dropped",
    "dpo": "align a model on preference pairs, and say whether it worked",
    "reward": "train a reward model on preference pairs, and measure it",
    "ppo": "align a model by reinforcement learning against a reward",
    "online-dpo": "align a model by DPO on its own samples",
    "pairs": "preference pairs of a model's own answers, scored by a judge",
    "sft": "supervised fine-tuning on prompts with answers",
    "generate": "a model's answers to prompts, into a file",
    "eval": "judge a finished run: win rate, degeneration, drift, skills",
    "judge": "judge two files of answers, or count verdicts on disk",
    "compare": "several runs side by side",
    "report": "a run as one page",
    "chat": "talk to base and tuned side by side",
    "merge": "one plain model folder out of base and adapter",
}


def usage() -> str:
    """The text of ``prefine --help``."""
    lines = [f"  {name:<10} {text}" for name, text in COMMANDS.items()]
    return (
        "usage: prefine COMMAND [--help] [OPTIONS]\n\nAligns language models with what people prefer, and measures whether it worked.\n\n"
        + "\n".join(lines)
        + "\n\n--debug with any command shows the traceback of an error."
    )


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for a user's mistake, 130 when interrupted."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return 0
    if args[0] == "--version":
        from prefine import __version__

        print(f"prefine {__version__}")
        return 0
    # Libraries tell each other of what they will rename; nobody at a terminal can act on it.
    warnings.simplefilter("ignore", FutureWarning)
    try:
        if args[0] not in COMMANDS:
            raise ConfigError(f"no command {args[0]!r}{nearest(args[0], COMMANDS)} Commands: {', '.join(COMMANDS)}")
        import importlib

        command = importlib.import_module(f"prefine.cli.{args[0].replace('-', '_')}")
        code = int(command.main(args[1:]))
        sys.stdout.flush()
        return code
    except PrefineError as error:
        discard_unused()
        if debug:
            raise
        print(f"prefine: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever reads this has read enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if debug or error.filename is None:
            raise
        print(f"prefine: error: {printable(str(error.filename))}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        kept = "; what is done is kept, and the same command goes on" if args[0] in ("generate", "judge", "eval") else ""
        print(f"prefine: interrupted{kept}", file=sys.stderr)
        return 130
