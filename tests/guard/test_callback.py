"""The guard in real trainers: updates that are skipped, weights that go back, and a training that it leaves alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import prefine as pf
from conftest import lab_pairs
from prefine.cli import main
from prefine.training.dpo import DPOTrainer

SETTINGS: dict[str, Any] = {
    **{"per_device_train_batch_size": 4, "logging_steps": 1, "max_length": 128, "eval_fraction": 0.25, "seed": 3, "final_eval": "off"},
    **{"lr_scheduler_type": "constant", "warmup_steps": 0.0, "save_strategy": "no"},
}


def train(model: Path, data: Path, folder: Path, **options: Any) -> pf.Run:
    return pf.dpo(model=str(model), data=str(data), output_dir=str(folder), **{**SETTINGS, **options})


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [e for e in lines if e["event"] == kind]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model" / "model.safetensors")


@pytest.fixture
def break_loss(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], bool]], None]:
    """Make the loss NaN at some steps."""
    whole = DPOTrainer._loss

    def plant(at: Callable[[int], bool]) -> None:
        def loss(self: Any, logps: Any, weights: Any) -> Any:
            return whole(self, logps, weights) * (math.nan if at(self.state.global_step) else 1.0)

        monkeypatch.setattr(DPOTrainer, "_loss", loss)

    return plant


def test_an_update_without_a_finite_gradient_is_skipped_and_counted(
    lab_model: Path, pairs_file: Path, tmp_path: Path, break_loss: Any
) -> None:
    break_loss(lambda step: step == 3)
    run = train(lab_model, pairs_file, tmp_path / "run", max_steps=8)
    assert all(bool(torch.isfinite(w).all()) for w in weights(run.path).values())
    assert [e["step"] for e in events(run.path, "skipped_update")] == [4]
    found = events(run.path, "guard")
    assert [(e["rule"], e["step"]) for e in found if e["rule"] == "not-finite"] == [("not-finite", 4)]
    rows = [r for r in run.directory.metrics() if r["step"] == 4]
    assert rows[0]["skipped_updates"] == 1
    for line in (run.path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))


def test_a_loss_that_stays_broken_ends_the_run(lab_model: Path, pairs_file: Path, tmp_path: Path, break_loss: Any) -> None:
    break_loss(lambda step: step >= 5)
    with pytest.raises(pf.PrefineError, match=r"10 updates in a row, up to step 15"):
        train(lab_model, pairs_file, tmp_path / "run", max_steps=60)
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.filterwarnings("ignore")
def test_act_goes_back_to_the_last_good_weights_and_halves_the_rate(
    lab_model: Path, pairs_file: Path, tmp_path: Path, break_loss: Any
) -> None:
    break_loss(lambda step: 20 <= step < 24)
    run = train(lab_model, pairs_file, tmp_path / "run", max_steps=40, guard="act", guard_prompts=0, learning_rate=1e-4)
    done = [e for e in events(run.path, "guard") if e["done"]]
    assert len(done) == 1
    assert done[0]["done"] == "went back to the weights of step 20, and lowered the learning rate to 5e-05"
    rates = {m["step"]: m["learning_rate"] for m in run.directory.metrics() if "learning_rate" in m}
    assert rates[20] == pytest.approx(1e-4)
    assert rates[30] == pytest.approx(5e-5)
    assert not list((run.path / "guard").glob("*.pt"))


def test_weights_go_back_byte_for_byte(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    from prefine.guard.snapshot import Snapshots

    model = AutoModelForCausalLM.from_pretrained(lab_model)
    args = pf.DPOConfig(str(tmp_path), max_steps=2, learning_rate=1e-3, per_device_train_batch_size=4, save_strategy="no", bf16=False)
    trainer = DPOTrainer(model, None, args, train_dataset=lab_pairs(8), processing_class=AutoTokenizer.from_pretrained(lab_model))
    trainer.train()
    snapshots = Snapshots(tmp_path / "kept")
    snapshots.keep(trainer)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    moments = json.dumps([v["exp_avg"].tolist() for v in trainer.optimizer.state_dict()["state"].values()])
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    for state in trainer.optimizer.state.values():
        state["exp_avg"].zero_()
    assert snapshots.back_to(trainer, 2) == 2
    assert all(torch.equal(before[n], p) for n, p in model.named_parameters())
    assert json.dumps([v["exp_avg"].tolist() for v in trainer.optimizer.state_dict()["state"].values()]) == moments


@pytest.mark.filterwarnings("ignore")
def test_watching_and_probing_change_nothing(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    kept = []
    for mode in ("off", "warn"):
        run = train(lab_model, pairs_file, tmp_path / mode, max_steps=40, guard=mode, guard_every=8, learning_rate=1e-4)
        kept.append((weights(run.path), [m["loss"] for m in run.directory.metrics() if "loss" in m]))
    assert kept[0][1] == kept[1][1]
    assert all(torch.equal(kept[0][0][n], kept[1][0][n]) for n in kept[0][0])
    assert len(events(tmp_path / "warn", "probe")) == 4
    assert not (tmp_path / "off" / "events.jsonl").exists() or not events(tmp_path / "off", "guard")


def test_a_model_that_is_frozen_is_refused(lab_model: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(lab_model).requires_grad_(False)
    args = pf.DPOConfig(str(tmp_path), max_steps=2, bf16=False)
    trainer = DPOTrainer(model, None, args, train_dataset=lab_pairs(8), processing_class=AutoTokenizer.from_pretrained(lab_model))
    with pytest.raises(pf.PrefineError, match="no weight requires a gradient"):
        trainer.train()


@pytest.mark.filterwarnings("ignore")
def test_the_guard_watches_trls_own_trainer(lab_model: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    rows = [r | {k: [{"role": "assistant", "content": r[k]}] for k in ("chosen", "rejected")} for r in lab_pairs(16)]
    args = trl.DPOConfig(str(tmp_path), max_steps=6, logging_steps=1, learning_rate=30.0, report_to="none", bf16=False, use_cpu=True)
    trainer = trl.DPOTrainer(
        str(lab_model),
        args=args,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(lab_model),
    )
    said: list[str] = []
    guard = pf.GuardCallback(trainer, say=said.append)
    trainer.add_callback(guard)
    trainer.train()
    rules = {f.rule for f, _ in guard.findings}
    assert {"learning-rate", "loss-explodes"} <= rules
    assert any("learning rate 30 lies above" in text for text in said)
    with pytest.raises(pf.PrefineError, match=r"guard act changes what Prefine's trainers hold"):
        pf.GuardCallback(trainer, mode="act")


def test_a_mode_that_does_not_exist(lab_model: Path, pairs_file: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["dpo", "--model", str(lab_model), "--data", str(pairs_file), "--output-dir", str(tmp_path / "r"), "--guard", "wran"]
    assert main(words) == 2
    assert "did you mean 'warn'" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
def test_a_reference_that_is_not_the_start_is_found(lab_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    other = AutoModelForCausalLM.from_config(AutoModelForCausalLM.from_pretrained(lab_model).config)
    args = pf.DPOConfig(str(tmp_path), max_steps=3, logging_steps=1, save_strategy="no", bf16=False, per_device_train_batch_size=4)
    tokenizer = AutoTokenizer.from_pretrained(lab_model)
    trainer = DPOTrainer(str(lab_model), other, args, train_dataset=lab_pairs(8), processing_class=tokenizer)
    guard = pf.GuardCallback(trainer, say=lambda text: None)
    trainer.add_callback(guard)
    trainer.train()
    assert "reference-differs" in {finding.rule for finding, _ in guard.findings}


@pytest.mark.filterwarnings("ignore")
def test_rows_of_noise_are_named(lab_model: Path, tmp_path: Path) -> None:
    """A model that knows its language says which chosen responses are none of it."""
    rows = [
        {"prompt": [{"role": "user", "content": f"my mouse is loud {i}"}], "chosen": "ok . ok .", "rejected": "no . no ."}
        for i in range(120)
    ]
    for row in rows[50:60]:
        row["chosen"] = "qqq zzz xxx kkk " * 5
    tokenizer = AutoTokenizer.from_pretrained(lab_model)
    model = AutoModelForCausalLM.from_pretrained(lab_model)
    known = [{**row, "chosen": "ok . ok ."} for row in rows]
    sft = pf.SFTConfig(
        str(tmp_path / "sft"), max_steps=40, learning_rate=1e-2, per_device_train_batch_size=16, save_strategy="no", bf16=False
    )
    messages = [{"messages": [*row["prompt"], {"role": "assistant", "content": row["chosen"]}]} for row in known]
    pf.SFTTrainer(model, sft, train_dataset=messages, processing_class=tokenizer).train()
    args = pf.DPOConfig(str(tmp_path), num_train_epochs=1, logging_steps=1, save_strategy="no", bf16=False, per_device_train_batch_size=8)
    trainer = DPOTrainer(model, None, args, train_dataset=rows, processing_class=tokenizer)
    told: list[dict[str, Any]] = []
    trainer.on_event = lambda kind, **what: told.append({"event": kind, **what})
    guard = pf.GuardCallback(trainer, say=lambda text: None)
    trainer.add_callback(guard)
    trainer.train()
    assert "odd-rows" in {finding.rule for finding, _ in guard.findings}
    named = {row for event in told if event["event"] == "odd_rows" for row in event["rows"]}
    assert named <= set(range(51, 61))
    assert len(named) >= 5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["ppo", "online_dpo"])
def test_sampling_runs_end_without_a_look_at_responses(method: str, lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    options = {"response_length": 4, "max_steps": 4, "logging_steps": 1, "per_device_train_batch_size": 4, "final_eval": "off"}
    run = getattr(pf, method)(
        model=str(lab_model),
        data=str(pairs_file),
        output_dir=str(tmp_path / "run"),
        reward_function=lambda prompt, response: float(len(response)),
        **options,
    )
    assert run.directory.model.exists()
    assert run.verdict is None


def test_a_run_that_the_guard_ended_is_not_trained_on(
    lab_model: Path, pairs_file: Path, tmp_path: Path, break_loss: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"max_steps": 60, "guard_prompts": 0, "learning_rate": 1e-4, "save_strategy": "steps", "save_steps": 100}
    break_loss(lambda step: step >= 5)
    run = train(lab_model, pairs_file, tmp_path / "run", guard="act", **asked)
    [end] = [e for e in events(run.path, "guard") if e["done"].startswith("stopped")]
    before, steps = weights(run.path), len(run.directory.metrics())
    assert end["step"] < 60
    monkeypatch.undo()  # what was wrong is mended
    again = train(lab_model, pairs_file, tmp_path / "run", guard="act", resume=True, **asked)
    assert all(torch.equal(before[name], value) for name, value in weights(again.path).items())
    assert len(again.directory.metrics()) == steps
    on = train(lab_model, pairs_file, tmp_path / "run", guard="warn", resume=True, **asked)
    assert max(m["step"] for m in on.directory.metrics()) == 60
