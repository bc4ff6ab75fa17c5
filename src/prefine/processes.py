"""The processes of one run, as its launcher numbers them (torchrun, accelerate launch, prefine launch), and worker processes on data.

Torch is not imported here. Of a run's processes the first owns the files, what is said, and what comes after training; the others follow.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import ModuleType
from typing import Any, TypeVar

from prefine.errors import DataError, PrefineError

Task = TypeVar("Task")
Made = TypeVar("Made")

LONG = timedelta(days=30)
"""For which processes wait for the first: for as long as an evaluation takes."""
PATIENCE = 5.0
"""Seconds after which a process that failed says so itself: where the first failed of the same, its launcher has ended this one by then."""
_waiting: list[Any] = []
"""The group in which they wait, made at the first time."""


def several() -> bool:
    """Whether this process is one of several."""
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def number() -> int:
    """This process's, from 0."""
    return int(os.environ.get("RANK") or 0)


def is_first() -> bool:
    """Whether this is the one that owns the files."""
    return number() == 0


def meet() -> None:
    """Wait until all processes are here; with one, or before they know of each other, nothing."""
    torch = sys.modules.get("torch")
    if not several() or torch is None or not torch.distributed.is_initialized():
        return
    if not _waiting:
        _waiting.append(torch.distributed.new_group(backend="gloo", timeout=LONG))
    try:
        torch.distributed.barrier(group=_waiting[0])
    except RuntimeError as error:  # gloo's, where a connection broke
        raise PrefineError("another process of this run has ended; what it said stands above") from error


@contextmanager
def first_then_others() -> Iterator[None]:
    """The block is run by the first process, then by the first of each other machine, then by all others; they find what it left in the
    cache, which machines may share or not.
    """
    turn = 0 if is_first() else 1 if int(os.environ.get("LOCAL_RANK") or 0) == 0 else 2
    for _ in range(turn):
        meet()
    yield
    for _ in range(2 - turn):
        meet()


def by_workers(
    work: Callable[[Task], Made], tasks: Iterable[Task], workers: int, start: Callable[..., None], given: tuple[Any, ...], died: str
) -> Iterator[Made]:
    """What worker processes make of tasks, in their order; so many are read ahead that none waits.

    Args:
        start: called first in each worker, with what is ``given``; died: the error where a worker died.

    Raises:
        DataError: a worker died.
    """
    import multiprocessing
    from concurrent.futures import Future, ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    # "spawn": the parent has threads (tokenizers, BLAS), which a fork would copy in an unknown state.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start, given)
    waiting: deque[Future[Made]] = deque()
    try:
        for task in tasks:
            with _without_script():
                waiting.append(pool.submit(work, task))
            if len(waiting) > 2 * workers + 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(died, code="PF-M08") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _without_script() -> Iterator[None]:
    """Within the block, a process that is started by "spawn" does not run the caller's script first, which would start more of them where
    it has no ``if __name__ == "__main__"``.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def give_way(of_others: bool = False) -> None:
    """Called where a process has failed and would say so: it is left to the first to say what all failed of.

    Args:
        of_others: what it failed of may be that another process ended, whose words are to be heard first, and the launcher's end be met.
    """
    if several() and (of_others or not is_first()):
        time.sleep(3 * PATIENCE if of_others else PATIENCE)  # one that failed itself, and waits for the first, speaks sooner


def part() -> None:
    """Leave the others, at a command's end: threads of their groups that last into the interpreter's end abort it now and then."""
    torch = sys.modules.get("torch")
    if several() and torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        _waiting.clear()
        torch.distributed.destroy_process_group()
