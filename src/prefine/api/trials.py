"""Trials: a training run each, measured on the pairs to choose by; kept in a file as they finish, so that a killed search goes on."""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from prefine.api.grid import Settings, told
from prefine.api.progress import Progress
from prefine.cluster import connect, import_ray
from prefine.errors import ConfigError, PrefineError
from prefine.runs import RunDirectory, write_json

FILE = "tune.json"
SIDE_BY_SIDE = "--parallel trains side by side through"
FINAL = "final"
"""The evaluation that ends a training."""


class Muted(Progress):
    """Passes bars on, and no sentences or metrics: what a trial says of itself lies in its run directory."""

    def __init__(self, progress: Progress) -> None:
        self.told = progress

    def stage(self, name: str) -> None:
        """As the other."""
        self.told.stage(name)

    def advance(self, stage: str, done: int, total: int | None) -> None:
        """As the other, where there is anything to do."""
        if total != 0:
            self.told.advance(stage, done, total)

    def step(self, step: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        """As the other, without metrics."""
        self.told.step(step, total)

    def finish(self) -> None:
        """As the other: each training and evaluation has bars of its own."""
        self.told.finish()


@dataclass(frozen=True)
class Measuring:
    """How a run is measured on pairs.

    Attributes:
        judge: options of ``prefine eval`` that name one; without it the measure is reward accuracy.
        temperature, max_new_tokens: of the responses that it compares.
    """

    judge: Mapping[str, Any] | None
    temperature: float
    max_new_tokens: int

    def of(self, run: Path, name: str, prompts: int, progress: Progress, data: str | None = None) -> dict[str, Any]:
        """The rate with its interval, as plain data; ``data``: other pairs than those that the run held out.

        A reward accuracy has ``unchanged`` beside it: whether the mean margin is so small that nothing was learned, whatever its sign.
        """
        from prefine.api.evaluation import evaluate_run

        if self.judge is None and data is None:
            found = json.loads((run / "eval" / FINAL / "summary.json").read_text(encoding="utf-8"))
        else:
            asked = {"temperature": self.temperature, "max_new_tokens": self.max_new_tokens, "max_prompts": prompts if self.judge else 0}
            given = {"run": str(run), "name": name, "data": data, **asked, **(self.judge or {})}
            found = evaluate_run(**given, progress=Muted(progress)).summary
        if self.judge is not None:
            return dict(found["win_rate"])
        learned = found["learning"]
        return {**learned["accuracy"], "unchanged": abs(learned["margin"]) <= learned["floor"]}


@dataclass(frozen=True)
class Task:
    """A trial that is to be made.

    Attributes:
        settings: what it tries; options: all that ``prefine dpo`` is told; folder: its run directory.
        steps: optimizer steps; part: of the full length, one in so many; prompts: to choose by.
    """

    settings: Settings
    options: Mapping[str, Any]
    folder: str
    steps: int
    part: int
    prompts: int
    measuring: Measuring


@dataclass
class Trial:
    """One that was made.

    Attributes:
        name: of its folder; measure: a rate with its interval, None where it failed; failed: why.
        seconds: of training and measuring; guard: what the guard found, a rule and its step each.
    """

    name: str
    settings: Settings
    steps: int
    part: int
    measure: dict[str, Any] | None = None
    failed: str = ""
    seconds: float = 0.0
    guard: list[str] = field(default_factory=list)

    @property
    def score(self) -> float:
        """What it is ranked by; even where the model is unchanged, minus infinity where it failed."""
        if self.measure is not None and self.measure.get("unchanged"):
            return 0.5
        estimate = math.nan if self.measure is None else float(self.measure["estimate"])
        return -math.inf if math.isnan(estimate) else estimate


def make(task: Task, progress: Progress) -> Trial:
    """Train and measure. A training that fails is a trial that failed; one that never began is the user's mistake.

    Raises:
        PrefineError: it did not begin to train, or the judge failed.
    """
    run = RunDirectory(task.folder)
    trial = Trial(run.path.name, task.settings, task.steps, task.part)
    since = time.perf_counter()
    try:
        train(task, Muted(progress))
    except (PrefineError, RuntimeError, ArithmeticError) as error:
        if not run.began:
            raise
        trial.failed = " ".join(str(error).split()) or type(error).__name__
    else:
        trial.measure = task.measuring.of(run.path, "select", task.prompts, progress)
    gc.collect()  # a model is held in a circle by its trainer
    trial.seconds = round(time.perf_counter() - since, 1)
    trial.guard = [f"{e['rule']} at step {e['step']}" for e in run.events() if e.get("event") == "guard" and e.get("severity") != "note"]
    return trial


def train(task: Task, progress: Progress) -> None:
    """A run of ``prefine dpo``; one that was finished is left as it is, one that was not goes on from its last complete checkpoint."""
    from prefine.api.dpo import dpo

    run = RunDirectory(task.folder)
    if (run.path / "eval" / FINAL / "summary.json").exists():  # written last
        return
    last = run.last_checkpoint()
    resume = last is not None and int(last.name.rpartition("-")[2]) < task.steps
    if run.path.exists() and not resume:
        shutil.rmtree(run.path)
    dpo(**task.options, output_dir=task.folder, resume=resume, progress=progress)


class Trials:
    """All trials of a search, in ``OUT/tune.json``, which is replaced whole after each.

    Args:
        told: what the search was told, as plain data; another under the same folder is refused.

    Raises:
        ConfigError: the folder holds a search that was told otherwise.
    """

    def __init__(self, folder: Path, told: Mapping[str, Any]) -> None:
        self.path = folder / FILE
        self.told = json.loads(json.dumps(told, default=str))
        self.made: dict[str, Trial] = {}
        self.result: dict[str, Any] | None = None
        if self.path.exists():
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            self._check_same(folder, kept["told"])
            self.made = {t["name"]: Trial(**t) for t in kept["trials"]}
            self.result = kept.get("result")

    def _check_same(self, folder: Path, was: Mapping[str, Any]) -> None:
        differing = [k for k in sorted({*was, *self.told}) if was.get(k) != self.told.get(k)]
        if differing:
            what = ", ".join("data, whose content has changed" if k == "data" else k.replace("_", "-") for k in differing)
            raise ConfigError(f"{folder} holds a search that was told otherwise ({what}); give what it had, or another --output-dir")

    def keep(self, trial: Trial) -> None:
        """Add one, on disk."""
        self.made[trial.name] = trial
        self.write()

    def write(self, result: Mapping[str, Any] | None = None) -> None:
        """Replace the file; ``result``: what the search came to."""
        self.result = dict(result) if result is not None else self.result
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {"told": self.told, "trials": [asdict(t) for t in self.made.values()], "result": self.result})

    def run(self, tasks: Sequence[Task], progress: Progress, parallel: int = 1) -> list[Trial]:
        """The trials of these tasks, in order; those that are kept are not made again."""
        names = [Path(task.folder).name for task in tasks]
        left = {name: task for name, task in zip(names, tasks, strict=True) if name not in self.made}
        for trial in side_by_side(list(left.values()), parallel) if parallel > 1 else self._in_turn(left, progress):
            self.keep(trial)
            said = f"failed: {trial.failed}" if trial.measure is None else percent(trial.measure)
            progress.say(f"trial {len(self.made)}: {told(trial.settings) or 'the default'}, {trial.steps} steps: {said}")
        return [self.made[name] for name in names]

    def _in_turn(self, tasks: Mapping[str, Task], progress: Progress) -> Iterator[Trial]:
        return (make(task, progress) for task in tasks.values())


def percent(rate: Mapping[str, Any], what: str = "") -> str:
    """``62.5 % [57.1, 68.0]``, on how many of ``what``, and whether the model is unchanged."""
    said = f" on {rate['clusters']} {what}" if what else ""
    said += ", unchanged" if rate.get("unchanged") else ""
    return f"{100 * rate['estimate']:.1f} % [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]{said}"


def side_by_side(tasks: Sequence[Task], parallel: int) -> Iterator[Trial]:
    """Trials as they finish, so many at once, each with its share of the machine's cores and GPUs."""
    ray = import_ray(SIDE_BY_SIDE)
    connect(ray, os.environ.get("RAY_ADDRESS") or "local")
    has = ray.cluster_resources()
    share = {"num_cpus": max(1, int(has.get("CPU", 1)) // parallel), "num_gpus": min(1.0, has.get("GPU", 0) / parallel)}
    remote = ray.remote(make).options(**share)
    waiting = [remote.remote(task, Progress()) for task in tasks]
    while waiting:
        done, waiting = ray.wait(waiting)
        yield ray.get(done[0])
