"""The command line: words to public calls, what they give to lines. It holds no logic, and imports torch only where a command computes."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from prefine.errors import ConfigError, PrefineError, Stopped, nearest, printable
from prefine.processes import give_way, is_first, number, part
from prefine.redaction import remember_words
from prefine.signals import hearing

if TYPE_CHECKING:
    from types import TracebackType

    from prefine.cli.command import Command

GROUPS = {
    "start": {
        "demo": "the offline laboratory, from nothing to a verdict",
        "env": "versions and hardware, for bug reports",
        "explain": "what an error's code means, and what to do",
        "completion": "a script that completes commands and options in bash, zsh or fish",
    },
    "preference data": {
        "data show": "format, counts, what would be dropped, a few pairs",
        "data audit": "find what will hurt: lengths, labels, shortcuts, duplicates, content",
        "data convert": "to the canonical format, as JSON lines or Parquet",
        "data split": "into training and evaluation parts, never the same prompt on both sides",
        "data dedup": "without duplicates, exact or near",
        "data filter": "without rows that a check of the audit finds",
        "data sample": "a seeded part",
    },
    "training": {
        "plan": "will it fit, how long will it take, which settings fit: before weights are loaded",
        "dpo": "align a model on preference pairs, and say whether it worked",
        "kto": "align a model on single responses, each wanted or not, and say whether it worked",
        "sft": "supervised fine-tuning on prompts with responses",
        "reward": "train a reward model on preference pairs, and measure it",
        "ppo": "align a model by reinforcement learning against a reward",
        "online-dpo": "align a model by DPO on its own samples",
        "tune": "find the learning rate, beta and loss that suit this data",
        "pairs": "preference pairs of a model's own responses, scored by a judge",
        "launch": "a training command in several processes, one a GPU",
        "serve-rollouts": "a vLLM server that training samples from",
    },
    "evaluation": {
        "eval": "judge a finished run: win rate, degeneration, drift, skills",
        "generate": "a model's responses to prompts, into a file",
        "judge": "judge two files of responses, or count verdicts on disk",
        "compare": "several runs side by side",
        "report": "a run as one page",
        "doctor": "what went wrong in a run, whoever trained it, from its curves",
        "chat": "talk to base and tuned side by side",
        "merge": "one plain model folder out of base and adapter",
        "lab": "the laboratory's experiments: frontier, hacking, ensembles, live, filters",
    },
}
COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}
OWN_WORDS = ("completion", "launch")
"""Commands that are no calls with options."""
HELP = ("-h", "--help", "--help-all")
STOPPED = 75
"""The exit code of training that a signal or a time limit stopped: EX_TEMPFAIL of sysexits.h, as of what is to be tried again."""
TRAINING = ("dpo", "kto", "sft", "reward", "ppo", "online-dpo", "tune")


def usage() -> str:
    """The text of ``prefine --help``."""
    lines = ["usage: prefine COMMAND [--help] [OPTIONS]", ""]
    lines += ["Aligns language models with what people prefer, and measures whether it worked."]
    for group, commands in GROUPS.items():
        lines += ["", f"{group}:", *(f"  {name:<13} {text}" for name, text in commands.items())]
    lines += ["", "Every command: --help (training commands: --help-all), --config FILE.yaml, --print-config, --json-schema,"]
    return "\n".join([*lines, "and --traceback, which shows where an error came from."])


@contextlib.contextmanager
def _not_collecting() -> Iterator[None]:
    """Without garbage collection while modules are imported, which leave none: a tenth of the time until the first line."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def find(name: str) -> Command:
    """A command by its name, as ``data show``."""
    import importlib

    command: Command = importlib.import_module(f"prefine.cli.{name.replace(' ', '_').replace('-', '_')}").COMMAND
    return command


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for a user's mistake, 75 when training was stopped and can go on, 130 for Ctrl-C."""
    args = list(sys.argv[1:] if argv is None else argv)
    remember_words(args)
    if argv is None:
        sys.excepthook = _show_without_secrets
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a locale without the letters of a response is no error
        warnings.formatwarning = lambda message, *more: f"prefine: warning: {printable(str(message))}\n"
    traced, args = _take_traceback(args)
    if not args or args[0] in HELP:
        print(usage())
        return 0
    if args[0] == "--version":
        from prefine import __version__

        print(f"prefine {__version__}")
        return 0
    name = args[0]
    try:
        name, words = _command_of(args)
        with _signals():
            code = _run(name, words)
        sys.stdout.flush()
        part()
        return code
    except PrefineError as error:
        give_way()
        if traced:
            raise
        print(f"prefine: error: {_in_process()}{error} [{error.code}]", file=sys.stderr)
        return 2
    except Stopped as stopped:
        if is_first():
            print(f"prefine: {stopped}", file=sys.stderr)
        part()
        return STOPPED
    except RuntimeError:
        give_way(of_others=True)
        raise
    except BrokenPipeError:  # whoever reads this has read enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if traced or error.filename is None:
            raise
        print(f"prefine: error: {printable(str(error.filename))}: {error.strerror} [PF-F05]", file=sys.stderr)
        return 2
    except _Signalled as signalled:
        with contextlib.suppress(OSError):  # after SIGHUP there may be no terminal to write to
            print(f"prefine: stopped by {signalled}{_how_to_go_on(name)}", file=sys.stderr)
        return STOPPED if _how_to_go_on(name) else 128 + signal.Signals[str(signalled)].value
    except KeyboardInterrupt:
        print(f"prefine: interrupted{_how_to_go_on(name)}", file=sys.stderr)
        return 130


class _Signalled(KeyboardInterrupt):
    """SIGTERM or SIGHUP, by its name, where no training waits for it."""


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end a command as Ctrl-C does: what is written is whole, temporary files go. A second one ends it at once."""
    main = os.getpid()

    def heard(number: int, frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != main:  # a worker that inherited this
            os.kill(os.getpid(), number)
        raise _Signalled(signal.Signals(number).name)

    with hearing((signal.SIGTERM, signal.SIGHUP), heard, lambda handler: handler is signal.SIG_DFL):
        yield


def _in_process() -> str:
    return "" if is_first() else f"process {number()}: "


def _show_without_secrets(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """A traceback as Python shows it, but for secrets and control characters that a library's error holds."""
    import traceback

    print(printable("".join(traceback.format_exception(kind, error, where))), end="", file=sys.stderr)


def _take_traceback(args: list[str]) -> tuple[bool, list[str]]:
    """``--traceback``, or ``--debug``; on a training command with a value behind it that is transformers' option."""
    out, traced = [], False
    trains = next((word for word in args if not word.startswith("-")), "") in TRAINING
    for place, word in enumerate(args):
        following = args[place + 1] if place + 1 < len(args) else "-"
        if word == "--traceback" or (word == "--debug" and not (trains and place and not following.startswith("-"))):
            traced = True
        else:
            out.append(word)
    return traced, out


def _how_to_go_on(name: str) -> str:
    if name in ("generate", "judge", "eval", "pairs", "lab", "tune"):
        return "; what is done is kept, and the same command goes on"
    if name in TRAINING:
        return "; the same command with --resume goes on"
    return ""


def _command_of(args: list[str]) -> tuple[str, list[str]]:
    """The command's name and its words.

    Raises:
        ConfigError: no such command.
    """
    if args[0] == "data":
        known = [n.removeprefix("data ") for n in COMMANDS if n.startswith("data ")]
        if len(args) < 2 or args[1] in HELP:
            return "data", []
        if args[1] not in known:
            raise ConfigError(f"no command 'data {args[1]}'{nearest(args[1], known)} Commands: {', '.join(known)}", code="PF-C09")
        return f"data {args[1]}", args[2:]
    if args[0] not in COMMANDS:
        known = [n for n in COMMANDS if " " not in n]
        raise ConfigError(f"no command {args[0]!r}{nearest(args[0], known)} Commands: data, {', '.join(known)}", code="PF-C09")
    return args[0], args[1:]


def _run(name: str, words: Sequence[str]) -> int:
    if name == "data":
        lines = [f"  {n.removeprefix('data '):<8} {text}" for n, text in COMMANDS.items() if n.startswith("data ")]
        print("\n".join(["usage: prefine data COMMAND SOURCE [OPTIONS]", "", *lines, "", "prefine data COMMAND --help lists its options."]))
        return 0
    if name == "completion":
        from prefine.cli.completion import completion

        print(completion(list(words)))
        return 0
    if name == "launch":
        from prefine.cli.launch import launch

        return launch(list(words))
    with _not_collecting():
        command = find(name)
    if (not words and not command.bare and not command.training) or set(words) & {*HELP, "--print-config", "--json-schema"}:
        from prefine.cli.help import describe

        print(describe(name, command, words))
        return 0
    with _not_collecting():
        from prefine.cli.parsing import parse

    call = command.call
    given = parse(name, words, command.options(), call.positional if command.words is None else command.words, call.rest)
    return command.run(given, [*name.split(), *words])
