"""4-bit base models by bitsandbytes itself, on the machine that the tests run on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

from prefine.cli import main
from prefine.lab.model import build_model, build_tokenizer
from prefine.scoring.loading import add_adapter, four_bit_config, load_model
from prefine.scoring.proof import coarsest_dtype, prove_layout

pytest.importorskip("bitsandbytes")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("four_bit") / "model"
    build_model(0, hidden=64, layers=2).save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_sharing_is_proven(compute: torch.dtype, autocast: torch.dtype | None, wide: Path) -> None:
    model = load_model(str(wide), compute, quantization_config=four_bit_config(compute))
    model = add_adapter(model, LoraConfig(r=4, target_modules="all-linear"))
    assert coarsest_dtype(model) == compute
    assert prove_layout(model, autocast=autocast).layout == "shared"


@pytest.mark.parametrize("storage", [torch.uint8, torch.float32])
def test_evaluation_computes_as_training_does(storage: torch.dtype, wide: Path) -> None:
    """On processors with bfloat16 instructions bitsandbytes would pack the weights in the first evaluation."""
    config = four_bit_config(torch.float32)
    config.bnb_4bit_quant_storage = storage
    model, ids = load_model(str(wide), quantization_config=config), torch.arange(20)[None] + 5
    with torch.no_grad():
        logits = [model.train(mode)(ids).logits for mode in (True, False, True)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])


@pytest.mark.parametrize("method", ["dpo", "sft", "reward"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_commands_train_and_what_they_trained_is_used(
    method: str, dtype: str, wide: Path, pairs_file: Path, tmp_path: Path, capsys: Any
) -> None:
    run = tmp_path / "run"
    line = [method, "--model", wide, "--data", pairs_file, "--output-dir", run, "--max-steps", 3, "--logging-steps", 1, "--dtype", dtype]
    line += ["--load-in-4bit", "--lora-r", 4, "--learning-rate", "1e-3", "--ignore-audit"]
    line += ["--final-eval", "off"] if method == "dpo" else []
    assert main([str(w) for w in line]) == 0
    told = capsys.readouterr().out
    assert "prompt sharing proven exact" in told or method == "sft"
    losses = [m["loss"] for m in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "loss" in m]
    if method == "dpo":
        assert losses[0] == pytest.approx(math.log(2), abs=1e-3)
    assert len(losses) == 3
    assert all(math.isfinite(x) for x in losses)
    assert main([str(w) for w in [*line, "--resume"]]) == 0
    if method != "reward":
        out = tmp_path / "out.jsonl"
        asked = ["--prompts", pairs_file, "--limit", 2, "--max-new-tokens", 4, "--output", out]
        assert main([str(w) for w in ["generate", "--model", run, *asked]]) == 0
        assert len(out.read_text().splitlines()) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="kernels of a GPU take any width")
def test_a_width_that_is_no_whole_number_of_blocks_is_a_sentence(pairs_file: Path, tmp_path: Path, capsys: Any) -> None:
    build_model(0, hidden=96, layers=1).save_pretrained(tmp_path / "model")
    build_tokenizer().save_pretrained(tmp_path / "model")
    line = ["dpo", "--model", tmp_path / "model", "--data", pairs_file, "--output-dir", tmp_path / "r", "--load-in-4bit", "--lora-r", 4]
    assert main([str(w) for w in line]) == 2
    assert "is 96 wide, and 4-bit on a CPU takes multiples of 64" in capsys.readouterr().err
