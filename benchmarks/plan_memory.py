"""What ``prefine plan`` says a run will hold, against the peak of a fresh process that runs it.

Each combination trains two updates of a model of random weights on pairs of fixed lengths, in a process of its own, and its peak until
then is compared with the plan that the command wrote before it loaded the weights, once in all and once without the framework: what the
same command holds while it trains a model of a few kilobytes.

    python benchmarks/plan_memory.py [--only NAME ...] [--fresh] [--device cuda] [--json FILE]

On a CPU the peak is resident memory (VmHWM). glibc keeps freed memory for later unless it is told otherwise, which training commands do
where the machine has less than three times what is planned; so they are made to here, unless --plain-malloc is given. With
``--device cuda`` the peak is torch.cuda.max_memory_allocated, and the framework is nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import string
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LLAMA = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}  # SmolLM2-135M
QWEN2 = {"hidden_size": 896, "intermediate_size": 4864, "num_attention_heads": 14, "num_key_value_heads": 2}  # Qwen2-0.5B
QWEN3 = {"hidden_size": 1024, "intermediate_size": 3072, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}  # 0.6B
GEMMA3 = {"hidden_size": 640, "intermediate_size": 2048, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256}  # 270m
KINDS = {"llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3, "gemma3_text": GEMMA3}


@dataclass(frozen=True)
class Case:
    """One combination: a shape (of a real model, with fewer layers and tokens), lengths in tokens, and options of the command."""

    kind: str
    layers: int
    vocabulary: int
    prompt: int
    completion: int
    options: dict[str, Any] = field(default_factory=dict)
    method: str = "dpo"
    tied: bool = True


FULL, LORA, STORED = {}, {"lora_r": 16}, {"gradient_checkpointing": True}
CASES = {
    "llama-full": Case("llama", 16, 32000, 256, 128, FULL),
    "llama-full-stored": Case("llama", 16, 32000, 512, 256, STORED | {"optim": "sgd"}),
    "llama-full-adafactor": Case("llama", 16, 32000, 128, 256, {"optim": "adafactor"}),
    "llama-full-adamw-loop": Case("llama", 16, 32000, 64, 64, {"optim": "adamw_torch"}),
    "qwen2-full-reference-known": Case("qwen2", 6, 32000, 256, 128, {"precompute_ref_log_probs": True, "optim": "adamw_torch"}),
    "qwen2-lora": Case("qwen2", 8, 48000, 256, 256, LORA),
    "qwen2-lora-stored": Case("qwen2", 8, 48000, 512, 512, LORA | STORED | {"optim": "adamw_torch"}),
    "qwen2-untied-sgd": Case("qwen2", 4, 24000, 128, 128, {"optim": "sgd"}, tied=False),
    "qwen3-lora": Case("qwen3", 8, 32000, 384, 128, LORA | {"optim": "adafactor"}),
    "qwen3-full-stored": Case("qwen3", 5, 32000, 256, 256, STORED | {"optim": "adafactor"}),
    "gemma3-lora": Case("gemma3_text", 10, 65536, 256, 128, LORA | {"optim": "sgd"}),
    "gemma3-full-stored": Case("gemma3_text", 8, 65536, 128, 128, STORED | {"optim": "adamw_torch"}),
}
FRESH = {
    "llama-lora-long": Case("llama", 24, 49152, 1024, 256, LORA | {"token_budget": "1600", "max_length": 2048}),
    "qwen3-full-adamw-loop": Case("qwen3", 4, 48000, 96, 160, {"optim": "adamw_torch"}),
    "gemma3-full": Case("gemma3_text", 6, 48000, 300, 200, {"optim": "adafactor", "precompute_ref_log_probs": True}),
    "qwen2-sft-stored": Case("qwen2", 8, 32000, 200, 300, STORED, method="sft"),
}
"""Looked at once, when the model of memory was finished."""
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}


def make(case: Case, folder: Path, tiny: bool = False) -> tuple[Path, Path]:
    """A model of random weights with a tokenizer of bytes, and 16 pairs of the case's lengths."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({w: i for i, w in enumerate(["<pad>", "<end>", *letters])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    model = folder / ("tiny" if tiny else "model")
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<pad>").save_pretrained(model)
    shape = KINDS[case.kind] | (TINY if tiny else {})
    ids = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0, "tie_word_embeddings": case.tied, "max_position_embeddings": 4096}
    config = AutoConfig.for_model(
        case.kind, **shape, **ids, num_hidden_layers=2 if tiny else case.layers, vocab_size=1000 if tiny else case.vocabulary
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(model)
    draw = random.Random(0)

    def text(tokens: int) -> str:
        return "".join(draw.choices(string.ascii_letters, k=tokens))

    rows = [{"prompt": text(case.prompt), "chosen": text(case.completion - 1), "rejected": text(case.completion - 1)} for _ in range(16)]
    data = folder / "pairs.jsonl"
    data.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return model, data


def options(case: Case, model: Path, data: Path) -> dict[str, Any]:
    """What plan and command are both told."""
    common = {"ignore_audit": True, "max_steps": 2, "per_device_train_batch_size": 2, "save_strategy": "no", "max_length": 1024}
    held = {} if case.method == "sft" else {"final_eval": "off", "eval_fraction": 0.2}
    return {"model": str(model), "data": str(data), **common, **held, **case.options}


def worker(given: dict[str, Any], method: str, folder: str, plain: bool) -> None:
    """Train in this process; say as JSON on the last line what was planned and what was held until the last update."""
    from transformers import Trainer

    import prefine as pf
    from prefine.api import plan_lines
    from prefine.training.peak_memory import forget_peak_memory, peak_memory_bytes

    plan_lines.KEPT = 0 if plain else 10**9

    train = Trainer.train

    def watched(*args: Any, **kwargs: Any) -> None:
        before = peak_memory_bytes()
        forget_peak_memory()  # importing libraries takes more for a moment than they then hold
        train(*args, **kwargs)
        training = peak_memory_bytes()
        planned = json.loads(Path(f"{folder}/run/data.json").read_text())["plan"]
        print(json.dumps({"peak": max(before, training), "training": training, "planned": planned}), flush=True)
        os._exit(0)

    Trainer.train = watched  # type: ignore[method-assign]
    getattr(pf, method.replace("-", "_"))(**given, output_dir=f"{folder}/run")


def ask(given: dict[str, Any], case: Case, plain: bool) -> dict[str, Any]:
    """Have a fresh process do it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PREFINE_CACHE": folder, "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, __file__, "--worker", json.dumps([given, case.method, folder, plain])]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"failed: {done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


FRAMEWORKS: dict[tuple[str, bool], int] = {}
"""By the command, and whether an adapter is trained: what it holds with a model of a few kilobytes."""


def measure(case: Case, device: str, plain: bool) -> dict[str, Any]:
    """One combination, planned and trained."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, data = make(case, folder)
        given = options(case, model, data)
        found = ask(given, case, plain)
        key = case.method, "lora_r" in case.options
        if key not in FRAMEWORKS and device != "cuda":
            tiny, _ = make(case, folder, tiny=True)
            FRAMEWORKS[key] = ask(given | {"model": str(tiny)}, case, plain)["training"]
        size = (model / "model.safetensors").stat().st_size
    return found | {"weights": size, "framework": FRAMEWORKS.get(key, 0)}


def main() -> None:
    """All combinations, as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--fresh", action="store_true", help="the combinations that were kept aside")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--plain-malloc", action="store_true")
    parser.add_argument("--json")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(*json.loads(given.worker))
        return
    cases = FRESH if given.fresh else CASES
    found = {}
    print("| combination | weights | measured | planned | error | without the framework: measured | planned | error |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in given.only or cases:
        one = found[name] = measure(cases[name], given.device, given.plain_malloc)
        planned, own = one["planned"]["total_bytes"], one["planned"]["own_bytes"]
        if given.device == "cuda":
            planned = own
        pairs = [(one["peak"], planned), (one["peak"] - one["framework"], own)]
        cells = [f"{a / 2**20:.0f} | {b / 2**20:.0f} | {100 * (b / a - 1):+.1f} %" for a, b in pairs]
        print(f"| {name} | {one['weights'] / 2**20:.0f} | {' | '.join(cells)} |", flush=True)
        if given.json:
            Path(given.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
