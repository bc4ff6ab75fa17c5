"""What a run on a real chat model ends with, at learning rates from too small to ruinous.

python benchmarks/real_model.py [--steps 30] [--rates 1e-6 5e-5 2e-4 1e-3]

SmolLM2-135M-Instruct with LoRA on invented pairs that prefer a friendly offer at the end of a response; every run is the
command, in a process of its own, with nothing but the learning rate changed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

TOPICS = (
    "the moon", "bread", "whales", "chess", "rivers", "violins", "snow", "bees", "maps", "clocks", "tea", "bridges", "owls", "glass",
    "tomatoes", "trains", "volcanoes", "pencils", "deserts", "soap", "kites", "pianos", "salt", "lighthouses", "coral", "windmills",
    "paper", "penguins", "gardens", "cheese", "islands", "bicycles", "honey", "castles", "rain", "horses", "coffee", "stars", "wool", "ice",
)  # fmt: skip
ASKS = ("Tell me about {}.", "What should I know about {}?", "Say something short about {}.", "Why are people fond of {}?")


def write_pairs(path: Path) -> None:
    rows = []
    for i, topic in enumerate(TOPICS):
        for j, ask in enumerate(ASKS):
            plain = f"{topic[0].upper()}{topic[1:]}: people have known this for {i + j + 2} centuries, and it is still part of daily life."
            friendly = f"Happy to help! {plain} Would you like to hear more about {topic}?"
            rows.append({"prompt": ask.format(topic), "chosen": friendly, "rejected": plain})
    roles = {"prompt": "user", "chosen": "assistant", "rejected": "assistant"}
    messages = [{name: [{"role": role, "content": r[name]}] for name, role in roles.items()} for r in rows]
    path.write_text("".join(json.dumps(m) + "\n" for m in messages))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rates", nargs="+", default=["1e-6", "5e-5", "2e-4", "1e-3"])
    parser.add_argument("--folder", default=tempfile.mkdtemp(prefix="real-model-"))
    given = parser.parse_args()
    folder = Path(given.folder)
    folder.mkdir(parents=True, exist_ok=True)
    from prefine.lab.chat_model import build_chat_model

    model = folder / "smollm2"
    if not (model / "config.json").exists():
        build_chat_model(model)
    write_pairs(folder / "pairs.jsonl")
    for rate in given.rates:
        run = folder / f"run-{rate}"
        words = ["dpo", "--model", str(model), "--data", str(folder / "pairs.jsonl"), "--lora-r", "16", "--learning-rate", rate]
        words += ["--max-steps", str(given.steps), "--no-gradient-checkpointing", "--output-dir", str(run)]
        if not (run / "summary.json").exists():
            subprocess.run([sys.executable, "-m", "prefine.cli", *words], check=True)
        found = json.loads((run / "summary.json").read_text())
        print(f"learning rate {rate}: {found['sentence']}\n", flush=True)


if __name__ == "__main__":
    main()
