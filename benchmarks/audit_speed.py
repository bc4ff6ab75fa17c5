"""Audit and convert against ``datasets.map`` that tokenizes the same columns, on the same cores, interleaved; and peak memory.

    python benchmarks/audit_speed.py [--rows 1000000] [--slice 200000] [--rounds 3]

The slices take turns (A B C A B C); the ratio is of medians. Then the whole file is audited
and converted once, with the resident memory of all its processes sampled.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
MAP = """
import sys, datasets
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
data = datasets.load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=sys.argv[3])
def encode(batch):
    return {c + "_ids": tokenizer(batch[c], add_special_tokens=False)["input_ids"] for c in ("prompt", "chosen", "rejected")}
data.map(encode, batched=True, num_proc=int(sys.argv[4]))
"""


def write(path: Path, rows: int) -> None:
    """Pairs of about a kilobyte each, of invented words; the same words a tokenizer is trained on."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from planted_faults import Clean, tokenizer

    clean = Clean(seed=1)
    tokenizer(clean).save_pretrained(path.parent / "tokenizer")
    rng = random.Random(0)
    sentences = [clean.text(8, 20) for _ in range(20_000)]
    with path.open("w") as stream:
        for _ in range(rows):
            prompt, chosen, rejected = (" ".join(rng.choices(sentences, k=n)) for n in (2, 4, 4))
            stream.write(json.dumps({"prompt": prompt, "chosen": " " + chosen, "rejected": " " + rejected}) + "\n")


def resident_mib(pid: int) -> float:
    """Proportional resident memory of a process and its children, MiB."""
    total = 0
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            stat = (process / "stat").read_text().rsplit(")", 1)[1].split()
            if int(process.name) != pid and int(stat[1]) != pid:
                continue
            lines = (process / "smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, StopIteration, IndexError):
            continue
    return total / 1024


def timed(words: list[str]) -> tuple[float, float]:
    """Seconds and peak memory (MiB) of a command."""
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            peak[0] = max(peak[0], resident_mib(process.pid))

    thread = threading.Thread(target=watch)
    thread.start()
    _, errors = process.communicate()
    done.set()
    thread.join()
    if process.returncode:
        raise SystemExit(errors)
    return time.perf_counter() - start, peak[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--slice", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    prefine = [str(Path(sys.executable).with_name("prefine")), "data"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "slice.jsonl", given.slice)
        tokenizer = str(folder / "tokenizer")
        seconds: dict[str, list[float]] = {"audit": [], "convert": [], "map": []}
        for turn in range(given.rounds):
            audit = [*prefine, "audit", str(folder / "slice.jsonl"), "--model", tokenizer]
            seconds["audit"].append(timed(audit)[0])
            seconds["convert"].append(timed([*prefine, "convert", str(folder / "slice.jsonl"), str(folder / "out.jsonl")])[0])
            mapped = [sys.executable, "-c", MAP, str(folder / "slice.jsonl"), tokenizer, str(folder / f"cache{turn}"), str(cores)]
            seconds["map"].append(timed(mapped)[0])
            print({k: round(v[-1], 1) for k, v in seconds.items()}, flush=True)
        median = {k: statistics.median(v) for k, v in seconds.items()}
        for k in ("audit", "convert"):
            rate = given.slice / median[k]
            print(f"{k}: {rate:,.0f} rows/s, {median['map'] / median[k]:.2f} x datasets.map's {given.slice / median['map']:,.0f}")
        if given.rows > given.slice:
            write(folder / "whole.jsonl", given.rows)
            size = (folder / "whole.jsonl").stat().st_size / 2**30
            for k, words in (
                ("audit", ["audit", str(folder / "whole.jsonl"), "--model", tokenizer]),
                ("convert", ["convert", str(folder / "whole.jsonl"), str(folder / "out.jsonl")]),
            ):
                spent, peak = timed([*prefine, *words])
                print(f"{k} of {given.rows:,} rows ({size:.2f} GiB): {spent:.0f} s, peak {peak:,.0f} MiB over all processes", flush=True)


if __name__ == "__main__":
    main()
