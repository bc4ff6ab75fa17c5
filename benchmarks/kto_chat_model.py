"""Unpaired feedback on a real chat model: its own responses, checked by a program, trained on as thumbs up and down.

    python benchmarks/kto_chat_model.py OUT [--seed 0] [--loss-type kto] [--steps 60]

SmolLM2-135M-Instruct is asked about topics under a constraint that a program can check; each response passes or fails. `prefine kto` with
LoRA trains on them, and on topics that were never trained on base and tuned are asked again: the share of constraints met, with intervals
over topics, and the held-out labels' AUC. Some twelve minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOPICS = (
    *("rain", "a bicycle", "the moon", "coffee", "a library", "chess", "winter", "a bridge", "honey", "the sea", "a piano", "bread"),
    *("a train", "gardens", "an owl", "salt", "a lighthouse", "maps", "a clock", "apples", "a volcano", "silk", "a kite", "rivers"),
    *("glass", "a violin", "snow", "tea", "a castle", "bees", "a desert", "paper", "a candle", "soccer", "a mirror", "wool"),
)
HELD_OUT = 12
"""Topics, the last ones, that are asked about only afterwards."""
CONSTRAINTS: dict[str, tuple[str, Callable[[str], bool]]] = {
    "question": ("End your reply with a question mark.", lambda text: text.rstrip().endswith("?")),
    "no commas": ("Do not use any commas.", lambda text: "," not in text),
    "twelve words": ("Use at most twelve words.", lambda text: 0 < len(text.split()) <= 12),
    "one sentence": ("Reply with exactly one sentence.", lambda text: sum(text.count(mark) for mark in ".!?") == 1),
}
SAMPLES, TOKENS = 6, 48


def asked(topics: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Topic, constraint and what is said."""
    return [(topic, name, f"Write something about {topic}. {words}") for topic in topics for name, (words, _) in CONSTRAINTS.items()]


def responses(folder: str, prompts: list[tuple[str, str, str]], samples: int, temperature: float, seed: int) -> list[list[str]]:
    """Texts that a model, or an adapter's folder, responds with."""
    from prefine.generation.engine import Sampling
    from prefine.generation.generate import generate
    from prefine.packing.encoding import Encoder
    from prefine.scoring.loading import load_model, load_tokenizer

    model, tokenizer = load_model(folder), load_tokenizer(folder)
    model.eval()
    encoder = Encoder(tokenizer)
    ids = [encoder.prompt_ids(({"role": "user", "content": said},), None, None) for _, _, said in prompts for _ in range(samples)]
    seeds = [1000 * seed + place for place in range(len(ids))]
    found = dict(generate(model, tokenizer, ids, Sampling(TOKENS, temperature), seeds, 64))
    return [[found[at * samples + s].text for s in range(samples)] for at in range(len(prompts))]


def met(prompts: list[tuple[str, str, str]], texts: list[list[str]]) -> list[tuple[str, str, bool]]:
    """Topic, constraint, and whether a response meets it."""
    return [(topic, name, CONSTRAINTS[name][1](text)) for (topic, name, _), each in zip(prompts, texts, strict=True) for text in each]


def main() -> None:
    """Sample, label, train, ask again."""
    import prefine
    from prefine.evaluation.interval import RATE, mean_interval
    from prefine.lab.chat_model import build_chat_model

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loss-type", default="kto")
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    base, rows = args.out / "base", args.out / "thumbs.jsonl"
    if not (base / "config.json").exists():
        build_chat_model(base)
    begun = time.monotonic()
    took: dict[str, float] = {}

    def lap(name: str) -> None:
        took[name] = round(time.monotonic() - begun - sum(took.values()), 1)

    if not rows.exists():
        prompts = asked(TOPICS[:-HELD_OUT])
        with rows.open("w") as stream:
            for (_, name, said), each in zip(prompts, responses(str(base), prompts, SAMPLES, 1.0, args.seed), strict=True):
                for text in each:
                    answer = [{"role": "assistant", "content": text}]
                    row: dict[str, Any] = {"prompt": [{"role": "user", "content": said}], "completion": answer}
                    stream.write(json.dumps(row | {"label": CONSTRAINTS[name][1](text)}) + "\n")
    lap("sampling")
    run = args.out / f"{args.loss_type}-{args.seed}"
    settings: dict[str, Any] = {"lora_r": 16, "learning_rate": 1e-4, "per_device_train_batch_size": 16, "max_steps": args.steps}
    prefine.kto(
        model=str(base),
        data=str(rows),
        output_dir=str(run),
        loss_type=args.loss_type,
        seed=args.seed,
        final_eval="off",
        save_strategy="no",
        **settings,
    )
    lap("training")
    held = asked(TOPICS[-HELD_OUT:])
    found: dict[str, Any] = {"settings": settings | {"loss_type": args.loss_type, "seed": args.seed}}
    shares: dict[str, list[tuple[str, str, bool]]] = {}
    for name, folder in (("base", base), ("tuned", run / "model")):
        shares[name] = met(held, responses(str(folder), held, 4, 0.7, args.seed + 1))
        cell = mean_interval([float(ok) for _, _, ok in shares[name]], [topic for topic, _, _ in shares[name]], bounds=RATE)
        each = {c: sum(ok for _, n, ok in shares[name] if n == c) / sum(n == c for _, n, _ in shares[name]) for c in CONSTRAINTS}
        found[name] = {"met": cell.percent(), "by constraint": {c: round(100 * share) for c, share in each.items()}}
    topics = [topic for topic, _, _ in shares["base"]]
    change = [float(b) - float(a) for (_, _, a), (_, _, b) in zip(shares["base"], shares["tuned"], strict=True)]
    found["change"] = mean_interval(change, topics, bounds=(-1.0, 1.0)).percent()
    lap("asking again")
    summary = json.loads((run / "eval" / "final" / "summary.json").read_text())
    found |= {"auc": summary["learning"] and summary["learning"]["accuracy"], "sentence": summary["sentence"], "seconds": took}
    (run / "found.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
