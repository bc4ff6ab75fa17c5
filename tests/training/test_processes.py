"""Two processes, and a killed one, give the same trajectory as one left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SCRIPT = """
import sys, json, torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from conftest import lab_pairs
from prefine import DPOConfig, DPOTrainer
model, out, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
args = DPOConfig(output_dir=out, per_device_train_batch_size=batch, max_steps=5, logging_steps=1, learning_rate=1e-3,
    save_strategy="no", disable_tqdm=True, seed=3, token_budget="120", ddp_backend="gloo")
trainer = DPOTrainer(model, args=args, train_dataset=lab_pairs(64))
trainer.train()
if trainer.is_world_process_zero():
    logs = [e for e in trainer.state.log_history if "loss" in e]
    json.dump([[e["loss"], e["rewards/margins"], e["grad_norm"]] for e in logs], open(out + ".json", "w"))
trainer.accelerator.end_training()  # without it gloo's threads may abort the process at its end
"""


def test_two_processes_equal_one(lab_model: Path, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parents[1])))
    found: list[Any] = []
    for processes, batch in ((1, 8), (2, 4)):
        out = tmp_path / f"{processes}"
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        done = subprocess.run(
            [*launch, str(script), str(lab_model), str(out), str(batch)], capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(json.loads(out.with_suffix(".json").read_text()))
    for one, two in zip(*found, strict=True):
        assert two == pytest.approx(one, rel=2e-4, abs=2e-5)


def test_kill_and_resume_is_exact(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    def command(run: Path) -> list[str]:
        words = ["--model", lab_model, "--data", pairs_file, "--output-dir", run, "--max-steps", 40, "--logging-steps", 1,
                 "--save-steps", 5, "--per-device-train-batch-size", 8, "--learning-rate", "1e-3"]  # fmt: skip
        return [sys.executable, "-m", "prefine.cli", "dpo", *map(str, words)]

    def metrics(run: Path) -> dict[int, float]:
        lines = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
        return {m["step"]: m["loss"] for m in lines if "loss" in m}

    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert subprocess.run(command(whole), check=False, **quiet).returncode == 0
    process = subprocess.Popen(command(cut), **quiet, env=os.environ)
    deadline = time.monotonic() + 120
    while not (cut / "checkpoints" / "checkpoint-10" / "prefine_manifest.json").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert subprocess.run([*command(cut), "--resume"], check=False, **quiet).returncode == 0
    assert metrics(cut) == pytest.approx(metrics(whole), rel=1e-6)
    assert len(metrics(cut)) == 40
    assert "resume" in (cut / "events.jsonl").read_text()
