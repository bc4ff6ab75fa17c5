"""What `prefine tune` chooses in the laboratory: successive halving against the whole grid, and what each costs.

prefine demo --seed 0                               # makes the base and its pairs
python benchmarks/tune_lab.py runs/demo-0 [--seeds 0] [--output FOLDER]

Nine settings, learning rate by beta, three of whose rates are the laboratory's own and two lower ones; the default is the lowest
rate. A line a seed: the cost in full trainings, what each sampler chose, and the oracle judge's win rate of the choice, of the
default and of the grid's best, all on the same fresh prompts. Halving reads the grid's full-length runs where it needs the same
ones, which saves time and counts in its cost all the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

ORACLE = """
from prefine.lab.language import gold


def score(prompt, response):
    return gold(prompt if isinstance(prompt, str) else prompt[-1]["content"], response).score
"""
SETTINGS: dict[str, Any] = {
    **{"learning_rate": 1.5e-4, "num_train_epochs": 3.0, "per_device_train_batch_size": 32, "max_length": 128},
    **{"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2], "guard_prompts": 0},
}
GRID = {"learning_rate": [1.5e-4, 5e-4, 1.5e-3], "beta": [0.05, 0.1, 0.2]}
JUDGED = {"temperature": 1.0, "max_new_tokens": 40, "select_prompts": 100, "fresh_prompts": 150}


def search(demo: Path, folder: Path, sampler: str, seed: int) -> dict[str, Any]:
    """One search; what it found, as plain data."""
    import prefine as pf

    judge = {"judge": "python", "function": f"{folder.parent / 'oracle.py'}:score"}
    since = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = {"model": str(demo / "base"), "data": str(demo / "pairs.jsonl"), "output_dir": str(folder), "seed": seed}
        given |= {"retain": str(demo / "retain.jsonl"), "retain_weight": 1.0}
        pf.tune(**given, grid=GRID, sampler=sampler, judge=judge, **JUDGED, **SETTINGS)
    found = json.loads((folder / "tune.json").read_text())
    return found | {"seconds": time.perf_counter() - since}


def percent(rate: dict[str, Any]) -> str:
    return f"{100 * rate['estimate']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"


def fresh(folder: Path, trial: str) -> dict[str, Any]:
    """A full-length run's win rate on the fresh prompts, as the search measured it."""
    return dict(json.loads((folder / "trials" / trial / "eval" / "fresh" / "summary.json").read_text())["win_rate"])


def one(demo: Path, output: Path, seed: int) -> dict[str, Any]:
    from prefine.api.comparing import difference
    from prefine.runs import RunDirectory

    folders = {name: output / f"{name}-{seed}" for name in ("grid", "halving")}
    whole = search(demo, folders["grid"], "grid", seed)
    for trial in whole["trials"]:
        copy = folders["halving"] / "trials" / trial["name"]
        if not copy.exists():
            shutil.copytree(folders["grid"] / "trials" / trial["name"], copy, ignore=shutil.ignore_patterns("select", "fresh"))
    halved = search(demo, folders["halving"], "halving", seed)
    results = {name: found["result"] for name, found in (("grid", whole), ("halving", halved))}
    runs = [RunDirectory.open(folders[name] / "trials" / r["trial"]) for name, r in results.items()]
    between = difference(*runs, "fresh", 0.95) if results["grid"]["trial"] != results["halving"]["trial"] else None
    return {
        "seed": seed,
        "cost, full trainings": {name: round(r["cost"], 3) for name, r in results.items()},
        "cost ratio": round(results["halving"]["cost"] / results["grid"]["cost"], 3),
        "chosen": {name: r["trial"] for name, r in results.items()},
        "fresh win rate, %": {name: percent(r["fresh"]) for name, r in results.items()},
        "win rate it was chosen by, %": {name: percent(r["select"]) for name, r in results.items()},
        "default, fresh, %": percent(fresh(folders["grid"], results["grid"]["default"])),
        "against the default": {name: r["outcome"] for name, r in results.items()},
        "halving less grid's best, points": "the same run" if between is None else between["sentence"].partition(": ")[2],
        "all in full, select, %": {t["name"]: percent(t["measure"]) for t in whole["trials"]},
        "seconds": {"grid": round(whole["seconds"]), "halving": round(halved["seconds"])},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--output", type=Path, default=Path("runs/tune-lab"))
    args = parser.parse_args()
    output = args.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    (output / "oracle.py").write_text(ORACLE)
    for seed in args.seeds:
        print(json.dumps(one(args.demo, output, seed)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
