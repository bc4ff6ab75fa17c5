"""Work that ran out of memory is undone and done again in smaller pieces. Torch is not imported here.

Left out: memory of the system that is promised and never refused, where Linux ends the process instead.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import TypeVar

from prefine.errors import PrefineError

T = TypeVar("T")
PIECE_BYTES = 64 * 2**20
"""Parameters that move together where an optimizer's step keeps copies, to be taken back: with all of torch's own but fused ones."""
CAUGHT = (RuntimeError, MemoryError)
"""What the kinds of running out of memory are raised as."""
WORDS = (
    "out of memory",  # CUDA, HIP, MPS, XPU
    "outofmemory",  # hipErrorOutOfMemory
    "out_of_device_memory",  # XPU: UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY
    "out_of_host_memory",
    "error_out_of_resources",  # XPU: UR_RESULT_ERROR_OUT_OF_RESOURCES
    "can't allocate memory",  # DefaultCPUAllocator on Linux
    "cannot allocate memory",
    "not enough memory",  # DefaultCPUAllocator on Windows
    "unable to allocate",  # NumPy
    "alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED, CUDNN_STATUS_ALLOC_FAILED, rocBLAS and hipBLAS likewise
    "memory allocation failure",
    "cudaerrormemoryallocation",
)
"""What is said of it, in lower case: torch's allocators, the vendors' libraries, NumPy."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or the one that it was raised from, says that memory ran out; our own sentences about it do not."""
    if isinstance(error, PrefineError):
        return False
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error).lower()
    if isinstance(error, RuntimeError) and any(word in said for word in WORDS):
        return True
    return error.__cause__ is not None and is_out_of_memory(error.__cause__)


def free_memory() -> None:
    """Give back what is held for nothing: cycles of Python's objects, the accelerator's cached blocks."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    for device in (torch.cuda, torch.xpu, torch.mps):
        if device.is_available():
            device.empty_cache()


def smaller_on_oom(work: Callable[[], T], shrink: Callable[[], None], undo: Callable[[], None] = lambda: None) -> T:
    """What ``work`` gives; where it runs out of memory, undo what it left, shrink, and do it again.

    Args:
        work: is called anew each time, and looks at what ``shrink`` changes.
        shrink: makes the next try smaller; raises where it cannot be.
        undo: takes back what a failed try did.
    """
    while True:
        try:
            return work()
        except CAUGHT as error:
            if not is_out_of_memory(error):
                raise
        # Only here, where the error is gone, are the failed try's tensors gone too: its frames held them.
        undo()
        free_memory()
        shrink()
