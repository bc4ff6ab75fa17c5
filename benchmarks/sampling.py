"""Responses a second of two versions of Prefine on the same prompts, interleaved, and how many responses are the same.

    python benchmarks/sampling.py MODEL --against OTHER/src

Each run is a process of its own. 8 samples of each prompt at temperature 1, as rollouts and ``prefine pairs`` sample. Where responses
differ, the number that was drawn fell within rounding of the edge between two tokens: batches of another size do the same.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOPICS = (
    *("rivers", "bread", "winter", "bees", "trains", "the moon", "gardens", "chess", "bicycles", "maps", "tea", "clocks", "rain", "coffee"),
    *("bridges", "honey", "the sea", "a piano", "an owl", "salt", "a lighthouse", "apples", "a volcano", "silk", "a kite", "glass", "snow"),
    *("a castle", "paper", "wool"),
)
ASKED = (
    "in one sentence",
    "in lower case",
    "ending with a question",
    "as three hyphened points",
    "in at most twelve words",
    "without commas",
)


def measure(model_path: str, prompts: int, samples: int, tokens: int, batch: int, threads: int, dtype: str, out: Path) -> None:
    """Sample once, and write the time and the responses' token ids."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from prefine.generation.engine import Sampling
    from prefine.generation.generate import generate
    from prefine.packing.encoding import Encoder

    torch.set_num_threads(threads)
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=getattr(torch, dtype))
    encoder = Encoder(tokenizer)
    texts = [f"Write about {topic} {asked}." for asked in ASKED for topic in TOPICS][:prompts]
    ids = [encoder.prompt_ids(({"role": "user", "content": text},)) for text in texts for _ in range(samples)]
    begun = time.perf_counter()
    found = dict(generate(model, tokenizer, ids, Sampling(tokens, 1.0), list(range(len(ids))), batch))
    seconds = time.perf_counter() - begun
    out.write_text(json.dumps({"seconds": seconds, "ids": [found[i].ids for i in range(len(ids))]}))


def main() -> None:
    """Run both versions in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--against", help="The src folder of the other version.")
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--against-batch", type=int, help="the other version's; unset, the same")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not 0 < given.prompts <= len(TOPICS) * len(ASKED):
        parser.error(f"--prompts is from 1 to {len(TOPICS) * len(ASKED)}")
    if given.out:
        measure(given.model, given.prompts, given.samples, given.tokens, given.batch, given.threads, given.dtype, given.out)
        return
    here = str(Path(__file__).parent.parent / "src")
    rates: dict[str, list[float]] = {here: [], **({given.against: []} if given.against else {})}
    ids: dict[str, list[list[int]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(given.runs):
            for source, measured in rates.items():
                out = Path(folder) / "out.json"
                batch = given.batch if source == here else given.against_batch or given.batch
                words = [sys.executable, *sys.argv, "--out", str(out), "--batch", str(batch)]
                subprocess.run(words, env=os.environ | {"PYTHONPATH": source}, check=True)
                run = json.loads(out.read_text())
                ids[source] = run["ids"]
                measured.append(len(run["ids"]) / run["seconds"])
                print(f"{source}: {measured[-1]:.2f} responses a second", flush=True)
    medians = {source: statistics.median(measured) for source, measured in rates.items()}
    lengths = [len(row) for row in ids[here]]
    print(f"{given.prompts} prompts x {given.samples}, {statistics.mean(lengths):.1f} of {given.tokens} tokens")
    if given.against:
        same = sum(a == b for a, b in zip(ids[here], ids[given.against], strict=True))
        now, then = medians[here], medians[given.against]
        print(f"{now:.2f} against {then:.2f} responses a second: {now / then:.2f} times")
        print(f"{same} of {len(lengths)} responses are the same")


if __name__ == "__main__":
    main()
