"""A callback for any transformers Trainer, TRL's included: the win rate over the base with its interval, as it trains."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

from prefine.api.judges import JudgeChoice, build_judge, check_ready
from prefine.api.prompts import questions_of
from prefine.errors import ConfigError, PrefineError
from prefine.guard.probe import Probe
from prefine.runs import read_json, write_json
from prefine.scoring.token_logps import is_shared_out

KEPT = "verdict_callback.json"
"""The base's responses, in the trainer's output folder: a resumed run is compared with what the first one began from."""


class VerdictCallback(TrainerCallback):  # type: ignore[misc]
    """Has the model respond to prompts every so many steps, a judge compare with its responses before training, and logs the win rate.

    Logged: ``verdict/win_rate``, ``verdict/win_rate_low`` and ``verdict/win_rate_high`` (its 95 % confidence interval),
    ``verdict/num_prompts``; NaN, with a warning, where the judge fails. ``history`` keeps them by step. Each look has its own 95 %:
    with many, some interval misses.

    Args:
        prompts: a source of prompts by name, or a list of texts or of lists of messages.
        judge: one of this package's judges, or a function that scores.
        every_steps: optimizer steps between looks; when training ends there is one in any case.
        max_new_tokens, temperature, seed, batch_size: of sampling.
        trainer: where the numbers are logged, so that trackers get them too; without it they reach ``state.log_history`` alone,
            since transformers hands no trainer to callbacks.

    Raises:
        PrefineError: prompts that cannot be read, or a judge that cannot judge, before training begins.
    """

    def __init__(
        self,
        prompts: Any,
        judge: Any,
        every_steps: int = 200,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        seed: int = 0,
        batch_size: int = 128,
        trainer: Any = None,
    ) -> None:
        if every_steps < 1:
            raise ConfigError(f"every_steps is {every_steps}; expected at least 1", code="PF-C03")
        chosen: Any = build_judge(JudgeChoice(judge), ("base", "tuned"))
        if chosen is None:
            raise ConfigError("VerdictCallback needs a judge: one of this package's, or a function that scores")
        check_ready(chosen)
        self.probe = Probe(questions_of(prompts), chosen, max_new_tokens, temperature, seed, batch_size)
        self.every_steps = every_steps
        self.history: list[dict[str, float]] = []
        self._base: Any = None
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, processing_class: Any = None, **kwargs: Any) -> None:
        """The model's responses before training are what is compared with; a resumed run reads those that were kept.

        Raises:
            ConfigError: the trainer has no tokenizer, or a resumed run has no such responses.
        """
        if any(is_shared_out(p) for p in model.parameters()):
            raise ConfigError("VerdictCallback samples in one process, and the model's weights are shared out over several; leave it out")
        if not state.is_world_process_zero:
            return
        if processing_class is None:
            raise ConfigError("VerdictCallback needs the trainer's processing_class: a tokenizer")
        kept = Path(args.output_dir) / KEPT
        if state.global_step == 0:
            self._base = self.probe.respond(model, processing_class, "base")
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, self.probe.texts(self._base))
        elif kept.exists():
            self._base = self.probe.file("base", read_json(kept))
        else:
            raise ConfigError(f"VerdictCallback: training is resumed, and {kept} with the responses before training is not there")

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, processing_class: Any = None, **kwargs: Any) -> None:
        """Look, where it is time."""
        if state.global_step % self.every_steps == 0:
            self._look(state, control, model, processing_class)

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, processing_class: Any = None, **kwargs: Any) -> None:
        """The last look, unless it was taken."""
        if not self.history or self.history[-1]["step"] != state.global_step:
            self._look(state, control, model, processing_class)

    def _look(self, state: Any, control: Any, model: Any, tokenizer: Any) -> None:
        if not state.is_world_process_zero:
            return
        try:
            win = self.probe.win_rate(self._base, self.probe.respond(model, tokenizer, "tuned"))
            numbers = (win.estimate, win.low, win.high, float(win.clusters))
        except PrefineError as error:  # a judge that fails costs a look, not the training
            warnings.warn(f"no win rate at step {state.global_step}: {error}", stacklevel=2)
            numbers = (math.nan, math.nan, math.nan, 0.0)
        names = ("win_rate", "win_rate_low", "win_rate_high", "num_prompts")
        found = {f"verdict/{name}": value for name, value in zip(names, numbers, strict=True)}
        self.history.append({"step": state.global_step, **found})
        if self._trainer is not None:
            # Not the trainer's own log, which would take along, and so take away, what belongs to its next line.
            due = control.should_log
            Trainer.log(self._trainer, found)
            control.should_log = due
        else:
            state.log_history.append({**found, "step": state.global_step})
