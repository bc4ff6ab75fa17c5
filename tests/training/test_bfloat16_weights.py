"""Whole models trained without float32 weights: updates far smaller than bfloat16 can hold are not lost, as they are rounded at random."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import prefine as pf
from prefine.cli import main

ROUNDED = ["--dtype", "bfloat16", "--optim", "adamw_torch_8bit", "--optim-args", "bf16_stochastic_round=True"]


def moved(lab_model: Path, data: Path, folder: Path, *words: str) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    line = ["dpo", "--model", lab_model, "--data", data, "--output-dir", folder, "--max-steps", 5, "--final-eval", "off", "--ignore-audit"]
    line += ["--learning-rate", "1e-5", "--lr-scheduler-type", "constant", "--warmup-steps", 0, "--weight-decay", 0, *words]
    done = subprocess.run(
        [sys.executable, "-c", "from prefine.cli import main; raise SystemExit(main())", *map(str, line)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after = (load_file(f / "model.safetensors") for f in (lab_model, folder / "model"))
    return {n: after[n].float() - before[n].to(after[n].dtype).float() for n in after}, pf.Run(folder).directory.events()


@pytest.mark.long
def test_small_updates_are_not_lost(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    exact, _ = moved(lab_model, pairs_file, tmp_path / "a", "--dtype", "float32")
    rounded, events = moved(lab_model, pairs_file, tmp_path / "b", *ROUNDED)
    saved = load_file(tmp_path / "b" / "model" / "model.safetensors")
    assert {t.dtype for t in saved.values()} == {torch.bfloat16}
    shared = sum(float((exact[n] * rounded[n]).sum()) for n in exact) / sum(float(exact[n].square().sum()) for n in exact)
    assert 0.8 < shared < 1.2  # rounded to the nearest it is below .1
    assert not [e for e in events if e["event"] == "guard" and e["rule"] == "dtypes"]


@pytest.mark.parametrize(
    ("more", "what"), [(["--dtype", "float32"], "at dtype float32 weights"), (["--lora-r", "4"], "an adapter's weights")]
)
def test_where_nothing_is_rounded_it_is_refused(
    more: list[str], what: str, lab_model: Path, pairs_file: Path, tmp_path: Path, capsys: Any
) -> None:
    line = ["dpo", "--model", str(lab_model), "--data", str(pairs_file), "--output-dir", str(tmp_path / "r"), *ROUNDED, *more]
    assert main(line) == 2
    assert f"bf16_stochastic_round would be ignored: {what} are kept in float32" in capsys.readouterr().err


@pytest.mark.long
def test_a_plan_offers_it_where_float32_weights_do_not_fit(tmp_path: Path, pairs_file: Path, lab_model: Path) -> None:
    from transformers import AutoTokenizer, LlamaConfig

    config = LlamaConfig(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_key_value_heads=8, vocab_size=128256)
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(lab_model).save_pretrained(tmp_path)
    found = pf.plan("dpo", str(tmp_path), str(pairs_file), device="h100-80gb", ignore_audit=True)
    assert not found.fits
    assert found.best is not None
    assert found.best.settings["optim_args"] == "bf16_stochastic_round=True"
    again = pf.plan(**{"method": "dpo", **found.config, "device": "h100-80gb", "ignore_audit": True})
    assert again.fits
    assert again.total_bytes == pytest.approx(found.best.total, rel=0.02)
