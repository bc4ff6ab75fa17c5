"""How long commands take until they say something: of this checkout and, where one is given, of another, in turns.

python benchmarks/cold_start.py --model FOLDER --data FILE [--other OTHER_CHECKOUT] [--repeats 5]

``first`` is the time until the first visible character on a terminal; ``whole`` until the command ends. Medians, in seconds.
"""

from __future__ import annotations

import argparse
import compileall
import os
import pty
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SILENT = b"\x1b[?25l\r\n "
"""What a terminal is sent before anything can be seen."""


def whole(words: list[str], env: dict[str, str]) -> float:
    """Seconds until a command ends."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "prefine.cli", *words]
    subprocess.run(command, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - start


def first(words: list[str], env: dict[str, str]) -> float:
    """Seconds until a command shows something; it is killed then."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(env)
        os.execv(sys.executable, [sys.executable, "-m", "prefine.cli", *words])
    start = time.perf_counter()
    while True:
        try:
            got = os.read(terminal, 4096)
        except OSError:
            break
        if not got or got.strip(SILENT):
            break
    took = time.perf_counter() - start
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    os.close(terminal)
    return took


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--other", help="another checkout, to compare with")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    checkouts = {"this": Path(__file__).parents[1], **({"other": Path(args.other)} if args.other else {})}
    for checkout in checkouts.values():
        compileall.compile_dir(checkout / "src", quiet=1)  # as pip does for who installs the package
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        train = ["dpo", "--model", args.model, "--data", args.data, "--output-dir", run, "--max-steps", "1"]
        cases = {
            "--help": (whole, ["--help"]),
            "dpo --help": (whole, ["dpo", "--help"]),
            "dpo --nonsense 1": (whole, ["dpo", "--nonsense", "1"]),
            "data show": (whole, ["data", "show", args.data]),
            "judge --help": (whole, ["judge", "--help"]),
            "eval nowhere": (whole, ["eval", "nowhere"]),
            "dpo, first line": (first, train),
        }
        print(f"| command | {' | '.join(checkouts)} |")
        print(f"| --- |{' --- |' * len(checkouts)}")
        for name, (measure, words) in cases.items():
            taken: dict[str, list[float]] = {which: [] for which in checkouts}
            for _ in range(args.repeats):
                for which, checkout in checkouts.items():
                    env = {"PYTHONPATH": str(checkout / "src"), "PREFINE_CACHE": f"{folder}/cache-{which}", "HF_HUB_OFFLINE": "1"}
                    taken[which].append(measure(words, env))
                    shutil.rmtree(run, ignore_errors=True)
            print(f"| `prefine {name}` | {' | '.join(f'{statistics.median(t):.2f}' for t in taken.values())} |", flush=True)


if __name__ == "__main__":
    main()
