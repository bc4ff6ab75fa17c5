"""Training that is stopped from outside, by a signal, Ctrl-C or a time limit: after a step, with a checkpoint of it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import TrainerCallback

from prefine.signals import hearing
from prefine.training.pack_trainer import PackTrainer

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class StopBetweenSteps(TrainerCallback):
    """Ends training once it was asked to, after the first step whose checkpoint holds all there is to know.

    Attributes:
        reason: who asked, empty while nobody did; step: after which it stopped, None while it did not.

    Args:
        deadline: of ``time.monotonic()``; None is never.
        said: hears that the step in progress is finished first.
    """

    def __init__(self, trainer: PackTrainer, deadline: float | None = None, said: Callable[[str], None] = lambda text: None) -> None:
        self.trainer, self.deadline, self.said = trainer, deadline, said
        self.reason = ""
        self.step: int | None = None

    def ask(self, reason: str) -> None:
        """Ask to stop."""
        if not self.reason:
            self.reason = reason
            self.said(f"{reason}: finishing the step and saving a checkpoint{'; Ctrl-C again stops at once' if reason == 'Ctrl-C' else ''}")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save, log and stop, where it was asked and all processes agree."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            self.ask("the time limit")
        if self._any_asked() and self.trainer.may_stop:
            self.step = state.global_step
            control.should_save = control.should_log = control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The epoch was not finished: what would be done at its end is not."""
        if self.step is not None:
            control.should_save = control.should_evaluate = False

    def _any_asked(self) -> bool:
        accelerator = self.trainer.accelerator
        if accelerator.num_processes == 1:
            return bool(self.reason)
        asked = accelerator.reduce(torch.tensor(float(bool(self.reason)), device=self.trainer.args.device))
        self.reason = self.reason or ("another process" if asked else "")
        return bool(asked)


@contextmanager
def listening(stop: StopBetweenSteps) -> Iterator[None]:
    """Within the block signals ask to stop; a second Ctrl-C interrupts at once. Outside the main thread signals are left alone."""
    terminals = [stream.fileno() for stream in (sys.__stdout__, sys.__stderr__) if stream is not None and stream.isatty()]

    def heard(number: int, frame: Any) -> None:
        if number == signal.SIGINT and stop.reason:
            raise KeyboardInterrupt
        if number == signal.SIGHUP:  # the terminal is gone, and writing there would fail
            for terminal in terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), terminal)
        stop.ask(SIGNALS[signal.Signals(number)])

    # A signal that is ignored stays so: nohup is heeded.
    with hearing(SIGNALS, heard, lambda handler: handler is not signal.SIG_IGN):
        yield
