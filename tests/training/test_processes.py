"""Two processes, and a killed one, give the same trajectory as one left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from training.in_processes import CASES, RUNS, SAMPLING

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


def found_in(folder: Path, engine: str, processes: int, cases: Sequence[str]) -> dict[str, Any]:
    """What runs of these kinds logged, by their names."""
    out = folder / f"{engine}-{processes}"
    launch = [*LAUNCH, f"--nproc_per_node={processes}"] if processes > 1 else [sys.executable]
    script = Path(__file__).with_name("in_processes.py")
    done = subprocess.run(
        [*launch, str(script), str(out), engine, str(processes), *cases],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=1000, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads((out / "found.json").read_text()))


def saved(folder: Path, case: str) -> dict[str, torch.Tensor]:
    [path] = (folder / case.replace(" ", "-").replace(",", "") / "saved").glob("*.safetensors")
    return load_file(path)


@pytest.mark.processes
def test_several_processes_equal_one(tmp_path: Path) -> None:
    """Losses, gradient norms, evaluation, metrics and weights, whole (DDP) and sharded (FSDP2), where packs differ in number; what is
    sampled, and its scores.
    """
    alone = found_in(tmp_path, "ddp", 1, list(CASES))
    for engine, processes, cases in RUNS:
        if engine.startswith("zero") and find_spec("deepspeed") is None:
            continue
        found = found_in(tmp_path, engine, processes, cases)
        for case in cases:
            told = f"{case} with {engine} in {processes} processes"
            assert found[case]["sharded"] is (engine in ("fsdp", "zero3")), told
            share = processes if found[case]["sharded"] else 1
            assert found[case]["bytes"] == pytest.approx(alone[case]["bytes"] / share, rel=0.05), told
            assert len(found[case]["logs"]) == len(alone[case]["logs"]), told
            for several, one in zip(found[case]["logs"], alone[case]["logs"], strict=True):
                assert several == pytest.approx(one, rel=2e-5, abs=1e-5), told
            assert len(found[case]["rollouts"]) == len(alone[case]["rollouts"]) >= 2 * (case in SAMPLING), told
            for several, one in zip(found[case]["rollouts"], alone[case]["rollouts"], strict=True):
                assert [x[:2] for x in several] == [x[:2] for x in one], told
                assert [x[2] for x in several] == [pytest.approx(x[2], abs=1e-5) for x in one], told
            weights = [saved(tmp_path / name, case) for name in (f"{engine}-{processes}", "ddp-1")]
            assert set(weights[0]) == set(weights[1]), told
            for name, weight in weights[0].items():
                torch.testing.assert_close(weight, weights[1][name], rtol=1e-4, atol=1e-4, msg=lambda m, t=told, n=name: f"{t}: {n}: {m}")


@pytest.mark.long
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
