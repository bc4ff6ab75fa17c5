"""Signals that are heard within a block, and afterwards by whoever heard them before."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def hearing(numbers: Iterable[int], heard: Callable[[int, Any], None], over: Callable[[Any], bool]) -> Iterator[None]:
    """Within the block ``heard`` is called on these signals; outside the main thread, where Python allows it none, it is not.

    Args:
        over: whether a signal's handler so far gives way.
    """
    mine = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in numbers} if mine else {}
    listened = [number for number, handler in before.items() if over(handler)]
    for number in listened:
        signal.signal(number, heard)
    try:
        yield
    finally:
        for number in listened:
            signal.signal(number, before[number])
