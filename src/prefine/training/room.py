"""Whether the disk has room for what a run writes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from prefine.errors import StorageError

MIB = 2**20


def check_room(trainer: Any, folder: Path) -> None:
    """Refuse a run whose first checkpoint and model would not fit.

    What they take is reckoned low: weights twice, and two states a trained weight where the optimizer is Adam in full precision.

    Raises:
        StorageError: how much is free, and how much is needed.
    """
    if trainer.args.save_strategy == "no":
        return
    model = trainer.scorer.unwrapped
    trained_bytes = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    adapter = hasattr(model, "peft_config")
    weights_bytes = trained_bytes if adapter else sum(p.numel() * p.element_size() for p in model.parameters())
    optim = str(getattr(trainer.args.optim, "value", trainer.args.optim))
    states_bytes = 2 * trained_bytes if "adam" in optim and not any(small in optim for small in ("8bit", "4bit", "paged")) else 0
    needed = 2 * weights_bytes + (0 if trainer.args.save_only_model else states_bytes)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageError(
            f"{folder}: {free / MIB:,.1f} MiB are free, and a checkpoint and the model take at least {needed / MIB:,.1f} MiB; "
            "free some space, or give an --output-dir on another disk"
        )
