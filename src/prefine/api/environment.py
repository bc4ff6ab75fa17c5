"""Versions and hardware, for bug reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefine.api.calls import call
from prefine.api.progress import Progress
from prefine.api.tables import Shows
from prefine.errors import printable
from prefine.runs import environment as measured


@dataclass
class EnvironmentOptions:
    """Options of ``prefine env``: none."""


@dataclass(frozen=True, repr=False)
class Environment(Shows):
    """What computes here.

    Attributes:
        facts: versions, machine, git state, as a run's ``environment.json`` holds them; accelerators: each by its name, memory and what
            Prefine takes of it; unused: why a GPU that is there is not among them; precision: what ``--dtype auto`` is.
    """

    facts: Mapping[str, Any]
    accelerators: tuple[str, ...]
    unused: str = ""
    precision: str = ""

    def lines(self) -> list[str]:
        """To paste into a bug report."""
        facts = self.facts
        rows = [("python", facts["python"]), ("platform", facts["platform"]), ("CPUs", facts["cpu_count"])]
        rows += [("accelerator", name) for name in self.accelerators or (f"none{f': {self.unused}' if self.unused else ''}",)]
        rows += [("precision", self.precision)] if self.precision else []
        return [printable(f"{name}: {value}") for name, value in (*facts["versions"].items(), *rows)]

    def parts(self) -> list[Any]:
        """What there is to see."""
        return self.lines()


@call(EnvironmentOptions)
def environment(given: EnvironmentOptions, progress: Progress) -> Environment:
    """Versions of what computes, the machine and its accelerators."""
    progress.stage("asking torch for accelerators")
    from prefine.scoring.accelerator import accelerators, unused_gpu
    from prefine.scoring.loading import automatic_dtype

    return Environment(measured(), tuple(accelerators()), unused_gpu(), automatic_dtype()[1])
