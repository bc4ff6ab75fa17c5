"""The most memory that was held."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

import torch

MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of glibc's malloc.h."""
OWN_PAGES = 2**16
"""Bytes from which a block lies on pages of its own, once :func:`give_back_freed_memory` was called."""


def peak_memory_bytes() -> int:
    """Most memory held since the start or :func:`forget_peak_memory`: on the GPU where there is one, else resident in this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    except (OSError, IndexError):  # not Linux
        import resource

        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


def forget_peak_memory() -> None:
    """Begin anew with what is held now; on systems that cannot, the peak stays that of the whole process."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM: proc(5)


def give_back_freed_memory() -> bool:
    """Have this process give memory back as soon as it is freed; whether its C library can (glibc).

    By default glibc keeps what is freed, and aligned blocks leave holes that the next block of the same size does not fit: LoRA with
    checkpointing held 2.4 times what was in use. New pages take time instead: a quarter more in such runs, whose tensors live shortly.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, OWN_PAGES))
    except (OSError, AttributeError, TypeError):
        return False
