"""How many tokens a pass held on this machine when memory had run out, kept for the next run of the same model."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefine.cache import cache_folder
from prefine.errors import StorageError
from prefine.runs import write_json


def memory_key(model: Any, work: str, device: Any = None, checkpointing: bool = False) -> str:
    """What decides how much a pass needs and how much there is: device and its memory, the model's config and dtype, what is trained.

    Args:
        model: loaded, bare or with an adapter; work: ``train``, ``score`` or ``sample``.
        device: where it will run; unset: where it is. checkpointing: whether activations are computed again in backward.
    """
    import torch

    weights = next(p for p in model.parameters() if p.is_floating_point())
    config = json.dumps(model.config.to_dict() | {"_name_or_path": ""}, sort_keys=True, default=str)
    kind = "adapter" if hasattr(model, "peft_config") else "full"
    device = torch.device(device or weights.device)
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        name, total = found.name, found.total_memory
    else:
        name, total = device.type, 0
        with suppress(ValueError, OSError, AttributeError):  # a system that does not tell
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    parts = (
        f"{work} {model.config.model_type} {hashlib.sha256(config.encode()).hexdigest()[:16]}",
        f"{str(weights.dtype).removeprefix('torch.')}, {kind}{', checkpointing' if checkpointing else ''}",
        f"{name} with {total / 2**30:.0f} GiB",
    )
    return "; ".join(parts)


def learned_tokens(key: str) -> int | None:
    """What was remembered under a key; None where nothing is, or the file is damaged."""
    found = _read().get(key)
    return found if isinstance(found, int) and found > 0 else None


def remember_tokens(key: str, tokens: int) -> None:
    """Keep a number for the next run; a cache folder that cannot be written to keeps nothing."""
    with suppress(OSError, StorageError):
        _path().parent.mkdir(parents=True, exist_ok=True)
        write_json(_path(), _read() | {key: tokens})


def _path() -> Path:
    return cache_folder() / "token_budgets.json"


def _read() -> dict[str, Any]:
    try:
        found = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
