"""``prefine eval RUN``."""

from prefine.api.evaluation import evaluate_run
from prefine.api.results import EvaluationResult
from prefine.cli.command import Command
from prefine.cli.terminal import Terminal


def show(found: EvaluationResult, own: None, terminal: Terminal) -> int:
    """Responses side by side, then what was found; 1 where ``--require`` is not met."""
    for prompt, base, tuned in found.samples:
        terminal.show(f"---\nprompt: {prompt}\nbase:   {base}\ntuned:  {tuned}\n")
    terminal.show(*found.lines, f"report: {found.report}")
    if not found.passed:
        terminal.show("what --require asks for is not met: exit code 1")
    return int(not found.passed)


COMMAND = Command(
    evaluate_run,
    show,
    "Responds to held-out prompts with base and tuned, has --judge compare the responses "
    "(without one there is no verdict: reward accuracy, drift and degeneration are told), "
    "looks for degeneration, drift and lost skills, and writes RUN/eval/NAME, the report and the model card.",
)
