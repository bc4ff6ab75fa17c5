"""What a run of ``prefine dpo`` ends with where one process cannot load the model that all shared out."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from prefine.api import dpo


@pytest.mark.parametrize("shared_out", [True, False])
def test_without_room_for_the_whole_model_what_was_measured_is_said(shared_out: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*given: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(dpo, "finish", short)
    trainer = SimpleNamespace()
    started: Any = SimpleNamespace(run=SimpleNamespace(path=Path("runs/x")), seconds=1.0, setup=SimpleNamespace(progress=None))
    measured = {"eval_rewards/accuracies": 0.625, "eval_rewards/margins": 0.5} if shared_out else {}
    given: Any = (trainer, started, None, None, [], range(8), measured)
    if not shared_out:
        with pytest.raises(torch.OutOfMemoryError):
            dpo._conclusion(*given)
        return
    lines = dpo._conclusion(*given)
    assert lines[0] == "held-out pairs: reward accuracy 62.5 % of 8, margin 0.500"
    assert "prefine eval runs/x --judge ..." in lines[1]
