"""Frozen weights in half precision score as mixed precision does with float32's, bit for bit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import prefine as pf
from conftest import lab_pairs
from prefine.scoring.held_in_half import hold_frozen_linears, linears_alone_in_half
from prefine.scoring.scorer import Scorer
from scoring.test_exactness import SHARING, build, groups


def scored(model: Any, dtype: torch.dtype) -> torch.Tensor:
    scorer = Scorer(model)
    pack = scorer.pack(groups())
    with torch.no_grad(), scorer.attending(pack), torch.autocast("cpu", dtype):
        return scorer.token_logps(pack)


def hidden(model: Any, dtype: torch.dtype) -> torch.Tensor:
    scorer = Scorer(model)
    pack = scorer.pack(groups())
    with torch.no_grad(), scorer.attending(pack), torch.autocast("cpu", dtype):
        return scorer.hidden(pack)


def weights(model: Any) -> int:
    return sum(p.nbytes for p in {id(p): p for p in model.parameters()}.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", SHARING)
def test_it_scores_the_same_in_less_memory(name: str, dtype: torch.dtype) -> None:
    model = build(name, SHARING[name]).eval().requires_grad_(False)
    held = copy.deepcopy(model)
    hold_frozen_linears(held, dtype)
    assert torch.equal(scored(model, dtype), scored(held, dtype))
    assert weights(held) < weights(model) or name in ("gpt2", "gpt_bigcode")  # whose layers are of another class


def test_what_is_trained_stays_in_float32() -> None:
    model = build("llama", {}).requires_grad_(False)
    model.model.layers[0].mlp.up_proj.requires_grad_(True)
    hold_frozen_linears(model, torch.bfloat16)
    assert model.model.layers[0].mlp.up_proj.weight.dtype == torch.float32
    assert model.model.layers[0].mlp.down_proj.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("name", SHARING)
def test_a_base_that_is_read_in_float16_computes_as_in_float32_does(name: str) -> None:
    model = build(name, SHARING[name]).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()  # what float16 can hold
    half = copy.deepcopy(model)
    for parameter in half.parameters():
        parameter.data = parameter.data.half()
    linears_alone_in_half(half)
    assert torch.equal(hidden(model, torch.float16), hidden(half, torch.float16))
    assert half.get_input_embeddings().weight.dtype == torch.float32
    assert weights(half) < weights(model) or name in ("gpt2", "gpt_bigcode")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("given", ["none", "name", "model"])
@pytest.mark.parametrize("moving", [False, True])
def test_references_of_a_training(given: str, moving: bool, lab_model: Path, tmp_path: Path) -> None:
    """What Prefine copied or loaded itself is held in half precision, but where it moves; a model of the user's is left alone."""
    other = AutoModelForCausalLM.from_pretrained(lab_model)
    reference = {"none": None, "name": str(lab_model), "model": other}[given]
    args = pf.DPOConfig(str(tmp_path), max_steps=1, bf16=True, use_cpu=True, sync_ref_model=moving, save_strategy="no")
    tokenizer = AutoTokenizer.from_pretrained(lab_model)
    trainer = pf.DPOTrainer(str(lab_model), reference, args, train_dataset=lab_pairs(8), processing_class=tokenizer)
    dtypes = {p.dtype for p in trainer.reference.scorer.unwrapped.parameters()}
    halved = given != "model" and not moving
    assert dtypes == ({torch.float32, torch.bfloat16} if halved else {torch.float32})
    trainer.train()
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert trainer.start_gap is None
