"""Progress in a terminal: one bar that reads at 80 columns; in a pipe a line a log, unwrapped."""

from __future__ import annotations

import functools
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from prefine.api.progress import Progress
from prefine.errors import printable

SLOW = 2.0
"""Seconds after which a stage is named in a pipe, on standard error: what is piped on is what was found."""
EVERY = 10.0
"""Seconds of silence in a pipe after which a line says how far a stage is."""


class Terminal(Progress):
    """Sentences as lines; stages as a spinner; counts and steps as one bar."""

    def __init__(self) -> None:
        self._status: Any = None
        self._slow: threading.Timer | None = None
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._began: dict[str, tuple[float, int]] = {}

    @property
    def is_terminal(self) -> bool:
        """Whether a person watches."""
        return sys.stdout.isatty()

    @functools.cached_property
    def console(self) -> Any:
        """rich's, made when something is shown."""
        from rich.console import Console

        return Console(highlight=False, emoji=False, markup=False)

    def say(self, lines: str | Iterable[str]) -> None:
        """A line each, indented, above any bar."""
        self._stop_status()
        if self._bars is not None and self._bars.finished:
            self.finish()
        for line in [lines] if isinstance(lines, str) else lines:
            self.console.print(f"  {printable(line)}", soft_wrap=True)

    def show(self, *what: Any) -> None:
        """What came of a command: text as it stands, tables and the like as they show themselves."""
        self.finish()
        for one in what:
            if isinstance(one, str) and not self.is_terminal:
                print(printable(one))
            else:
                self.console.print(printable(one) if isinstance(one, str) else one, soft_wrap=isinstance(one, str))

    def stage(self, name: str) -> None:
        """A spinner with the stage's name; in a pipe a line, once it takes long."""
        name = printable(name)
        if not self.is_terminal:
            self._stop_status()
            self._slow = threading.Timer(SLOW, print, (f"  {name} ...",), {"file": sys.stderr, "flush": True})
            self._slow.daemon = True
            self._slow.start()
        elif self._bars is None:
            from rich.text import Text  # a str would be read as markup

            if self._status is None:
                self._status = self.console.status(Text(f"{name} ..."))
                self._status.start()
            else:
                self._status.update(Text(f"{name} ..."))

    def advance(self, stage: str, done: int, total: int | None) -> None:
        """Moves a stage's bar; in a pipe a line now and then."""
        stage = printable(stage)
        if not self.is_terminal:
            self._count(stage, done, total)
            return
        self._open()
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(stage, total=total, rate="")
            self._began[stage] = (time.monotonic(), 0)
        self._bars.advance(self._tasks[stage], done)
        self._rate(stage)

    def _count(self, stage: str, done: int, total: int | None) -> None:
        self._stop_status()
        now = time.monotonic()
        last, at = self._began.setdefault(stage, (now, 0))
        told = now - last >= EVERY
        self._began[stage] = (now if told else last, at + done)
        if told:
            print(f"  {stage} {at + done}{f'/{total}' if total else ''}", file=sys.stderr, flush=True)

    def step(self, step: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """Moves the training's bar; logged metrics are a line of their own, above it."""
        self._stop_status()
        if metrics:
            # A line of its own: in the bar it would push the step and the time left out of 80 columns.
            line = f"step {step}/{total}"
            for name, value in metrics.items():
                more = f"  {name.removeprefix('rewards/')} {value:.4g}"
                if not self.is_terminal or len(line) + len(more) < self.console.width:  # as many as the terminal has room for
                    line += more
            self.console.print(printable(line), soft_wrap=True)
        if not self.is_terminal:
            return
        self._open()
        if "step" not in self._tasks:
            self._tasks["step"] = self._bars.add_task("step", total=total, completed=step, rate="")
            self._began["step"] = (time.monotonic(), step)
        self._bars.update(self._tasks["step"], completed=step)
        self._rate("step")
        if step >= total:
            self.finish()

    def _rate(self, stage: str) -> None:
        task = self._bars.tasks[self._tasks[stage]]
        start, at = self._began[stage]
        done, seconds = task.completed - at, time.monotonic() - start
        if done <= 0 or seconds <= 0:
            return
        rate = f"{done / seconds:.1f}/s" if done >= seconds else f"{seconds / done:.1f} s each"
        left = ""
        if task.total:
            minutes, rest = divmod(int((task.total - task.completed) * seconds / done), 60)
            left = f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} left" if minutes >= 60 else f"{minutes}:{rest:02d} left"
        self._bars.update(self._tasks[stage], rate=f"{left}  {rate}")

    def _open(self) -> None:
        self._stop_status()
        if self._bars is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = (
                TextColumn("{task.description:<10}", markup=False),
                MofNCompleteColumn(),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[rate]}", markup=False),
            )
            self._bars = Progress(*columns, console=self.console, transient=True)
            self._bars.start()

    def _stop_status(self) -> None:
        if self._slow is not None:
            self._slow.cancel()
            self._slow = None
        if self._status is not None:
            self._status.stop()
            self._status = None

    def finish(self) -> None:
        """Closes bars and spinner."""
        self._stop_status()
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        self._tasks.clear()
        self._began.clear()
