"""What computes on this machine, in words; and a GPU that is there and cannot be used."""

from __future__ import annotations

import glob
import os
import warnings

import torch

from prefine.packing import varlen

NODES = "/dev/nvidia[0-9]*"
"""Where NVIDIA's driver has its GPUs on Linux."""


def unused_gpu() -> str:
    """Why an NVIDIA GPU that is there would not be used; empty where there is none, where it is, or where it was hidden on purpose."""
    if torch.cuda.is_available() or os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return ""
    found = sorted(glob.glob(NODES))
    if not found:
        return ""
    if torch.version.cuda is None:
        why = f"torch {torch.__version__} is built without CUDA; install a build with it (https://pytorch.org/get-started)"
    else:
        why = _why_not() or "CUDA finds no device; nvidia-smi may say more"
    return f"an NVIDIA GPU is there ({found[0]}), but torch cannot use it: {why}"


def _why_not() -> str:
    """What CUDA says when it is asked to begin: of a driver that is older than torch's CUDA, say."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:
            return str(error).strip().splitlines()[0]
        finally:
            told = [str(w.message).strip().splitlines()[0] for w in heard]
    return told[0] if told else ""


def accelerators() -> list[str]:
    """Each by its name, memory, capability, and how packs attend on it."""
    out = []
    for place in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(place)
        half = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        kernel = varlen.agrees(f"cuda:{place}", half, 64, 1, None, False)
        attends = "one kernel call a layer" if kernel else "one call a sequence"
        parts = f"{about.total_memory / 2**30:.0f} GiB, capability {about.major}.{about.minor}, CUDA {torch.version.cuda}"
        out.append(f"{about.name}, {parts}; {str(half).removeprefix('torch.')}; attention: {attends}")
    if torch.backends.mps.is_available():
        out.append("Apple MPS")
    return out
