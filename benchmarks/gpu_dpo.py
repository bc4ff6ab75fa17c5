"""DPO on a GPU at the shape of a known model: Prefine, and TRL where it is installed, with the floor.

Random weights in bfloat16, LoRA r 16 on all linear layers, gradient checkpointing on, batch 8,
live reference. Prompt and answer lengths are drawn from log-normals: ``hh`` has the medians of
hh-rlhf harmless (prompt 90 tokens, answers 45), ``long`` those of long-answer data (200, 600).
Both sides train on the same text, one after the other in one process.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import numpy as np
import torch
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-0.5b": {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
                     "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
    "qwen2.5-1.5b": {"model_type": "qwen2", "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
                     "num_attention_heads": 12, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True},
    "llama-3.1-8b": {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
                     "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "tie_word_embeddings": False},
    "tiny": {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 1024, "tie_word_embeddings": False},
}  # fmt: skip
LENGTHS = {"hh": (90, 45), "long": (200, 600)}
BATCH, STEPS, WARM_UP, WORDS = 8, 8, 2, 1000


def tokenizer() -> Any:
    """A thousand words, a token each, so that text and ids agree on both sides."""
    words = {f"w{i}": i for i in range(WORDS)} | {"<end>": WORDS, "<pad>": WORDS + 1, "<unk>": WORDS + 2}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<pad>", unk_token="<unk>")


def pairs(kind: str, count: int) -> list[dict[str, str]]:
    """Text of random words with realistic lengths."""
    rng = np.random.default_rng(0)
    prompt, answer = LENGTHS[kind]

    def text(median: int) -> str:
        length = int(np.clip(rng.lognormal(np.log(median), 0.6), 4, 1000))
        return "".join(f" w{i}" for i in rng.integers(0, WORDS, length))

    return [{"prompt": text(prompt), "chosen": text(answer), "rejected": text(answer)} for _ in range(count)]


def model(shape: str) -> Any:
    """Random weights on the device, bfloat16."""
    settings = dict(SHAPES[shape])
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(settings.pop("model_type"), **settings), dtype=torch.bfloat16)


def seconds_a_step(side: str, shape: str, kind: str) -> dict[str, float]:
    """Median seconds of an optimizer step, and the peak of allocated memory."""
    from transformers import TrainerCallback

    if side == "trl":
        from datasets import Dataset
        from trl import DPOConfig, DPOTrainer

        rows: Any = Dataset.from_list(pairs(kind, BATCH * STEPS))
    else:
        from prefine import DPOConfig, DPOTrainer

        rows = pairs(kind, BATCH * STEPS)
    gpu = torch.cuda.is_available()
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if gpu:
                torch.cuda.synchronize()
            self.start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if gpu:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - self.start)

    args = DPOConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=BATCH, max_steps=STEPS, bf16=True, use_cpu=not gpu,
        gradient_checkpointing=True, max_length=2048, save_strategy="no", report_to="none", disable_tqdm=True, logging_steps=100,
    )  # fmt: skip
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    trainer = DPOTrainer(model(shape), args=args, train_dataset=rows, processing_class=tokenizer(), peft_config=lora, callbacks=[Clock()])
    trainer.train()
    peak = torch.cuda.max_memory_allocated() / 2**30 if gpu else float("nan")
    if side == "prefine":
        print(f"  {trainer.proof.sentence()}")
    return {"seconds": statistics.median(times[WARM_UP:]), "peak_gib": peak}


def floor_seconds(shape: str, kind: str) -> float:
    """The step's matrix operations over the measured bfloat16 rate: forward, reference, recomputation and backward by inputs."""
    settings = SHAPES[shape]
    rows = pairs(kind, BATCH * STEPS)
    sizes = [[len(r[k].split()) for k in ("prompt", "chosen", "rejected")] for r in rows]
    tokens = sum(map(sum, sizes)) / STEPS
    scored = sum(c + r + 2 for _, c, r in sizes) / STEPS
    hidden, inner, layers = settings["hidden_size"], settings["intermediate_size"], settings["num_hidden_layers"]
    grouped = settings["num_key_value_heads"] / settings["num_attention_heads"]
    per_token = layers * (hidden * hidden * (2 + 2 * grouped) + 3 * hidden * inner)
    forward = 2 * (per_token * tokens + hidden * settings["vocab_size"] * scored)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 8192 if device == "cuda" else 512
    x = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    best = 0.0
    for _ in range(8):
        start = time.perf_counter()
        for _ in range(5):
            x @ x
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 5 * 2 * size**3 / (time.perf_counter() - start))
    return 4 * forward / best


def main() -> None:
    """Print a small table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=list(SHAPES), default="qwen2.5-0.5b")
    parser.add_argument("--lengths", choices=list(LENGTHS), default="hh")
    args = parser.parse_args()
    print(f"{args.shape}, {args.lengths} lengths, LoRA, bfloat16, batch {BATCH}")
    found = {}
    for side in ("prefine", "trl"):
        try:
            found[side] = seconds_a_step(side, args.shape, args.lengths)
        except ImportError as error:
            print(f"  {side} skipped: {error}")
            continue
        torch.cuda.empty_cache()
        print(f"  {side:<8} {BATCH / found[side]['seconds']:7.2f} pairs a second   peak {found[side]['peak_gib']:6.1f} GiB")
    if len(found) == 2:
        print(f"  TRL over Prefine: {found['trl']['seconds'] / found['prefine']['seconds']:.2f}")
    print(f"  floor {floor_seconds(args.shape, args.lengths):.3f} s, Prefine {found['prefine']['seconds']:.3f} s a step")


if __name__ == "__main__":
    main()
