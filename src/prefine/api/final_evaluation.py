"""What a training run ends with: what it learned of held-out data, how its responses changed, and, with a judge, a verdict."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from prefine.api.judges import JudgeChoice, build_judge, check_ready, judge_choice, qualification
from prefine.api.progress import Progress
from prefine.errors import ConfigError, PrefineError, nearest
from prefine.runs import RunDirectory

if TYPE_CHECKING:
    from prefine.evaluation.evaluate import Evaluation
    from prefine.evaluation.judge import Judge
    from prefine.evaluation.questions import Question
    from prefine.packing.group import PromptGroup

KINDS = ("off", "quick", "full")
LEAST_PROMPTS, MOST_PROMPTS = 16, 200
LEAST_TOKENS, QUICK_TOKENS, FULL_TOKENS = 64, 128, 256
SHARE = 0.1
"""Of the training time, for sampling responses."""


@dataclass
class FinalOptions:
    """What is looked at once training is over."""

    final_eval: str = field(
        default="quick",
        metadata={
            "help": "Responses of base and tuned to held-out prompts: quick (in about a tenth of the training time, at least 16 prompts), "
            "full (200 prompts), off (reward accuracy alone).",
            "group": "output and evaluation",
        },
    )
    final_judge: str | None = field(
        default=None,
        metadata={
            "help": "YAML file with a judge's options, as prefine judge takes them: the run ends in its verdict.",
            "group": "output and evaluation",
        },
    )

    def __post_init__(self) -> None:
        """Nothing is chosen yet."""
        self.choice: JudgeChoice | None = None

    def check_held_out(self, count: int) -> None:
        """Refuse a judge that would have nothing to judge, before training.

        Raises:
            ConfigError: no prompt is held out.
        """
        if self.final_judge is not None and not count:
            raise ConfigError("--final-judge would have nothing to judge: no prompt is held out; give --eval-data or --eval-fraction")

    def ready_judge(self, base: str, tuned: str) -> Judge | None:
        """The judge, found wanting before training rather than after; None where none is named.

        Raises:
            ConfigError: an unknown kind, or a judge that cannot judge.
        """
        if self.final_eval not in KINDS:
            raise ConfigError(
                f"--final-eval is {self.final_eval!r}; expected one of {', '.join(KINDS)}{nearest(self.final_eval, KINDS)}", code="PF-C03"
            )
        if self.final_judge is None:
            return None
        if self.final_eval == "off":
            raise ConfigError("--final-judge would be ignored with --final-eval off; leave one of the two out", code="PF-C04")
        self.choice = judge_choice(self.final_judge, "--final-judge")
        if self.choice.human is not None and self.choice.judge != "human":
            raise ConfigError(
                f"{self.final_judge}: human would be ignored beside another judge here; give it to prefine eval", code="PF-C04"
            )
        judge = build_judge(self.choice, (base, tuned))
        if judge is None:
            raise ConfigError(f"{self.final_judge}: names no judge", code="PF-J06")
        check_ready(judge)
        return judge


def finish(
    trainer: Any,
    run: RunDirectory,
    options: FinalOptions,
    judge: Judge | None,
    questions: Sequence[Question],
    pairs: Sequence[PromptGroup],
    seconds: float,
    progress: Progress,
    trained_on: bool = False,
) -> Evaluation:
    """Evaluate with the models in memory, into ``eval/final``.

    Args:
        questions: held-out prompts in random order; pairs: held-out pairs.
        seconds: what training took.
        trained_on: the judge is the reward that was trained on.
    """
    from prefine.api.evaluation import trained_pair
    from prefine.evaluation.evaluate import Extras, evaluate
    from prefine.generation.engine import Request, Sampling

    args = trainer.args
    models = trained_pair(trainer, run)
    folder = run.evaluation("final")
    for old in folder.glob("answers-*"):  # of a run that was resumed: its responses lie in the cache
        old.unlink()
    sampling = Sampling(_length(pairs, QUICK_TOKENS if options.final_eval == "quick" else FULL_TOKENS))
    if hasattr(args, "response_length"):  # as it was trained to respond
        sampling = Sampling(args.response_length, args.temperature)
    most = 0 if options.final_eval == "off" else MOST_PROMPTS
    asked = list(questions[:most])
    if not asked:
        judge, trained_on = None, False
    progress.stage("evaluating")
    if options.final_eval == "quick" and len(asked) > LEAST_PROMPTS and not trained_on:
        took = made = 0.0
        requests = [Request(q.prompt, q.seed(args.seed, 0), q.tools) for q in asked[:LEAST_PROMPTS]]
        for tuned in (False, True):
            with models.engine(tuned) as engine:
                collections.deque(engine.answers(requests, sampling), maxlen=0)  # they are kept, and read again below
                took, made = took + engine.seconds, made + engine.generated
        each = 2 * took / made if made else math.inf  # all lay in the cache: nothing tells how long more would take
        asked = asked[: max(LEAST_PROMPTS, int(SHARE * seconds / each))]
    extras = Extras(pairs, beta=getattr(args, "beta", 0.1))
    hint = f"prefine eval {run.path} --judge ..."
    hint = "" if judge is not None and not trained_on else hint
    common: dict[str, Any] = {"seed": args.seed, "extras": extras, "progress": progress.advance}
    try:
        known = None if trained_on else qualification(judge, options.choice)
        found = evaluate(models, asked, judge, folder, sampling, trained_on=trained_on, hint=hint, qualified=known, **common)
    except PrefineError as error:
        if judge is None:
            raise
        # What was measured without the judge is not lost for its failing.
        hint = f"the judge failed ({error}); ask another: prefine eval {run.path} --judge ..."
        judge, trained_on = None, False
        found = evaluate(models, asked, None, folder, sampling, hint=hint, **common)
    if judge is not None and not trained_on:
        run.add_look("final", found.summary)
    return found


def _length(pairs: Sequence[PromptGroup], most: int) -> int:
    """Tokens of a response: twice as many as 95 % of the chosen ones have, so that one that does not end is seen not to."""
    if not len(pairs):
        return most
    return int(np.clip(2 * np.quantile([len(g.completion_ids[0]) for g in pairs], 0.95), LEAST_TOKENS, most))
