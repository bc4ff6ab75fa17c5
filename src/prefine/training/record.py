"""A callback that writes each logged step into the run directory."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback

from prefine.runs import RunDirectory


class RecordRun(TrainerCallback):
    """Appends every log to ``metrics.jsonl``; on resume drops the lines that will be logged again."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Forget lines past the checkpoint that is resumed from."""
        if state.is_world_process_zero and self.run.metrics():
            self.run.forget_metrics_after(state.global_step)
            self.run.append_event("resume", step=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Append one line."""
        if state.is_world_process_zero and logs:
            self.run.append_metrics({"step": state.global_step, **logs})
