"""Peak memory of training an ensemble of four reward models on one base, over that of a single one, by the command.

python benchmarks/ensemble_memory.py [--pairs 64]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path


def peak_mebibytes(command: list[str]) -> float:
    """Run a command; the most memory its process held."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"failed: {' '.join(command)}")
    return usage.ru_maxrss / 1024


def main() -> None:
    """Train one, then four."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--make", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        from dpo_vs_trl import make_model, rows

        make_model(Path(given.make) / "base", quick=False)
        (Path(given.make) / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows(given.pairs)))
        return
    folder = Path(tempfile.mkdtemp())
    # In a process of its own: a child's peak begins with its parent's.
    subprocess.run([sys.executable, __file__, "--pairs", str(given.pairs), "--make", str(folder)], check=True)
    peaks = {}
    for members in (1, 4):
        command = [sys.executable, "-m", "prefine.cli", "reward", "--model", str(folder / "base"), "--data", str(folder / "pairs.jsonl")]
        command += ["--output-dir", str(folder / f"run-{members}"), "--lora-r", "16", "--ensemble", str(members), "--ignore-audit"]
        peaks[members] = peak_mebibytes([*command, "--per-device-train-batch-size", "8"])
        print(f"{members} on one base of 32 million parameters: peak memory {peaks[members]:.0f} MiB", flush=True)
    print(f"ratio {peaks[4] / peaks[1]:.3f}")


if __name__ == "__main__":
    main()
