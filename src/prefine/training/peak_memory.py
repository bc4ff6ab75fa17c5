"""The most memory that was held."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch


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
