"""What fits where: GPUs of 80 GB that training takes, reckoned on models without weights; nothing is run and nothing is measured.

    python benchmarks/fits.py

A pack of 8 pairs (prompts of 200 tokens, responses of 400 each), gradient checkpointing, bfloat16: whole models as float32 with autocast,
adapters (rank 16, all-linear) on a base in bfloat16 or in 4-bit. One GPU holds all that ``prefine plan`` counts. Of several, FSDP2 shares
out weights, gradients, optimizer states and the reference evenly; beside its share each holds its own activations, and two layers and the
embeddings whole, as FSDP2 gathers the next layer while one is computed (with gradients, where they train). PPO is not shared out: each GPU
holds all. It counts a reward model that is an adapter on the same base where there is an adapter, else a copy of the policy's size, and its
values' likewise.
A tenth of each GPU is left free.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import Any

import torch
from peft import LoraConfig
from transformers import LlamaConfig, Qwen2Config

from prefine.planning.memory import Demand, Rollout, estimate
from prefine.planning.skeleton import skeleton, weight_bytes

GIB = 2**30
GPU = 80e9 * 0.9
NUMBERS = (1, 2, 4, 8, 16, 32, 64, 128)
PACK = ((200, (400, 400)),) * 8


def llama(hidden: int, layers: int, heads: int, inner: int) -> Any:
    return LlamaConfig(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=8, intermediate_size=inner,
        vocab_size=128256, head_dim=128,
    )  # fmt: skip


def qwen(hidden: int, layers: int, heads: int, few: int, inner: int, vocab: int, tied: bool) -> Any:
    return Qwen2Config(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=few, intermediate_size=inner,
        vocab_size=vocab, tie_word_embeddings=tied,
    )  # fmt: skip


MODELS = {  # of their published configurations
    "1.5B (Qwen2.5)": qwen(1536, 28, 12, 2, 8960, 151936, True),
    "8B (Llama 3.1)": llama(4096, 32, 32, 14336),
    "32B (Qwen2.5)": qwen(5120, 64, 40, 8, 27648, 152064, False),
    "70B (Llama 3.1)": llama(8192, 80, 64, 28672),
    "405B (Llama 3.1)": llama(16384, 126, 128, 53248),
}


def demand(config: Any, way: str, ppo: bool) -> Demand:
    """A run's, on one GPU."""
    adapter = None if way == "whole" else LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    out = Demand(
        config,
        torch.float32 if adapter is None else torch.bfloat16,
        PACK,
        "cuda",
        torch.bfloat16,
        adapter,
        four_bit=way == "LoRA in 4-bit",
        checkpointing=True,
        several=True,
        reference=True,
    )
    if not ppo:
        return out
    more: dict[str, Any] = {"adapters": 2} if adapter is not None else {"rewards": (config,), "value": True}
    return replace(out, rollout=Rollout(64, 200, 400), **more)


def gathered(config: Any, whole: bool) -> int:
    """Bytes of two layers and of the embeddings, as they are computed with, and where they train of their gradients."""
    one, two = (weight_bytes(skeleton(shortened(config, n), torch.bfloat16))[0] for n in (1, 2))
    layer = two - one
    return (one + layer) * (2 if whole else 1)


def shortened(config: Any, layers: int) -> Any:
    """The same model with fewer layers."""
    settings = config.to_dict() | {"num_hidden_layers": layers, "layer_types": None}
    return type(config)(**settings)


def main() -> None:
    print("| model | | DPO: GPUs | PPO, each GPU | shared out in DPO | beside it, each GPU |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, config in MODELS.items():
        activations = 0  # of an adapter's run: a whole model's counts casts of all weights, which FSDP2 does not keep
        for way in ("LoRA", "LoRA in 4-bit", "whole"):
            began = time.monotonic()
            found = estimate(demand(config, way, False))
            passes = found.parts["activations"] + found.parts["working memory"]
            activations = passes if way == "LoRA" else activations
            own = (activations if way == "whole" else passes) + gathered(config, way == "whole")
            shared = sum(v for k, v in found.parts.items() if k not in ("activations", "working memory"))
            needs = {n: found.total if n == 1 else max(shared / n + own, found.phases["optimizer step"] / n) for n in NUMBERS}
            fits = next((f"{n} ({needs[n] / GIB:.0f} GiB)" for n in NUMBERS if needs[n] <= GPU), f"over {NUMBERS[-1]}")
            ppo = estimate(demand(config, way, True)).total
            told = f"{ppo / GIB:,.0f} GiB" + ("" if ppo <= GPU else ", too much")
            print(f"| {name} | {way} | {fits} | {told} | {shared / GIB:,.0f} GiB | {own / GIB:.1f} GiB |", flush=True)
            print(f"{name}, {way}: {time.monotonic() - began:.0f} s, counted: {found.counted}", file=sys.stderr)


if __name__ == "__main__":
    main()
