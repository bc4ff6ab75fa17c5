"""A trainer's steps and logs, told to a Progress."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from prefine.api.progress import Progress


class ShowProgress(TrainerCallback):  # type: ignore[misc]
    """Tells each step, with the metrics named by ``keys`` where they were logged."""

    def __init__(self, progress: Progress, keys: tuple[str, ...]) -> None:
        self.progress, self.keys = progress, keys

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show where training stands: not at zero where it is resumed."""
        if state.is_world_process_zero:
            self.progress.step(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """One more."""
        if state.is_world_process_zero:
            self.progress.step(state.global_step, state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """What was logged of training; of an evaluation while training, its loss and accuracy."""
        if not logs or not state.is_world_process_zero:
            return
        if "loss" in logs:
            self.progress.step(state.global_step, state.max_steps, {k: logs[k] for k in self.keys if k in logs})
        elif any(k.startswith("eval_") for k in logs):
            told = {k: v for k, v in logs.items() if k.removeprefix("eval_") in self.keys}
            if told:
                self.progress.say("evaluation: " + "  ".join(f"{k.removeprefix('eval_')} {v:.4g}" for k, v in told.items()))
