"""Who wins on a real chat model, and what it cost: DPO, KTO, PPO, best of n, and TRL's DPO, from the same responses, by the same judge.

    python benchmarks/real_methods.py FOLDER [--seed 0] [--methods kto ppo best-of-8 trl] [--quick]

FOLDER is that of ``prefine demo --real --output-dir`` (FOLDER-real lies there); its seed's responses and pairs are what all learn from:
KTO from every response, wanted where it ended and met its prompt, TRL from the very pairs that Prefine's DPO was given, PPO from the
prompts with the checker as its reward. Best of n trains nothing: it asks the checker each time. What was measured is kept in
FOLDER-real/seed-N/METHOD.json.
Seconds are of training alone, best of n's 0; what was sampled before stands in FOLDER-real/seed-N/laps.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefine.api.real_demo import Sizes

RATE, RANK = 1e-4, 16


def kto(place: Path, base: Path, seed: int, sizes: Sizes) -> Path:
    """On all responses, each with whether it ended and met what was asked."""
    import prefine
    from prefine.lab.constraints import met
    from prefine.preferences.records import plain_text

    with (place / "thumbs.jsonl").open("w") as stream:
        for row in map(json.loads, (place / "pairs.jsonl.samples.jsonl").open()):
            said = row["answers"][-1]
            labelled = {"prompt": row["prompt"], "completion": [{"role": "assistant", "content": said}]}
            good = row["ended"][-1] and met(plain_text(row["prompt"]), said)
            stream.write(json.dumps(labelled | {"label": bool(good)}) + "\n")
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 2 * sizes.batch,
        "max_steps": sizes.steps,
        "learning_rate": RATE,
        "lora_r": RANK,
    }
    common = {"final_eval": "off", "guard_prompts": 0, "save_strategy": "no", "gradient_checkpointing": False, "seed": seed}
    prefine.kto(str(base), str(place / "thumbs.jsonl"), str(place / "kto"), **settings, **common)
    return place / "kto" / "model"


def ppo(place: Path, base: Path, seed: int, sizes: Sizes) -> Path:
    """On the prompts, rewarded by the checker."""
    import prefine

    prefine.ppo(
        str(base),
        str(place / "prompts.jsonl"),
        str(place / "ppo"),
        reward_function=["prefine.lab.constraints:met"],
        lora_r=RANK,
        learning_rate=RATE,
        per_device_train_batch_size=max(1, 2 * sizes.batch // 4),
        num_samples=4,
        advantage_estimator="rloo",
        total_episodes=16 * sizes.steps,
        response_length=sizes.tokens,
        missing_eos_penalty=1.0,
        final_eval="off",
        guard_prompts=0,
        save_strategy="no",
        gradient_checkpointing=False,
        seed=seed,
    )
    return place / "ppo" / "model"


def trl(place: Path, base: Path, seed: int, sizes: Sizes) -> Path:
    """TRL's DPO in a process of its own, on the pairs that Prefine's DPO was trained on, with its settings."""
    words = [sys.executable, __file__, str(place), "--worker", str(base), "--seed", str(seed)]
    subprocess.run([*words, *(["--quick"] if sizes.steps < Sizes().steps else [])], check=True)
    return place / "trl"


def worker(place: Path, base: str, seed: int, sizes: Sizes) -> None:
    """What TRL does."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    rows = [json.loads(line) for line in (place / "pairs.jsonl").open()]
    held = set(json.loads((place / "dpo" / "data.json").read_text())["held_out_prompts"])
    from prefine.packing.encoding import Encoder
    from prefine.packing.store import prompt_key
    from prefine.preferences.convert import PairSource

    tokenizer = AutoTokenizer.from_pretrained(base)
    encoder = Encoder(tokenizer)
    keys = [f"{prompt_key(encoder.encode_pair(pair)):016x}" for pair in PairSource(str(place / "pairs.jsonl"))]
    learnt = [{k: row[k] for k in ("prompt", "chosen", "rejected")} for row, key in zip(rows, keys, strict=True) if key not in held]
    args = DPOConfig(
        output_dir=str(place / "trl-run"),
        per_device_train_batch_size=sizes.batch,
        max_steps=sizes.steps,
        learning_rate=RATE,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        beta=0.1,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        logging_steps=1,
        seed=seed,
    )
    adapter = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    begun = time.monotonic()
    trainer = DPOTrainer(model, args=args, train_dataset=Dataset.from_list(learnt), processing_class=tokenizer, peft_config=adapter)
    trainer.train()
    seconds = time.monotonic() - begun
    trainer.save_model(str(place / "trl"))
    log = [e for e in trainer.state.log_history if "rewards/margins" in e]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (place / "trl-run.json").write_text(json.dumps({"pairs": len(learnt), "seconds": seconds, "peak_bytes": peak, "log": log}))


def curves(place: Path) -> list[str]:
    """Margins and losses of both DPO runs at the steps that Prefine logged, each the mean since the step before."""
    theirs = {row["step"]: row for row in json.loads((place / "trl-run.json").read_text())["log"]}
    ours = [row for row in map(json.loads, (place / "dpo" / "metrics.jsonl").read_text().splitlines()) if "rewards/margins" in row]
    out = ["| up to step | margin, Prefine | TRL | loss, Prefine | TRL |", "| --- | --- | --- | --- | --- |"]
    begun = 0
    for row in ours:
        since = [theirs[step] for step in range(begun + 1, row["step"] + 1)]
        begun = row["step"]
        cells = []
        for name in ("rewards/margins", "loss"):
            cells += [row[name], sum(r[name] for r in since) / len(since)]
        out.append(f"| {begun} | {' | '.join(f'{c:.4f}' for c in cells)} |")
    return out


def words(folder: Path) -> list[float]:
    """Words of a response, base and tuned, in the mean."""
    out = []
    for side in ("base", "tuned"):
        said = [json.loads(line)["answers"][-1] for line in (folder / "constraints" / f"answers-{side}.jsonl").read_text().splitlines()]
        out.append(sum(len(text.split()) for text in said) / len(said))
    return out


def best_of(base: Path, seed: int, n: int, sizes: Sizes) -> dict[str, Any]:
    """The first of n responses of the base that meets what is asked, else the first; against its responses in the other evaluations."""
    from dataclasses import asdict

    from prefine.api.real_demo import met_by
    from prefine.evaluation.interval import RATE as BOUNDS
    from prefine.evaluation.interval import mean_interval
    from prefine.evaluation.judge import Comparison
    from prefine.generation.engine import Request, Sampling
    from prefine.generation.generate import TransformersEngine
    from prefine.lab.constraints import CONSTRAINTS, HELD_OUT, TOPICS, met, questions
    from prefine.preferences.records import plain_text
    from prefine.scoring.loading import load_model, load_tokenizer

    asked = questions(TOPICS[-HELD_OUT:][: sizes.unseen], CONSTRAINTS, sizes.times)
    engine = TransformersEngine(load_model(str(base)).eval(), load_tokenizer(str(base)), 128)
    drawn = [Request(q.prompt, q.seed(seed + 1 + 100 * k, 0)) for q in asked for k in range(n + 1)]
    found = dict(engine.answers(drawn, Sampling(sizes.tokens, 0.7)))
    comparisons = []
    for at, q in enumerate(asked):
        first, *others = [found[at * (n + 1) + k] for k in range(n + 1)]
        best = next((a for a in others if met(plain_text(q.prompt), a.text)), others[0])
        comparisons.append(Comparison(q, (first.text,), (best.text,)))
    wins = [0.5 + (met(plain_text(c.prompt), c.tuned[-1]) - met(plain_text(c.prompt), c.base[-1])) / 2 for c in comparisons]
    rate = mean_interval(wins, [c.question.cluster for c in comparisons], bounds=BOUNDS)
    said = [
        sum(len(text.split()) for text in side) / len(side) for side in zip(*((c.base[-1], c.tuned[-1]) for c in comparisons), strict=True)
    ]
    return {"constraints": met_by(comparisons) | {"win_rate": asdict(rate), "outcome": ""}, "words": said}


def main() -> None:
    """Train and judge what is asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="*", default=["kto", "ppo", "best-of-8", "trl"])
    parser.add_argument("--quick", action="store_true", help="do they run; on what prefine demo --real --quick left")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.folder, given.worker, given.seed, Sizes().quick() if given.quick else Sizes())
        return
    from prefine.api.evaluation import model_pair
    from prefine.api.progress import Progress
    from prefine.api.real_demo import judged, moved, percent
    from prefine.training.peak_memory import forget_peak_memory, peak_memory_bytes

    sizes = Sizes().quick() if given.quick else Sizes()
    whole = Path(f"{given.folder}-real{'-quick' * given.quick}")
    place, base = whole / f"seed-{given.seed}", whole / "base"
    train: dict[str, Callable[[Path, Path, int, Sizes], Path]] = {"kto": kto, "ppo": ppo, "trl": trl}
    for method in given.methods:
        kept = place / f"{method}.json"
        if kept.exists():
            continue
        forget_peak_memory()
        begun = time.monotonic()
        if method.startswith("best-of-"):
            found = best_of(base, given.seed, int(method.rpartition("-")[2]), sizes)
            found |= {"seconds": 0.0, "peak_bytes": peak_memory_bytes()}
        else:
            model = train[method](place, base, given.seed, sizes)
            seconds, peak = time.monotonic() - begun, peak_memory_bytes()
            if method == "trl":  # another process
                seconds, peak = (json.loads((place / "trl-run.json").read_text())[name] for name in ("seconds", "peak_bytes"))
            pair = model_pair(str(base), str(model), None, ("the base", method))
            found = judged(sizes, given.seed, pair, place / f"{method}-eval", Progress())
            found |= {"seconds": seconds, "peak_bytes": peak}
        kept.write_text(json.dumps(found, indent=1))
    heads = [
        "method",
        "constraints met",
        "change, points",
        "never trained on",
        "win rate",
        "verdict",
        "questions of fact",
        "perplexity",
        "KL",
    ]
    print(f"| {' | '.join([*heads, 'words', 'seconds', 'MiB'])} |")
    print("|" + " --- |" * 12)
    for method in ("found", *given.methods):
        if not (place / f"{method}.json").exists():
            continue
        f = json.loads((place / f"{method}.json").read_text())
        c, change = f["constraints"], f["constraints"]["change"]
        cells = ["dpo" if method == "found" else method, moved([side["estimate"] for side in c["met"]])]
        cells += [f"{100 * change['estimate']:+.0f} [{100 * change['low']:+.0f}, {100 * change['high']:+.0f}]"]
        if "facts" in f:
            said = words(place / ("dpo/eval" if method == "found" else f"{method}-eval"))
            cells += [moved([side["estimate"] for side in f["unseen-constraint"]["met"]]), percent(c["win_rate"]), c["outcome"]]
            cells += [moved([f["facts"]["before"], f["facts"]["after"]])]
            cells += [f"{f['perplexity']['before']:.1f} to {f['perplexity']['after']:.1f}", f"{c['drift']['per_token']['estimate']:.2f}"]
        else:
            said = f["words"]
            cells += ["", percent(c["win_rate"]), "", "", "", ""]
        seconds = f["seconds"]["training"] if isinstance(f["seconds"], dict) else f["seconds"]
        cells += [f"{said[0]:.0f} to {said[1]:.0f}", f"{seconds:.0f}", f"{f['peak_bytes'] / 2**20:,.0f}"]
        print(f"| {' | '.join(cells)} |")
    if (place / "trl-run.json").exists():
        print("", *curves(place), sep="\n")


if __name__ == "__main__":
    main()
