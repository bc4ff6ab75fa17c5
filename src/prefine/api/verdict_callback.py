"""A callback for any transformers Trainer, TRL's included: the win rate over the base with its interval, as it trains."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

from prefine.api.evaluation import questions_of
from prefine.api.judges import JudgeChoice, build_judge, check_ready
from prefine.errors import ConfigError


class VerdictCallback(TrainerCallback):  # type: ignore[misc]
    """Has the model respond to prompts every so many steps, a judge compare with its responses before training, and logs the win rate.

    Logged: ``verdict/win_rate``, ``verdict/win_rate_low`` and ``verdict/win_rate_high`` (its 95 % confidence interval),
    ``verdict/num_prompts``. ``history`` keeps them by step. Each look has its own 95 %: with many, some interval misses.

    Args:
        prompts: a source of prompts by name, or a list of texts or of lists of messages.
        judge: one of this package's judges, or a function that scores.
        every_steps: optimizer steps between looks; at the end of training there is one in any case.
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
        batch_size: int = 32,
        trainer: Any = None,
    ) -> None:
        if every_steps < 1:
            raise ConfigError(f"every_steps is {every_steps}; expected at least 1")
        self.questions = questions_of(prompts)
        choice = JudgeChoice(judge)
        self.judge: Any = build_judge(choice, ("base", "tuned"))
        if self.judge is None:
            raise ConfigError("VerdictCallback needs a judge: one of this package's, or a function that scores")
        check_ready(self.judge)
        self.every_steps, self.seed, self.batch_size = every_steps, seed, batch_size
        self.max_new_tokens, self.temperature = max_new_tokens, temperature
        self.history: list[dict[str, float]] = []
        self._base: Any = None
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, processing_class: Any = None, **kwargs: Any) -> None:
        """The model's responses before training are what is compared with."""
        if processing_class is None:
            raise ConfigError("VerdictCallback needs the trainer's processing_class: a tokenizer")
        if self._base is None:
            self._base = self._respond(model, processing_class, "base")

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, processing_class: Any = None, **kwargs: Any) -> None:
        """Look, where it is time."""
        if state.global_step % self.every_steps == 0 or state.global_step == state.max_steps:
            self._look(state, control, model, processing_class)

    def _look(self, state: Any, control: Any, model: Any, tokenizer: Any) -> None:
        from prefine.evaluation.contest import judge_comparisons
        from prefine.evaluation.count import count
        from prefine.evaluation.judge import compare

        tuned = self._respond(model, tokenizer, "tuned")
        comparisons, _ = compare(self._base, tuned, lambda a: a.question.key)
        with tempfile.TemporaryDirectory() as folder:
            held = judge_comparisons(comparisons, self.judge, ("base", "tuned"), Path(folder), lambda done: None)
        win = count(held.file).verdict.win_rate
        found = {"verdict/win_rate": win.estimate, "verdict/win_rate_low": win.low, "verdict/win_rate_high": win.high}
        found["verdict/num_prompts"] = float(win.clusters)
        self.history.append({"step": state.global_step, **found})
        if self._trainer is not None:
            # Not the trainer's own log, which would take along, and so take away, what belongs to its next line.
            due = control.should_log
            Trainer.log(self._trainer, found)
            control.should_log = due
        else:
            state.log_history.append({**found, "step": state.global_step})

    def _respond(self, model: Any, tokenizer: Any, name: str) -> Any:
        """A file of the model's responses as it is now, in memory."""
        from prefine.evaluation.answers import Answered, AnswerFile
        from prefine.generation.engine import Failure, Request, Sampling
        from prefine.generation.generate import TransformersEngine

        sampling = Sampling(self.max_new_tokens, self.temperature)
        was_training, cache = model.training, getattr(model.config, "use_cache", None)
        model.eval()
        model.config.use_cache = True
        try:
            engine = TransformersEngine(model, tokenizer, self.batch_size)
            requests = [Request(q.prompt, q.seed(self.seed, 0), q.tools) for q in self.questions]
            found = dict(engine.answers(requests, sampling))
        finally:
            model.train(was_training)
            model.config.use_cache = cache
        answered, failures = [], []
        for place, question in enumerate(self.questions):
            answer = found[place]
            if isinstance(answer, Failure):
                failures.append(f"{question.key}: {answer.reason}")
            else:
                answered.append(Answered(question, (answer.text,), (answer.ended,)))
        return AnswerFile(name, name, answered, failures)
