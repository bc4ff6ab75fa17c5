"""Prefine and TRL's DPO, or KTO, side by side: same model, pairs, batch, precision and threads, interleaved step by step.

Each side trains in a process of its own through its own ``trainer.train()``; a callback holds
it before every step until this process says go, so that the two take turns (A B A B). Prints
pairs a second, the ratio of medians, peak resident memory, and the floor: the floating-point
operations the step needs over the measured matrix rate.

    python benchmarks/dpo_vs_trl.py [--steps 12] [--precision float32|bf16] [--precompute] [--quick] [--threads 2]
    python benchmarks/dpo_vs_trl.py --model FOLDER --lora-r 16      # a real model, its adapter trained
    python benchmarks/dpo_vs_trl.py --model FOLDER --data pairs.jsonl    # on pairs that a file holds, as prefine pairs writes them
    python benchmarks/dpo_vs_trl.py --kto    # the pairs' responses as rows that are labelled, batches of as many responses
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[2] / "shared" / "data" / "hh_rlhf_harmless.jsonl.gz"
BATCH, WARM_UP = 8, 2


def rows(count: int, file: str | None = None) -> list[dict[str, Any]]:
    """Real pairs with explicit text prompts, or a file's in random order; both sides read the same."""
    if file is not None:
        found = [{k: row[k] for k in ("prompt", "chosen", "rejected")} for row in map(json.loads, Path(file).read_text().splitlines())]
        random.Random(0).shuffle(found)
        return found[:count]
    out = []
    with gzip.open(DATA, "rt") as stream:
        for line in stream:
            row = json.loads(line)
            cut = row["chosen"].rfind("\n\nAssistant:") + len("\n\nAssistant:")
            prompt = row["chosen"][:cut]
            if row["rejected"].startswith(prompt) and row["chosen"] != row["rejected"]:
                sides = row["chosen"][cut:], row["rejected"][cut:]
                if all(s.strip() for s in sides):
                    out.append({"prompt": prompt, "chosen": sides[0], "rejected": sides[1]})
            if len(out) == count:
                break
    return out


def labelled(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Both responses of each pair as rows of their own, in random order."""
    out = [{"prompt": p["prompt"], "completion": p[side], "label": side == "chosen"} for p in pairs for side in ("chosen", "rejected")]
    random.Random(0).shuffle(out)
    return out


def make_model(folder: Path, quick: bool) -> None:
    """A random Qwen2 with a byte-level tokenizer trained on the pairs."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    texts = (r["prompt"] + r["chosen"] + r["rejected"] for r in rows(2000))
    vocabulary, hidden, layers = (2000, 64, 2) if quick else (16384, 512, 6)
    special = ["<|end|>", "<|pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|pad|>").save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64 or 1,
        num_key_value_heads=max(1, hidden // 256),
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)


def worker(side: str, folder: str, args: argparse.Namespace) -> None:
    """Train one side, a step for each line on standard input; write seconds a step to standard output."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    torch.set_num_threads(args.threads)
    out = sys.stdout
    sys.stdout = sys.stderr
    if side == "trl":
        from trl import DPOConfig, DPOTrainer
        from trl.experimental.kto import KTOConfig, KTOTrainer
    else:
        from prefine import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
    make_config, make_trainer = (KTOConfig, KTOTrainer) if args.kto else (DPOConfig, DPOTrainer)

    class Turns(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            sys.stdin.readline()
            self.start = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seconds = time.perf_counter() - self.start
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps({"seconds": seconds, "peak_bytes": peak}), file=out, flush=True)

    config = make_config(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=2 * BATCH if args.kto else BATCH,
        max_steps=args.steps,
        learning_rate=1e-5,
        gradient_checkpointing=False,
        bf16=args.precision == "bf16",
        use_cpu=True,
        precompute_ref_log_probs=args.precompute,
        max_length=1024,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        seed=0,
    )
    adapter = LoraConfig(r=args.lora_r, lora_alpha=2 * args.lora_r, target_modules="all-linear") if args.lora_r else None
    pairs = rows(BATCH * args.steps, args.data)
    data = Dataset.from_list(labelled(pairs) if args.kto else pairs)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    given = {"train_dataset": data, "processing_class": tokenizer, "callbacks": [Turns()], "peft_config": adapter}
    trainer = make_trainer(model, args=config, **given)
    print(json.dumps({"ready": True}), file=out, flush=True)
    trainer.train()
    print(json.dumps({"losses": [e["loss"] for e in trainer.state.log_history if "loss" in e]}), file=out, flush=True)


def floor_seconds(folder: Path, steps: int, live_reference: bool, threads: int) -> float:
    """Seconds a step at the measured float32 matrix rate if only matrix products took time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from prefine.packing import Encoder
    from prefine.preferences import Pair

    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(folder)
    encoder = Encoder(AutoTokenizer.from_pretrained(folder), 1024)
    pairs = [Pair(r["prompt"], r["chosen"], r["rejected"], i) for i, r in enumerate(rows(BATCH * steps))]
    groups = list(encoder.encode_pairs(pairs))
    tokens = sum(g.num_tokens() for g in groups) / steps
    scored = sum(len(c) for g in groups for c in g.completion_ids) / steps
    embedding = model.get_input_embeddings().weight.numel()
    forward = 2 * (model.num_parameters() - embedding) * tokens + 2 * embedding * scored
    x = torch.randn(1536, 1536)
    rates = []
    for _ in range(8):
        start = time.perf_counter()
        for _ in range(4):
            x @ x
        rates.append(4 * 2 * 1536**3 / (time.perf_counter() - start))
    return forward * (4 if live_reference else 3) / max(rates)


def main() -> None:
    """Run both sides in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--precompute", action="store_true", help="reference log-probs precomputed on both sides")
    parser.add_argument("--quick", action="store_true", help="a tiny model: does it run")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path, help="a chat model's folder, in place of the random one")
    parser.add_argument("--lora-r", type=int, default=0, help="train an adapter of this rank")
    parser.add_argument("--data", help="a file of pairs, in place of hh-rlhf's")
    parser.add_argument("--kto", action="store_true", help="KTO on the pairs' responses, in place of DPO")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, args.folder, args)
        return
    folder = args.model or Path(tempfile.mkdtemp())
    if args.model is None:
        make_model(folder, args.quick)
    base = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder)]
    sides = {}
    for name in ("trl", "prefine"):
        command = [*base, "--worker", name]
        sides[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert json.loads(sides[name].stdout.readline())["ready"]  # type: ignore[union-attr]
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    peaks: dict[str, int] = {}
    for step in range(args.steps):
        for name, process in sides.items():
            assert process.stdin
            assert process.stdout
            process.stdin.write("go\n")
            process.stdin.flush()
            said = json.loads(process.stdout.readline())
            peaks[name] = said["peak_bytes"]
            if step >= WARM_UP:
                seconds[name].append(said["seconds"])
    losses = {name: json.loads(p.stdout.readline())["losses"] for name, p in sides.items()}  # type: ignore[union-attr]
    for process in sides.values():
        process.wait()
    median = {name: statistics.median(s) for name, s in seconds.items()}
    print(
        f"{'KTO' if args.kto else 'DPO'}, "
        f"{args.precision}, reference {'precomputed' if args.precompute else 'live'}, batch {BATCH}, {args.threads} threads, "
        f"{args.steps} steps{f', LoRA r {args.lora_r}' if args.lora_r else ''}"
    )
    for name in sides:
        print(f"  {name:<8} {BATCH / median[name]:7.2f} pairs a second   peak memory {peaks[name] / 2**20:7.0f} MiB")
    print(f"  ratio of median seconds, TRL over Prefine: {median['trl'] / median['prefine']:.2f}")
    ratios = sorted(t / p for t, p in zip(seconds["trl"], seconds["prefine"], strict=True))
    print(f"  ratio step by step: median {statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}")
    gap = max(abs(a - b) for a, b in zip(losses["trl"], losses["prefine"], strict=True))
    print(f"  largest difference of a step's loss: {gap:.1e}")
    if args.precision == "float32" and not args.lora_r and args.data is None and not args.kto:
        floor = floor_seconds(folder, args.steps, not args.precompute, args.threads)
        print(f"  floor {floor:.2f} s a step; Prefine {median['prefine'] / floor:.2f} x, TRL {median['trl'] / floor:.2f} x the floor")


if __name__ == "__main__":
    main()
