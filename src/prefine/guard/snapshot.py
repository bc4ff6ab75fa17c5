"""The weights that a run may go back to, with the optimizer's state, on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from prefine.runs import read_json, write_json

STEPS = "steps.json"
"""Beside the weights: of which step each are."""


class Snapshots:
    """Trained weights of the start, of the last two looks when nothing was wrong, and the best by the held-out loss.

    Each holds the trained weights and the optimizer's state: three times the trained weights on disk with AdamW.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = folder / STEPS
        self.steps: dict[str, int] = read_json(kept) if kept.exists() else {}

    def keep(self, trainer: Any, name: str = "last") -> None:
        """Keep the weights of this moment; what was ``last`` becomes the one before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if name == "last" and "last" in self.steps:
            self._path("last").replace(self._path("before"))
            self.steps["before"] = self.steps["last"]
        weights = {n: p.detach().cpu() for n, p in trainer.scorer.unwrapped.named_parameters() if p.requires_grad}
        more = trainer.extra_state() if hasattr(trainer, "extra_state") else {}
        whole = {"weights": weights, "optimizer": trainer.optimizer.state_dict(), "more": more}
        beside = self._path(name).with_suffix(".tmp")
        torch.save(whole, beside)
        beside.replace(self._path(name))
        self.steps[name] = int(trainer.state.global_step)
        write_json(self.folder / STEPS, self.steps)

    def back_to(self, trainer: Any, latest: int, best: bool = False) -> int:
        """Give the trainer the newest weights of a step up to ``latest``, or where wanted the best of those; returns their step."""
        at = {name: step for name, step in self.steps.items() if step <= latest} or {"start": self.steps["start"]}
        name = "best" if best and "best" in at else max(at, key=lambda n: at[n])
        kept = torch.load(self._path(name), map_location="cpu", weights_only=True)
        weights = dict(trainer.scorer.unwrapped.named_parameters())
        with torch.no_grad():
            for place, value in kept["weights"].items():
                weights[place].copy_(value)
        trainer.optimizer.load_state_dict(kept["optimizer"])
        if kept["more"]:
            trainer.load_extra_state(kept["more"])
        return self.steps[name]

    def discard(self) -> None:
        """Delete them."""
        self.steps.clear()
        for path in (*self.folder.glob("*.pt"), self.folder / STEPS):
            path.unlink(missing_ok=True)
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.pt"
