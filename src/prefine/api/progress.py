"""What a call tells while it works: sentences, stages, steps. The base class is silent; one for notebooks stands here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prefine.errors import printable


class Progress:
    """Told what goes on; tells nobody. Subclass it to show progress anywhere."""

    def say(self, lines: str | Iterable[str]) -> None:
        """Sentences of what will be done or was found."""

    def stage(self, name: str) -> None:
        """Something that takes a while begins, as loading a model; it ends with whatever is told next."""

    def advance(self, stage: str, done: int, total: int | None) -> None:
        """``done`` more of a stage's ``total`` are done; unknown where None."""

    def step(self, step: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """An optimizer step is done; with metrics where they were logged."""

    def finish(self) -> None:
        """All stages and steps are done."""


class TqdmProgress(Progress):
    """tqdm's bars, which draw themselves in a notebook as well as in a terminal; sentences are written above them."""

    def __init__(self) -> None:
        self._bars: dict[str, Any] = {}

    def _bar(self, name: str, total: int | None) -> Any:
        if name not in self._bars:
            from tqdm.auto import tqdm

            self._bars[name] = tqdm(total=total, desc=printable(name))
        return self._bars[name]

    def say(self, lines: str | Iterable[str]) -> None:
        """Written by tqdm, above the bars."""
        from tqdm.auto import tqdm

        for line in [lines] if isinstance(lines, str) else lines:
            tqdm.write(printable(line))

    def stage(self, name: str) -> None:
        """Written by tqdm, above the bars."""
        from tqdm.auto import tqdm

        tqdm.write(f"{printable(name)} ...")

    def advance(self, stage: str, done: int, total: int | None) -> None:
        """Moves the stage's bar."""
        self._bar(stage, total).update(done)

    def step(self, step: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """Moves the training's bar; the last metrics stand behind it."""
        bar = self._bar("training", total)
        bar.update(step - bar.n)
        if metrics:
            bar.set_postfix({k.removeprefix("rewards/"): f"{v:.4g}" for k, v in metrics.items()})

    def finish(self) -> None:
        """Closes the bars."""
        for bar in self._bars.values():
            bar.close()
        self._bars.clear()


def progress_of(given: Progress | bool | None) -> Progress:
    """A progress object: None and False are silent, True is :class:`TqdmProgress`."""
    if isinstance(given, Progress):
        return given
    return TqdmProgress() if given else Progress()


@contextmanager
def finishing(progress: Progress) -> Iterator[Progress]:
    """Within the block progress is shown; behind it no bar is left, whatever happened."""
    try:
        yield progress
    finally:
        progress.finish()
