"""Ray, where work is independent and outgrows one machine: workers anywhere do parts of it, and what they make is given back in order.

A worker that is lost is replaced, and its part done again.
"""

from __future__ import annotations

import importlib
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from prefine import __version__
from prefine.errors import ConfigError, DataError
from prefine.redaction import brief

Made = TypeVar("Made")
Task = TypeVar("Task")
PATIENCE = 10.0
"""Seconds that a cluster's head has to be found."""
TRIES = 3
"""Workers that may be lost over one part: what it holds is likely what they die of."""


@dataclass
class ClusterOptions:
    """Where independent work is done."""

    GROUP: ClassVar[str] = "cluster"
    ray: str | None = field(
        default=None, metadata={"help": "Do the work on a Ray cluster: auto (the one this machine is of), local (this machine), HOST:PORT."}
    )
    ray_workers: int | None = field(default=None, metadata={"help": "Workers on it. Unset: one a GPU where it uses one, else one a core."})

    def check_cluster(self) -> None:
        """Refuse what could not be.

        Raises:
            ConfigError: no such number, no Ray, or workers of nothing.
        """
        if self.ray is None and self.ray_workers is not None:
            raise ConfigError("--ray-workers would be ignored without --ray; give --ray local, say", code="PF-C04")
        if self.ray_workers is not None and self.ray_workers < 1:
            raise ConfigError(f"--ray-workers is {self.ray_workers}; expected at least 1", code="PF-C03")
        if self.ray is not None:
            import_ray()


def import_ray(what: str = "--ray does work through") -> Any:
    """The module.

    Args:
        what: wants it, in words before its name.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError(f"{what} Ray: pip install ray; or leave it out", code="PF-C10") from error


def connect(ray: Any, address: str) -> None:
    """Join a cluster, or start one of this machine.

    Raises:
        ConfigError: there is none at this address.
    """
    if ray.is_initialized():
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a worker without GPU keeps its environment
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    try:
        if address not in ("local", "auto"):
            place = urlsplit(address if "://" in address else f"//{address}")
            socket.create_connection((place.hostname or "", place.port or 0), PATIENCE).close()  # Ray would wait for minutes
        ray.init(address=address, **quiet | ({"include_dashboard": False} if address == "local" else {}))
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise ConfigError(f"Ray: no cluster at {address} ({brief(error)}); ray start --head begins one") from error


class Workers:
    """Workers of one kind on a cluster.

    Args:
        start: called first in each, with what is ``given``; what it leaves in its module is there for the work.
        gpus: whether each takes a GPU where the cluster has some.
        died: the error where a part was lost :data:`TRIES` times.
    """

    def __init__(self, own: ClusterOptions, start: Callable[..., None], given: tuple[Any, ...], died: str, gpus: bool = False) -> None:
        self.ray = import_ray()
        assert own.ray is not None
        connect(self.ray, own.ray)
        has = self.ray.cluster_resources()
        on_gpus = gpus and has.get("GPU", 0) >= 1
        self.number = own.ray_workers or max(1, int(has.get("GPU" if on_gpus else "CPU", 1)))
        share = {"num_cpus": 1, "num_gpus": 1 if on_gpus else 0}
        self._kind = self.ray.remote(_Worker).options(**share)
        self._given, self._died = (start, given, __version__, os.getcwd()), died
        self._free: list[Any] = []
        self._running: dict[Any, tuple[int, Any, Any, int]] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let them go."""
        for worker in [*self._free, *(worker for _, _, worker, _ in self._running.values())]:
            self.ray.kill(worker)
        self._free, self._running = [], {}

    def map(self, work: Callable[[Task], Made], tasks: Iterable[Task]) -> Iterator[Made]:
        """What workers make of tasks, in their order; so many are read ahead that none waits.

        Raises:
            DataError: a part was lost as often as it may be.
        """
        coming, again = enumerate(tasks), deque[tuple[int, Any, int]]()
        made: dict[int, Made] = {}
        given = next_out = 0
        done = False
        while True:
            while not done and len(self._running) < self.number and given < next_out + 2 * self.number + 2 and not again:
                try:
                    place, task = next(coming)
                except StopIteration:
                    done = True
                else:
                    given = place + 1
                    self._hand(work, place, task, 0)
            while again and len(self._running) < self.number:
                self._hand(work, *again.popleft())
            if not self._running:
                return
            [ready], _ = self.ray.wait(list(self._running), num_returns=1)
            place, task, worker, lost = self._running.pop(ready)
            try:
                made[place] = self.ray.get(ready)
                self._free.append(worker)
            except self.ray.exceptions.RayTaskError as error:
                self._free.append(worker)
                raise error.cause from error
            except self.ray.exceptions.RayError as error:
                if lost + 1 >= TRIES:
                    raise DataError(f"{self._died} ({type(error).__name__}, {TRIES} times)", code="PF-M08") from error
                again.append((place, task, lost + 1))
            while next_out in made:
                yield made.pop(next_out)
                next_out += 1

    def _hand(self, work: Callable[[Any], Any], place: int, task: Any, lost: int) -> None:
        worker = self._free.pop() if self._free else self._kind.remote(*self._given)
        self._running[worker.do.remote(work, task)] = (place, task, worker, lost)


class _Worker:
    """One of them, in a process of its own."""

    def __init__(self, start: Callable[..., None], given: tuple[Any, ...], version: str, folder: str) -> None:
        self._start, self._given, self._version, self._folder = start, given, version, folder
        self._started = False

    def do(self, work: Callable[[Any], Any], task: Any) -> Any:
        """Work on a task; what an error says travels better than one that the worker's start raises."""
        if not self._started:
            if self._version != __version__:
                raise ConfigError(f"a worker of the cluster has Prefine {__version__}, and this is {self._version}; install one on all")
            if os.path.isdir(self._folder):  # names of files are understood from where the command was given
                os.chdir(self._folder)
            self._start(*self._given)
            self._started = True
        return work(task)
