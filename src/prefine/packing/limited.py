"""Code of a stranger's chat template, which may never end or fill the memory: it is stopped from another thread.

Jinja's sandbox bounds no loop, and a template is Python by the time it runs, so an exception can be put between any two of its steps.
A power of whole numbers is one step that may take for ever; no template needs one. Left out: one step that takes all memory by itself,
as ``"x" * 10000000000``, is seen only once it is done.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefine.errors import ModelError

SECONDS = 20.0
"""Rendering takes milliseconds."""
BYTES = 2 * 2**30
"""By which the process may grow meanwhile."""
LETTERS = 2**26
"""Of a text; four times as many as any model reads."""
EVERY = 0.05


class _Stopped(BaseException):
    """Put into the thread that renders; not an Exception, so that nothing there takes it for its own."""


class _Watch:
    """A thread of this process that looks after renderings."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: dict[int, tuple[float, int]] = {}  # thread -> when it began, bytes then
        self.stopped: dict[int, str] = {}
        self.pid = os.getpid()
        threading.Thread(target=self._look, daemon=True, name="prefine template limits").start()

    def _look(self) -> None:
        while True:
            time.sleep(EVERY)
            with self.lock:
                size = _size_bytes() if self.running else 0
                for thread, (began, before) in self.running.items():
                    if thread in self.stopped:
                        continue
                    if time.monotonic() - began > SECONDS:
                        self.stopped[thread] = f"did not end within {SECONDS:g} seconds"
                    elif size - before > BYTES:
                        self.stopped[thread] = f"took more than {BYTES / 2**30:g} GiB of memory"
                    else:
                        continue
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_Stopped))


_watch: _Watch | None = None


def _size_bytes() -> int:
    """Memory of this process; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


@functools.lru_cache(64)
def raises_to_powers(template: str) -> bool:
    """Whether a Jinja template has the operator ``**`` between two values; before a call's arguments it is another."""
    import jinja2

    before = ""
    try:
        for _, kind, text in jinja2.Environment().lex(template):
            if kind == "operator" and text == "**" and before not in ("(", ","):
                return True
            before = before if kind == "whitespace" else text
    except jinja2.TemplateError:  # it will say so itself
        return False
    return False


@contextmanager
def limited(what: str) -> Iterator[None]:
    """A block that ends within :data:`SECONDS` and :data:`BYTES`.

    Args:
        what: takes too long or too much, in the error.

    Raises:
        ModelError: it did.
    """
    global _watch
    if _watch is None or _watch.pid != os.getpid():  # a thread does not outlive a fork
        _watch = _Watch()
    watch, thread, before = _watch, threading.get_ident(), _size_bytes()
    arrived = False
    try:
        try:
            with watch.lock:
                watch.running[thread] = (time.monotonic(), before)
            yield
        except _Stopped:
            arrived = True
            raise
        finally:
            with watch.lock:
                watch.running.pop(thread, None)
            while thread in watch.stopped and not arrived:  # the block was just done: it arrives here
                time.sleep(EVERY)
    except _Stopped:
        watch.running.pop(thread, None)
        raise ModelError(f"{what} {watch.stopped.pop(thread)}; it was stopped, as it may never end") from None
