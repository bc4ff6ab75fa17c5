"""What the guard finds: planted failures, and false alarms of healthy runs, in the laboratory.

prefine demo --seed 0                               # makes the base and its pairs
python benchmarks/guard_failures.py runs/demo-0 [--cases NAME ...] [--seeds 0 1 2] [--modes warn act] [--output FOLDER]

A line a run: what was found and at which step, what was done, how it ended, and the verdict of the laboratory's exact judge.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import string
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ORACLE = """
from prefine.lab.language import gold
from prefine.preferences.records import plain_text


def score(prompt, response):
    return gold(prompt if isinstance(prompt, str) else prompt[-1]["content"], response).score


def equal(prompt, response):
    return 1.0


def longest(prompt, response):
    return float(len(response.split()))


def huge(prompt, response):
    return 1e31 * score(prompt, response)
"""
DPO = {
    **{"learning_rate": 1.5e-3, "num_train_epochs": 3.0, "per_device_train_batch_size": 32, "max_length": 128},
    **{"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]},
}
PPO = {"learning_rate": 3e-4, "max_steps": 60, "response_length": 40, "num_samples": 1, "kl_coef": 0.05}
SFT = {"learning_rate": 1e-3, "num_train_epochs": 2.0, "per_device_train_batch_size": 32, "max_length": 128}


class Lab:
    """The laboratory's files, and a folder for what is made."""

    def __init__(self, demo: Path, output: Path) -> None:
        self.demo, self.output = demo, output
        self.base = str(demo / "base")
        self.pairs = [json.loads(line) for line in (demo / "pairs.jsonl").open()]
        output.mkdir(parents=True, exist_ok=True)
        (output / "oracle.py").write_text(ORACLE)
        self.judge = output / "judge.yaml"
        self.judge.write_text(f"judge: python\nfunction: {output / 'oracle.py'}:score\n")

    def data(self, name: str, rows: list[dict[str, Any]]) -> str:
        path = self.output / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)


def plain(lab: Lab, seed: int) -> list[dict[str, Any]]:
    rows = [dict(row) for row in lab.pairs]
    random.Random(seed).shuffle(rows)
    return rows


def swapped(lab: Lab, seed: int) -> list[dict[str, Any]]:
    return [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in plain(lab, seed)]


def duplicated(lab: Lab, seed: int) -> list[dict[str, Any]]:
    return plain(lab, seed)[:120] * 10


def corrupted(lab: Lab, seed: int) -> list[dict[str, Any]]:
    rows, rng = plain(lab, seed), random.Random(seed)
    for row in rows[400:700]:
        letters = "".join(rng.choices(string.ascii_letters + "□�{}", k=80))
        row["chosen"] = [{"role": "assistant", "content": letters}]
    return rows


def broken_loss(first: int, last: float) -> Callable[[], Callable[[], None]]:
    """Make DPO's loss NaN from one step to another; returns what undoes it."""

    def plant() -> Callable[[], None]:
        from prefine.training.dpo import DPOTrainer

        whole = DPOTrainer._loss

        def loss(self: Any, logps: Any, weights: Any) -> Any:
            found = whole(self, logps, weights)
            return found * math.nan if first <= self.state.global_step < last and self.model.training else found

        DPOTrainer._loss = loss  # type: ignore[method-assign]
        return lambda: setattr(DPOTrainer, "_loss", whole)

    return plant


def other_models(change: Callable[[Any, Any], tuple[Any, Any]]) -> Callable[[], Callable[[], None]]:
    """Give DPO's trainer other models than the command's, as code around it would; returns what undoes it."""

    def plant() -> Callable[[], None]:
        from prefine.training.dpo import DPOTrainer

        whole = DPOTrainer.__init__

        def init(self: Any, model: Any, reference: Any, *args: Any, **kwargs: Any) -> None:
            whole(self, *change(model, reference), *args, **kwargs)

        DPOTrainer.__init__ = init  # type: ignore[method-assign]
        return lambda: setattr(DPOTrainer, "__init__", whole)

    return plant


def frozen(model: Any, reference: Any) -> tuple[Any, Any]:
    return model.requires_grad_(False), reference


def with_wrong_reference(model: Any, reference: Any) -> tuple[Any, Any]:
    """As one that was trained already, on the same pairs."""
    from transformers import AutoModelForCausalLM

    base = Path(model.config._name_or_path)
    return model, AutoModelForCausalLM.from_pretrained(base.parent / "model", dtype=model.dtype)


def nothing() -> Callable[[], None]:
    return lambda: None


CASES: dict[str, tuple[str, dict[str, Any], Any, Any]] = {
    "healthy": ("dpo", {}, plain, nothing),
    "healthy robust": ("dpo", {"loss_type": ["robust", "sft"], "label_smoothing": 0.1}, plain, nothing),
    "healthy lora": ("dpo", {"lora_r": 8, "learning_rate": 4e-3}, plain, nothing),
    "healthy ppo": ("ppo", {"reward_function": "score"}, plain, nothing),
    "healthy sft": ("sft", {}, plain, nothing),
    "rate x30": ("dpo", {"learning_rate": 4.5e-2}, plain, nothing),
    "rate x100": ("dpo", {"learning_rate": 0.15}, plain, nothing),
    "beta .001": ("dpo", {"beta": 0.001}, plain, nothing),
    "swapped labels": ("dpo", {}, swapped, nothing),
    "wrong reference": ("dpo", {}, plain, other_models(with_wrong_reference)),
    "frozen model": ("dpo", {}, plain, other_models(frozen)),
    "duplicated data": ("dpo", {"loss_type": ["sigmoid"], "loss_weights": None, "num_train_epochs": 5.0}, duplicated, nothing),
    "corrupted chunk": ("dpo", {"ignore_audit": True}, corrupted, nothing),
    "NaN in a batch": ("dpo", {}, plain, broken_loss(30, 31)),
    "NaN from a step on": ("dpo", {}, plain, broken_loss(60, math.inf)),
    "equal rewards": ("ppo", {"reward_function": "equal"}, plain, nothing),
    "hacked reward": ("ppo", {"reward_function": "longest"}, plain, nothing),
    "huge rewards": ("ppo", {"reward_function": "huge"}, plain, nothing),
}


def one(lab: Lab, case: str, seed: int, mode: str) -> dict[str, Any]:
    import prefine as pf

    method, changes, make, plant = CASES[case]
    folder = lab.output / f"{case.replace(' ', '-')}-{seed}-{mode}"
    shutil.rmtree(folder, ignore_errors=True)
    options = {**{"dpo": DPO, "ppo": PPO, "sft": SFT}[method], **changes}
    options = {k: v for k, v in options.items() if v is not None}
    if method != "sft":
        options["final_judge"] = str(lab.judge)
    if method == "dpo":
        options |= {"retain": str(lab.demo / "retain.jsonl"), "retain_weight": 1.0}
    if "reward_function" in options:
        options["reward_function"] = f"{lab.output / 'oracle.py'}:{options['reward_function']}"
    data = lab.data(f"{case.replace(' ', '-')}-{seed}", make(lab, seed))
    undo, ended, begun = plant(), "finished", time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            getattr(pf, method)(model=lab.base, data=data, output_dir=str(folder), seed=seed, guard=mode, **options)
    except pf.PrefineError as error:
        ended = f"error: {error}"[:110]
    finally:
        undo()
    run = pf.Run(folder) if (folder / "config.yaml").exists() else None
    events = [e for e in run.directory.events() if e["event"] == "guard"] if run else []
    verdict = None
    if run is not None and run.directory.model.exists() and method != "sft":
        # Sampled, as the laboratory's base answers well only sometimes; its likeliest response is right.
        verdict = run.evaluate(judge="python", function=f"{lab.output / 'oracle.py'}:score", temperature=1.0, max_new_tokens=40)
    return {
        "case": case,
        "seed": seed,
        "mode": mode,
        "found": [(e["step"], e["rule"], e["severity"]) for e in events],
        "done": [(e["step"], e["done"]) for e in events if e["done"]],
        "skipped": sum(e["event"] == "skipped_update" for e in run.directory.events()) if run else 0,
        "ended": ended,
        "verdict": str(verdict.summary["sentence"])[:90] if verdict is not None else "",
        "seconds": round(time.perf_counter() - begun, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--modes", nargs="+", default=["warn"])
    parser.add_argument("--output", type=Path, default=Path("runs/guard"))
    args = parser.parse_args()
    lab = Lab(args.demo, args.output.absolute())
    for case in args.cases:
        for mode in args.modes:
            for seed in args.seeds:
                print(json.dumps(one(lab, case, seed, mode)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
