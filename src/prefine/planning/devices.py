"""Devices by name, with what their makers publish; the one that is found here, and the memory that this process may take."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from prefine.errors import ConfigError, nearest

GIB = 2**30
EFFICIENCY = 0.35
"""Of a published rate, what training is taken to reach: an assumption. PaLM reports 46 % (arXiv 2204.02311, table 3) on large batches;
shared-prompt packs are small, and LoRA adds small matrices."""
CUDA_CONTEXT = 600 * 2**20
"""What CUDA and its libraries hold before the first tensor: an assumption, not measured here."""


@dataclass(frozen=True)
class Device:
    """A place to train on.

    Attributes:
        kind: torch's name of its type; memory_bytes: in all.
        flops: operations a second in ``half``, without sparsity, as published; None where its maker publishes none.
        half: the dtype that it multiplies in at that rate; source: where the numbers are from.
        available_bytes: what is free now, with what this process holds; None of a device that is only named.
    """

    name: str
    kind: str
    memory_bytes: int
    flops: float | None = None
    half: str = "bfloat16"
    source: str = ""
    available_bytes: int | None = None

    @property
    def room(self) -> int:
        """What a run may take: all of a device that is only named, of one found here what is available."""
        return self.memory_bytes if self.available_bytes is None else min(self.memory_bytes, self.available_bytes)


def _gpu(name: str, gib: float, tera: float, source: str, half: str = "bfloat16") -> Device:
    return Device(name, "cuda", int(gib * GIB), tera * 1e12, half, source)


DEVICES: dict[str, Device] = {
    d.name: d
    for d in (
        _gpu("h200-141gb", 141, 989.4, "NVIDIA H200 datasheet: SXM; half of the rate with sparsity"),
        _gpu("h100-80gb", 80, 989.4, "NVIDIA H100 datasheet: SXM; half of the rate with sparsity"),
        _gpu("a100-80gb", 80, 312, "NVIDIA A100 datasheet"),
        _gpu("a100-40gb", 40, 312, "NVIDIA A100 datasheet"),
        _gpu("rtx4090", 24, 165.2, "NVIDIA Ada GPU architecture whitepaper: bf16 with FP32 accumulate"),
        _gpu("rtx3090", 24, 71, "NVIDIA GA102 GPU architecture whitepaper: bf16 with FP32 accumulate"),
        _gpu("l4", 24, 121, "NVIDIA L4 datasheet: half of the rate with sparsity"),
        _gpu("t4", 16, 65, "NVIDIA T4 datasheet; it has no bfloat16", "float16"),
        Device("mac-m3-36gb", "mps", 36 * GIB, None, "float32", "Apple's technical specifications; no matrix rate is published"),
    )
}


def device_of(name: str | None) -> Device:
    """A device by its name; ``cpu``: this machine's processor; None: the GPU found here, else the processor.

    Raises:
        ConfigError: no such device, with the nearest name.
    """
    if name is None or name == "cpu":
        return processor() if name == "cpu" else found()
    if name not in DEVICES:
        known = [*DEVICES, "cpu"]
        raise ConfigError(f"--device {name}: not in the table{nearest(name, known)}; there are: {', '.join(known)}")
    return DEVICES[name]


def kind_here() -> str:
    """torch's name of what it would train on here; no GPU is woken for it."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def found() -> Device:
    """The GPU that torch would train on, else the processor."""
    import torch

    if kind_here() == "cuda":
        free, total = torch.cuda.mem_get_info()
        half = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
        return Device(torch.cuda.get_device_name(), "cuda", total, None, half, "found here", free + CUDA_CONTEXT)
    return processor()


def processor() -> Device:
    """This machine's processor, with the memory that the process may take: the machine's, or its control group's limit."""
    total, available = machine_memory()
    return Device("cpu", "cpu", total, None, "float32", "found here", available + resident_bytes())


def machine_memory(root: Path = Path("/")) -> tuple[int, int]:
    """Bytes of memory in all, and those that are available.

    Args:
        root: where ``proc`` and ``sys`` are.
    """
    try:
        rows = dict(line.split(":") for line in (root / "proc/meminfo").read_text().splitlines() if ":" in line)
        total, available = (1024 * int(rows[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError):  # not Linux: what is free is not told without another package
        total = available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit, used in _limits(root):
        total, available = min(total, limit), min(available, max(0, limit - used))
    return total, available


def _limits(root: Path) -> list[tuple[int, int]]:
    """Limit and use of each control group that this process is in, versions 2 and 1: those of its own path, and those above."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        own = base / path.lstrip("/")
        for folder in (own, *own.parents):
            if folder.is_relative_to(base):
                try:
                    limit, used = ((folder / name).read_text().strip() for name in names)
                except OSError:
                    continue
                if limit != "max":
                    found.append((int(limit), int(used)))
    return found


def resident_bytes() -> int:
    """What this process holds now; 0 where the system does not tell."""
    try:
        return 1024 * int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])
    except (OSError, IndexError):
        return 0
