"""The win rate as it trains, in trainers that are not ours."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import prefine as pf
from conftest import lab_pairs

PROMPTS = [[{"role": "user", "content": f"my {thing} is loud"}] for thing in ("kettle", "phone", "lamp", "oven")]


def longer(prompt: str, response: str) -> float:
    return float(len(response))


def loaded(lab_model: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(lab_model), AutoTokenizer.from_pretrained(lab_model)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("told", [False, True])
def test_inside_trls_own_trainer(lab_model: Path, tmp_path: Path, told: bool) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    rows = [r | {k: [{"role": "assistant", "content": r[k]}] for k in ("chosen", "rejected")} for r in lab_pairs(16)]
    settings = {"per_device_train_batch_size": 4, "max_steps": 5, "learning_rate": 1e-2, "report_to": "none", "logging_steps": 1}

    def train(callback: Any) -> Any:
        model, tokenizer = loaded(lab_model)
        args = DPOConfig(output_dir=str(tmp_path), save_strategy="no", use_cpu=True, disable_tqdm=True, **settings)
        trainer = DPOTrainer(model, args=args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        if callback is not None:
            callback._trainer = trainer if told else None
            trainer.add_callback(callback)
        trainer.train()
        return trainer

    callback = pf.VerdictCallback(PROMPTS, longer, every_steps=2, max_new_tokens=6)
    trainer = train(callback)
    assert [h["step"] for h in callback.history] == [2, 4, 5]
    logged = [entry for entry in trainer.state.log_history if "verdict/win_rate" in entry]
    assert [entry["step"] for entry in logged] == [2, 4, 5]
    for entry in logged:
        assert 0 <= entry["verdict/win_rate_low"] <= entry["verdict/win_rate"] <= entry["verdict/win_rate_high"] <= 1
        assert entry["verdict/num_prompts"] == 4
    # Looking changes nothing of what is looked at.
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses == [entry["loss"] for entry in train(None).state.log_history if "loss" in entry]


@pytest.mark.filterwarnings("ignore")
def test_inside_our_trainer_with_an_adapter(lab_model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig

    model, tokenizer = loaded(lab_model)
    callback = pf.VerdictCallback(PROMPTS, pf.FunctionJudge(longer), every_steps=3, max_new_tokens=6)
    args = pf.DPOConfig(output_dir=str(tmp_path), max_steps=3, per_device_train_batch_size=4, report_to="none", disable_tqdm=True)
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = pf.DPOTrainer(
        model, args=args, train_dataset=lab_pairs(8), processing_class=tokenizer, callbacks=[callback], peft_config=adapter
    )
    trainer.train()
    assert [h["step"] for h in callback.history] == [3]


def train(lab_model: Path, folder: Path, callback: Any, steps: int, **more: Any) -> Any:
    model, tokenizer = loaded(lab_model)
    settings = {"per_device_train_batch_size": 4, "report_to": "none", "disable_tqdm": True, "learning_rate": 1e-2, "save_steps": 2}
    args = pf.DPOConfig(output_dir=str(folder), max_steps=steps, lr_scheduler_type="constant", warmup_steps=0, **settings)
    trainer = pf.DPOTrainer(model, args=args, train_dataset=lab_pairs(16), processing_class=tokenizer, callbacks=[callback])
    trainer.train(**more)
    return trainer


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_is_compared_with_where_the_first_began(lab_model: Path, tmp_path: Path) -> None:
    whole = pf.VerdictCallback(PROMPTS, longer, every_steps=2, max_new_tokens=6)
    train(lab_model, tmp_path / "a", whole, 4)
    train(lab_model, tmp_path / "b", pf.VerdictCallback(PROMPTS, longer, every_steps=2, max_new_tokens=6), 2)
    again = pf.VerdictCallback(PROMPTS, longer, every_steps=2, max_new_tokens=6)
    train(lab_model, tmp_path / "b", again, 4, resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-2"))
    assert again.history == whole.history[1:]
    (tmp_path / "b" / "verdict_callback.json").unlink()
    with pytest.raises(pf.PrefineError, match="training is resumed"):
        train(lab_model, tmp_path / "b", again, 4, resume_from_checkpoint=str(tmp_path / "b" / "checkpoint-2"))


def test_a_judge_that_fails_costs_a_look_alone(lab_model: Path, tmp_path: Path) -> None:
    def fails(prompt: str, response: str) -> float:
        raise OSError("rate limit")

    callback = pf.VerdictCallback(PROMPTS, fails, every_steps=2, max_new_tokens=4)
    with pytest.warns(UserWarning, match=r"no win rate at step \d: .*rate limit"):
        trainer = train(lab_model, tmp_path, callback, 3)
    assert trainer.state.global_step == 3
    assert [h["step"] for h in callback.history] == [2, 3]
    assert all(math.isnan(h["verdict/win_rate"]) for h in callback.history)


def test_mistakes_before_training() -> None:
    with pytest.raises(pf.PrefineError, match="every_steps is 0"):
        pf.VerdictCallback(PROMPTS, longer, every_steps=0)
    with pytest.raises(pf.PrefineError, match="no prompts"):
        pf.VerdictCallback([], longer)
    with pytest.raises(pf.PrefineError, match="prompt 0: expected text"):
        pf.VerdictCallback([3], longer)
    with pytest.raises(pf.PrefineError, match="did you mean 'openai'"):
        pf.VerdictCallback(PROMPTS, "openi")
