"""Training in float16 with loss scaling, as on GPUs without bfloat16: autocast and the scaler are torch's own, on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

import prefine as pf
from conftest import lab_pairs
from prefine.scoring.held_in_half import linears_alone_in_half

pytestmark = pytest.mark.filterwarnings("ignore")
FIRST = 2.0**10
METHODS: dict[str, Any] = {
    "dpo": (pf.DPOConfig, pf.DPOTrainer),
    "sft": (pf.SFTConfig, pf.SFTTrainer),
    "reward": (pf.RewardConfig, pf.RewardTrainer),
}


def in_float16(trainer: Any, scale: float) -> Any:
    """What accelerate does on a GPU, which it leaves out on a processor."""
    AcceleratorState()._mixed_precision = "fp16"
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=10**6)
    trainer.accelerator.native_amp = True
    return trainer


def trained(method: str, lab_model: Path, folder: Path, half: bool, scale: float = FIRST, lora: bool = False, **options: Any) -> Any:
    config, kind = {
        "dpo": (pf.DPOConfig, pf.DPOTrainer),
        "sft": (pf.SFTConfig, pf.SFTTrainer),
        "reward": (pf.RewardConfig, pf.RewardTrainer),
    }[method]
    options = {"max_steps": 4, "per_device_train_batch_size": 4, "logging_steps": 1, "learning_rate": 1e-4, "save_strategy": "no"} | options
    args = config(str(folder), bf16=half, use_cpu=True, lr_scheduler_type="constant", warmup_steps=0, report_to="none", **options)
    model: Any = str(lab_model)
    if lora and half:
        model = AutoModelForCausalLM.from_pretrained(lab_model, dtype=torch.float16)
        linears_alone_in_half(model)
    peft = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None
    rows = lab_pairs(16)
    rows = (
        rows if method != "sft" else [{"prompt": r["prompt"], "completion": [{"role": "assistant", "content": r["chosen"]}]} for r in rows]
    )
    torch.manual_seed(0)
    trainer = kind(model, args=args, train_dataset=rows, processing_class=AutoTokenizer.from_pretrained(lab_model), peft_config=peft)
    if half:
        in_float16(trainer, scale)
    trainer.train()
    return trainer


def curve(trainer: Any, name: str) -> list[float]:
    return [row[name] for row in trainer.state.log_history if name in row]


@pytest.mark.parametrize("method", ["dpo", "sft", "reward"])
@pytest.mark.parametrize("lora", [False, True])
def test_it_follows_float32(method: str, lora: bool, lab_model: Path, tmp_path: Path) -> None:
    if method == "reward" and lora:
        pytest.skip("a reward model is loaded with its own head")
    exact = trained(method, lab_model, tmp_path / "a", False, lora=lora)
    half = trained(method, lab_model, tmp_path / "b", True, lora=lora)
    assert curve(half, "loss") == pytest.approx(curve(exact, "loss"), abs=5e-3)
    assert curve(half, "grad_norm") == pytest.approx(curve(exact, "grad_norm"), rel=0.05)
    assert all(p.dtype == torch.float32 for p in half.model.parameters() if p.requires_grad)
    assert half.accelerator.scaler.get_scale() == FIRST


def test_a_scale_that_overflows_is_lowered_and_its_update_skipped(lab_model: Path, tmp_path: Path) -> None:
    """The scaler finds its scale in the first updates; weights and later updates are those of a lower scale from the start."""
    trainer = trained("dpo", lab_model, tmp_path, True, scale=2.0**26, max_steps=20)
    assert 2.0**8 < trainer.accelerator.scaler.get_scale() < 2.0**26
    assert trainer.weights_are_finite()
    assert curve(trainer, "loss")[-1] < curve(trainer, "loss")[0] - 0.02
    assert trainer.skipped_in_a_row == 0


def test_many_packs_and_batches_are_one_update(lab_model: Path, tmp_path: Path) -> None:
    whole = trained("dpo", lab_model, tmp_path / "a", True)
    apart = trained("dpo", lab_model, tmp_path / "b", True, per_device_train_batch_size=2, gradient_accumulation_steps=2, token_budget="40")
    assert curve(apart, "loss") == pytest.approx(curve(whole, "loss"), abs=5e-3)
    assert curve(apart, "grad_norm") == pytest.approx(curve(whole, "grad_norm"), rel=0.05)


def test_memory_that_runs_out_changes_nothing(lab_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained("dpo", lab_model, tmp_path / "a", True)
    backward, calls = pf.DPOTrainer.backward, []

    def fails(self: Any, loss: torch.Tensor) -> None:
        calls.append(loss)
        backward(self, loss)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(pf.DPOTrainer, "backward", fails)
    again = trained("dpo", lab_model, tmp_path / "b", True)
    assert len(calls) > 4
    assert curve(again, "loss") == pytest.approx(curve(whole, "loss"), abs=5e-3)
    assert curve(again, "grad_norm") == pytest.approx(curve(whole, "grad_norm"), rel=0.05)
