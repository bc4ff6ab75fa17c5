"""Another adapter for the length of a block: what peft's own ways give, and everything as it was afterwards."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from prefine.scoring.adapters import switched

LORA: dict[str, Any] = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM", "init_lora_weights": False}
KINDS: dict[str, Any] = {
    "lora": LoraConfig(**LORA),
    "dora": LoraConfig(**LORA, use_dora=True),
    "lora and a whole module": LoraConfig(**LORA, modules_to_save=["lm_head"]),
    "lora and biases": LoraConfig(**LORA, bias="lora_only"),
    "ia3": IA3Config(task_type="CAUSAL_LM", init_ia3_weights=False),
    "prefix": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
}
IDS = torch.tensor([[5, 6, 7, 8, 9]])


def made(kind: str, lab_model: Path) -> Any:
    torch.manual_seed(0)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(lab_model), copy.deepcopy(KINDS[kind]))
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name:
            parameter.data += 0.1
    if kind.startswith("lora"):
        model.add_adapter("other", LoraConfig(**LORA))
    return model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def state(model: Any) -> list[Any]:
    return [(n, p.requires_grad) for n, p in model.named_parameters()] + [model.active_adapter, logits(model).tolist()]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_peft_itself_gives(kind: str, lab_model: Path) -> None:
    model, like = made(kind, lab_model), made(kind, lab_model)
    before = state(model)
    with like.disable_adapter():
        wanted = logits(like)
    for _ in range(2):
        with switched(model, None):
            assert torch.equal(logits(model), wanted)
        assert state(model) == before
    assert not torch.equal(wanted, torch.tensor(before[-1]))
    if "other" not in model.peft_config:
        return
    like.set_adapter("other")
    with switched(model, "other"):
        assert torch.equal(logits(model), logits(like))
    assert state(model) == before
    with switched(model, "other"), switched(model, None):
        assert torch.equal(logits(model), wanted)


def test_an_adapter_that_is_added_later_is_switched_too(lab_model: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(lab_model).eval()
    plain = logits(base)
    model = get_peft_model(base, LoraConfig(**LORA | {"target_modules": ["q_proj"]})).eval()
    with switched(model, None):
        assert torch.equal(logits(model), plain)
    model.add_adapter("other", LoraConfig(**LORA | {"target_modules": ["v_proj"]}))
    model.set_adapter("other")
    assert not torch.equal(logits(model), plain)
    with switched(model, None):
        assert torch.equal(logits(model), plain)


def test_all_is_as_it_was_where_the_block_fails(lab_model: Path) -> None:
    model = made("lora", lab_model)
    before = state(model)
    for adapter in (None, "other"):
        with pytest.raises(ZeroDivisionError), switched(model, adapter):
            raise ZeroDivisionError
        assert state(model) == before
