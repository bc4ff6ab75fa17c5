"""The guard of a training run: which prompts it probes, what it is told, and what was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from prefine.errors import ConfigError, nearest
from prefine.guard.rule import MODES
from prefine.runs import RunDirectory

if TYPE_CHECKING:
    from prefine.api.training_setup import TrainingSetup
    from prefine.evaluation.judge import Judge
    from prefine.evaluation.questions import Question
    from prefine.guard.callback import GuardCallback

LEAST_STEPS = 40
"""Runs of fewer steps are over before a probe tells anything."""
TOKENS = 64
"""Of a response to the probe."""
EQUAL = "responses are equal once truncated or tokenised"
DUPLICATES = "repeated-pair"


def check_mode(mode: str) -> None:
    """Refuse an unknown mode before anything is loaded.

    Raises:
        ConfigError: which are known.
    """
    if mode not in MODES:
        raise ConfigError(f"--guard is {mode!r}; expected one of {', '.join(MODES)}{nearest(mode, MODES)}")


def add_guard(
    setup: TrainingSetup,
    run: RunDirectory,
    trainer: Any,
    questions: Callable[[int], Sequence[Question]] | None = None,
    judge: Judge | None = None,
) -> GuardCallback:
    """Have a trainer watched.

    Args:
        questions: gives so many held-out prompts; unset: no probe.
        judge: compares the probe's responses where it scores on this machine; one on a server is not asked.
    """
    from prefine.evaluation.judge import ByScore
    from prefine.guard.callback import GuardCallback
    from prefine.guard.history import Facts
    from prefine.guard.probe import Probe

    own, args = setup.options, trainer.args
    data = run.data()
    encoding = data.get("encoding", {})
    findings = data.get("audit", {}).get("findings", [])
    known = Facts(
        method=setup.command,
        equal_pairs=int(encoding.get("dropped", {}).get(EQUAL, {}).get("count", 0)),
        duplicated=next((float(f["share"]) for f in findings if f["check"] == DUPLICATES), 0.0),
        held_out=len(trainer.eval_dataset) if getattr(trainer, "eval_dataset", None) is not None else None,
    )
    steps = args.max_steps if args.max_steps > 0 else int(args.num_train_epochs * len(trainer.get_train_dataloader()))
    probe = None
    probes = questions if own.guard != "off" and own.guard_prompts and steps >= LEAST_STEPS else None
    if probes is not None and trainer.together.sharded:
        setup.progress.say("guard: no process has the whole model, so it probes no responses")
    elif probes is not None:
        asked = list(probes(own.guard_prompts))
        longest = min(TOKENS, getattr(args, "response_length", TOKENS))
        temperature = getattr(args, "temperature", 0.0)  # as it is trained to respond
        probe = Probe(asked, judge if isinstance(judge, ByScore) else None, longest, temperature, args.seed) if asked else None
    guard = GuardCallback(
        trainer,
        own.guard,
        known,
        probe,
        own.guard_every,
        say=setup.progress.say,
        keep=run.append_event,
        rows=run.metrics() if own.resume else (),
        events=run.events() if own.resume else (),
        folder=run.path,
    )
    trainer.add_callback(guard)
    return guard
