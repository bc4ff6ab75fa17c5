"""``prefine judge``."""

from prefine.api.judging import JudgedFiles, judge_files
from prefine.cli.command import Command
from prefine.cli.terminal import Terminal


def show(found: JudgedFiles, own: None, terminal: Terminal) -> int:
    """Verdicts, ratings, files; 1 where ``--require`` is not met."""
    terminal.show(*found.parts())
    if not found.passed:
        terminal.show("what --require asks for is not met: exit code 1")
    return int(not found.passed)


COMMAND = Command(
    judge_files,
    show,
    "Judges the responses of a tuned model against a base's: prefine judge BASE.jsonl TUNED.jsonl --judge ... "
    "(our own responses, AlpacaEval's model_outputs, MT-Bench's model_answer). Or counts verdicts on disk: AlpacaEval's annotations, "
    "Arena-Hard's and MT-Bench's pair judgments, our own; several files are compared.",
)
