"""A run's progress: a line a log, and on a terminal a bar with the time left."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback


class TrainingProgress(TrainerCallback):  # type: ignore[misc]
    """Shows the metrics named by ``keys``."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.keys = keys
        self.console = Console()
        columns = (TextColumn("step"), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=self.console)
        self.task: TaskID | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Open the bar."""
        if self.console.is_terminal and state.is_world_process_zero:
            self.bar.start()
            self.task = self.bar.add_task("", total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar."""
        if self.task is not None:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        """Show what was logged."""
        if not logs or "loss" not in logs or not state.is_world_process_zero:
            return
        shown = "  ".join(f"{k.removeprefix('rewards/')} {logs[k]:.4g}" for k in self.keys if k in logs)
        # A line of its own, above the bar where there is one: in the bar it would push the step and the time left out of 80 columns.
        self.console.print(f"step {state.global_step}/{state.max_steps}  {shown}", highlight=False, soft_wrap=True)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self.bar.stop()
