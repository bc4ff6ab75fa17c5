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
        facts: versions, machine, git state, as a run's ``environment.json`` holds them; accelerators: each by its name and memory.
    """

    facts: Mapping[str, Any]
    accelerators: tuple[str, ...]

    def lines(self) -> list[str]:
        """To paste into a bug report."""
        facts = self.facts
        rows = [("python", facts["python"]), ("platform", facts["platform"]), ("CPUs", facts["cpu_count"])]
        rows += [("accelerator", name) for name in self.accelerators or ("none",)]
        return [printable(f"{name}: {value}") for name, value in (*facts["versions"].items(), *rows)]

    def parts(self) -> list[Any]:
        """What there is to see."""
        return self.lines()


@call(EnvironmentOptions)
def environment(given: EnvironmentOptions, progress: Progress) -> Environment:
    """Versions of what computes, the machine and its accelerators."""
    progress.stage("asking torch for accelerators")
    import torch

    found = [f"{p.name}, {p.total_memory / 2**30:.0f} GiB" for p in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("Apple MPS")
    return Environment(measured(), tuple(found))
