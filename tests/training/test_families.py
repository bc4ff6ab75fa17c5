"""Twenty families as people train them: their templates, end tokens and quirks through encode, train, save, reload, generate, merge."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import prefine as pf
from prefine.packing.encoding import Encoder
from prefine.packing.end_tokens import end_tokens, turn_end
from prefine.preferences.reasoning import has_channels, said, split_reasoning
from prefine.scoring.loading import load_model, load_tokenizer
from template_matrix import family

pytestmark = pytest.mark.filterwarnings("ignore")
TINY: dict[str, Any] = {
    **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
    **{"head_dim": 8, "max_position_embeddings": 2048},
}
LINEAR = {
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    "layer_types": ["linear_attention", "full_attention"],
}


@dataclass(frozen=True)
class Family:
    """A template on an architecture.

    Attributes:
        ends_with: what the template ends a response with, as its makers document it.
        eos: the tokenizer's end token, where it is not that; ends: more that the generation settings name.
        thinks: whether rows have reasoning; no_pad: the tokenizer has no pad token.
        spare: embeddings beyond the vocabulary.
    """

    template: str
    kind: str
    ends_with: str
    more: dict[str, Any] = field(default_factory=dict)
    eos: str | None = None
    ends: tuple[str, ...] = ()
    thinks: bool = False
    no_pad: bool = False
    spare: int = 0


SOFT = {"sliding_window": 16, "query_pre_attn_scalar": 8}
GPT_OSS = {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 16}
MOE = {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
FAMILIES = {
    "Llama 2": Family("llama2", "llama", "</s>", no_pad=True),
    "Llama 3, the base's end token": Family("llama3", "llama", "<|eot_id|>", eos="<|end_of_text|>", no_pad=True),
    "Llama 3.1": Family("llama31", "llama", "<|eot_id|>", ends=("<|eom_id|>",), no_pad=True),
    "Mistral 7B": Family("mistral_v3", "mistral", "</s>", {"sliding_window": None}),
    "Mixtral": Family("mistral_v1", "mixtral", "</s>", {"sliding_window": None, "num_local_experts": 2}),
    "Gemma 2": Family("gemma2", "gemma2", "<end_of_turn>", SOFT, eos="<eos>", spare=37),
    "Gemma 3": Family("gemma3", "gemma3_text", "<end_of_turn>", SOFT, eos="<eos>"),
    "Phi-3": Family("phi3", "phi3", "<|end|>", eos="<|endoftext|>"),
    "Phi-4": Family("phi4", "phi3", "<|im_end|>"),
    "Qwen2.5, the base's end token": Family("qwen25", "qwen2", "<|im_end|>", {"tie_word_embeddings": True}, eos="<|endoftext|>", spare=271),
    "Qwen3": Family("qwen3", "qwen3", "<|im_end|>", {"tie_word_embeddings": True}, ends=("<|endoftext|>",), thinks=True, spare=64),
    "Qwen3 MoE": Family("qwen3", "qwen3_moe", "<|im_end|>", MOE, thinks=True),
    "Qwen3.5": Family("qwen35", "qwen3_5_text", "<|im_end|>", LINEAR, thinks=True),
    "DeepSeek-R1 distilled": Family("deepseek_r1", "qwen2", "<｜end▁of▁sentence｜>", thinks=True),
    "GPT-OSS": Family("gptoss", "gpt_oss", "<|return|>", GPT_OSS, ends=("<|call|>",), thinks=True),
    "SmolLM3": Family("smollm3", "smollm3", "<|im_end|>", thinks=True),
    "Granite 3": Family("granite3", "granite", "<|end_of_text|>", {"logits_scaling": 4.0}),
    "Command R": Family("command_r", "cohere", "<|END_OF_TURN_TOKEN|>"),
    "OLMo 2": Family("olmo2", "olmo2", "<|endoftext|>", no_pad=True),
    "GLM-4": Family("glm4", "glm4", "<|endoftext|>", ends=("<|user|>", "<|observation|>")),
    "Hermes 3 (ChatML on Llama)": Family("hermes3", "llama", "<|im_end|>", no_pad=True),
    "InternLM (ChatML beside </s>)": Family("internlm2", "llama", "<|im_end|>", eos="</s>"),
}


def rows(about: Family) -> list[dict[str, Any]]:
    out = []
    for i in range(12):
        prompt = [{"role": "user", "content": f"What is {i} and {i}?"}]
        if i % 3 == 0:
            prompt.insert(0, {"role": "system", "content": "Be brief."})
        sides: dict[str, Any] = {"chosen": {"content": f"It is {2 * i}."}, "rejected": {"content": f"I would rather say {i}."}}
        if about.thinks:
            sides = {name: side | {"reasoning_content": f"Twice {i}."} for name, side in sides.items()}
        out.append({"prompt": prompt} | {name: [{"role": "assistant", **side}] for name, side in sides.items()})
    return out


def made(about: Family, folder: Path) -> Path:
    """The tiny model with its tokenizer, saved as its makers save theirs."""
    tokenizer = family(about.template)
    if about.eos is not None:
        tokenizer.add_special_tokens({"eos_token": about.eos})
    tokenizer.add_special_tokens({"additional_special_tokens": list(about.ends)}, replace_extra_special_tokens=False)
    ids = [tokenizer.convert_tokens_to_ids(t) for t in (tokenizer.eos_token, *about.ends)]
    if about.no_pad:
        tokenizer.pad_token = None
    known = AutoConfig.for_model(about.kind)
    wanted = {
        **TINY,
        **about.more,
        "vocab_size": len(tokenizer) + about.spare,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": ids[0],
    }
    config = AutoConfig.for_model(about.kind, **{k: v for k, v in wanted.items() if k in about.more or hasattr(known, k)})
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config.eos_token_id = ids if len(ids) > 1 else ids[0]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(24)[None] + 5, use_cache=False).logits


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.long
def test_a_family_from_its_template_to_a_merged_model(name: str, tmp_path: Path) -> None:
    about = FAMILIES[name]
    base = made(about, tmp_path / "base")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows(about)))
    settings: dict[str, Any] = {"max_steps": 2, "per_device_train_batch_size": 4, "final_eval": "off", "ignore_audit": True}
    runs = {}
    for kind, more in (("whole", {"learning_rate": 1e-3}), ("adapter", {"learning_rate": 1e-2, "lora_r": 2})):
        runs[kind] = pf.dpo(str(base), str(pairs), str(tmp_path / kind), guard_prompts=0, **settings, **more)
        assert runs[kind].data["pairs"] == 12
        assert not runs[kind].data["dropped"]
    tokenizer = load_tokenizer(str(base))
    saved = load_tokenizer(str(tmp_path / "adapter" / "model"))
    assert (saved.chat_template, saved.eos_token) == (tokenizer.chat_template, tokenizer.eos_token)
    group = Encoder(saved).encode(({"role": "user", "content": "Hello?"},), ["Yes."])
    assert group is not None
    end = turn_end(saved)
    assert end == saved.convert_tokens_to_ids(about.ends_with)
    assert end in group.completion_ids[0][-3:]
    whole = load_model(str(tmp_path / "whole" / "model"))
    assert not torch.allclose(logits(whole), logits(load_model(str(base))), atol=1e-3)
    wanted = end_tokens(load_model(str(base)), tokenizer)
    assert {end, *(tokenizer.convert_tokens_to_ids(t) for t in about.ends)} <= set(wanted)
    pf.merge(str(tmp_path / "adapter"))
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter" / "merged")
    tuned = load_model(str(tmp_path / "adapter" / "model"))
    torch.testing.assert_close(logits(merged), logits(tuned), atol=5e-5, rtol=0)
    assert not torch.allclose(logits(tuned), logits(load_model(str(base))), atol=1e-3)
    for told in (whole.generation_config, merged.generation_config):
        listed = told.eos_token_id if isinstance(told.eos_token_id, list) else [told.eos_token_id]
        assert set(wanted) <= set(listed)
    if about.thinks:  # a response as it is sampled is encoded to the ids that were sampled
        thought = ({"role": "assistant", "content": "Yes.", "reasoning_content": "Hm."},)
        sampled = Encoder(saved).encode(({"role": "user", "content": "Hello?"},), [thought])
        assert sampled is not None
        text = said(saved, sampled.completion_ids[0].tolist(), sampled.prompt_ids.tolist())
        assert split_reasoning(text) == ("Hm.", "Yes.")
        again = Encoder(saved).encode(({"role": "user", "content": "Hello?"},), [text])
        assert again is not None
        assert again.completion_ids[0].tolist() == sampled.completion_ids[0].tolist()
    asked = ["What is 3 and 4?", "Who are you?"]
    assert pf.generate(str(tmp_path / "whole"), asked, str(tmp_path / "said.jsonl"), max_new_tokens=6).answered == 2
    assert has_channels(saved) == (about.template == "gptoss")
