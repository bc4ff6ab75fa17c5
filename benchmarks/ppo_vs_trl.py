"""PPO side by side with the last TRL that had it (1.12.0, September 2026), rollout by rollout in turns.

Same base, prompts (drawn in orders of their own), episodes, response length, passes and threads; each side in a process of its
own through its own ``trainer.train()``. With --lora the policies train the same adapter; TRL's value model is trained whole and
its reward model is a model of its own, as it knows no other way, where Prefine's are adapters on the one base. TRL lives in an
environment of its own, whose Python is given:

    python -m venv /tmp/trlppo && /tmp/trlppo/bin/pip install torch==2.13.0 trl==1.12.0 transformers==5.23.0
    python benchmarks/ppo_vs_trl.py --trl-python /tmp/trlppo/bin/python [--size tiny|30m] [--lora] [--rollouts 6]

Prints episodes a second (sampled, scored and trained on), the ratio of medians, and peak resident memory. The random model
never ends an answer, so both sides sample and train on the same number of tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PASSES, RESPONSE, LONGEST_PROMPT, MICRO_BATCH, WARM_UP, THREADS = 4, 53, 512, 8, 1, 2
"""Passes, response length and the longest prompt are the defaults of TRL's PPOConfig and of its own example."""


def prompts(folder: Path, count: int) -> list[list[int]]:
    """Token ids of real prompts, short enough for both sides to take whole."""
    from dpo_vs_trl import rows
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    found = (tokenizer(r["prompt"])["input_ids"] for r in rows(1900))
    return [ids for ids in found if len(ids) <= LONGEST_PROMPT][:count]


def resident(which: str) -> int:
    """Bytes that this process holds (VmRSS) or held at most (VmHWM; not ru_maxrss, which a child inherits)."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{which}:")[1].split()[0])


def worker(side: str, folder: Path, rollouts: int, episodes: int, lora: bool) -> None:
    """Train one side, a rollout for each line on standard input; write seconds a rollout to standard output."""
    import torch
    from transformers import TrainerCallback

    torch.set_num_threads(THREADS)
    out, sys.stdout = sys.stdout, sys.stderr

    class Turns(TrainerCallback):
        updates = 0

        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self._wait()

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.updates += 1
            if side == "prefine" and self.updates % PASSES:
                return  # an update of a rollout that goes on
            seconds = time.perf_counter() - self.start
            print(json.dumps({"seconds": seconds, "peak_bytes": resident("VmHWM")}), file=out, flush=True)
            if self.updates < rollouts * (PASSES if side == "prefine" else 1):
                self._wait()

        def _wait(self) -> None:
            sys.stdin.readline()
            self.start = time.perf_counter()

    if side == "trl":
        from trl.experimental.ppo import PPOTrainer
    else:
        from prefine import PPOTrainer  # noqa: F401
    import peft  # noqa: F401

    libraries = resident("VmRSS")
    trainer = (trl_trainer if side == "trl" else prefine_trainer)(folder, rollouts, episodes, lora, Turns())
    print(json.dumps({"ready": True, "libraries": libraries}), file=out, flush=True)
    trainer.train()


COMMON: dict[str, Any] = {
    "total_episodes": None,
    "response_length": RESPONSE,
    "num_ppo_epochs": PASSES,
    "num_mini_batches": 1,
    "temperature": 1.0,
    "kl_coef": 0.05,
    "learning_rate": 1e-6,
    "missing_eos_penalty": 1.0,
    "bf16": False,
    "use_cpu": True,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "logging_steps": 1,
    "seed": 0,
}


def adapter(task: str) -> Any:
    """The same adapter on both sides."""
    from peft import LoraConfig

    return LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type=task)


def trl_trainer(folder: Path, rollouts: int, episodes: int, lora: bool, turns: Any) -> Any:
    """TRL's, as its own example sets it up: policy, reference, reward and value model."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(folder / "base", padding_side="left")
    args = PPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=MICRO_BATCH,
        gradient_accumulation_steps=episodes // MICRO_BATCH,
        gradient_checkpointing=False,
        stop_token="eos",
        num_sample_generations=0,
        **COMMON | {"total_episodes": episodes * rollouts},
    )
    rewards = [AutoModelForSequenceClassification.from_pretrained(folder / "reward", num_labels=1) for _ in range(2)]
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    return PPOTrainer(
        args=args,
        processing_class=tokenizer,
        model=base,
        ref_model=None if lora else AutoModelForCausalLM.from_pretrained(folder / "base"),
        reward_model=rewards[0],
        value_model=rewards[1],
        train_dataset=Dataset.from_dict({"input_ids": json.loads((folder / "prompts.json").read_text())}),
        callbacks=[turns],
        peft_config=adapter("CAUSAL_LM") if lora else None,
    )


def prefine_trainer(folder: Path, rollouts: int, episodes: int, lora: bool, turns: Any) -> Any:
    """Ours; with LoRA, the reward model is an adapter on the same base."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from prefine import PPOConfig, PPOTrainer
    from prefine.packing.encoding import prompt_only
    from prefine.packing.group import as_ids

    args = PPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=episodes,
        gradient_checkpointing=False,
        **COMMON | {"total_episodes": episodes * rollouts},
    )
    ids = json.loads((folder / "prompts.json").read_text())
    groups = [prompt_only(as_ids(p), i) for i, p in enumerate(ids)]
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    return PPOTrainer(
        args,
        AutoTokenizer.from_pretrained(folder / "base"),
        base,
        reward_model=str(folder / ("reward-adapter" if lora else "reward")),
        train_dataset=groups,
        callbacks=[turns],
        peft_config=adapter("CAUSAL_LM") if lora else None,
    )


def make(folder: Path, tiny: bool, episodes: int) -> None:
    """Base, reward model (whole, and as an adapter) and prompts."""
    import torch
    from dpo_vs_trl import make_model
    from peft import get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    make_model(folder / "base", tiny)
    torch.manual_seed(1)
    AutoModelForSequenceClassification.from_pretrained(folder / "base", num_labels=1).save_pretrained(folder / "reward")
    model = AutoModelForSequenceClassification.from_pretrained(folder / "base", num_labels=1)
    get_peft_model(model, adapter("SEQ_CLS")).save_pretrained(folder / "reward-adapter")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    for name in ("reward", "reward-adapter"):
        tokenizer.save_pretrained(folder / name)
    (folder / "prompts.json").write_text(json.dumps(prompts(folder / "base", episodes)))


def main() -> None:
    """Run both sides in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trl-python", help="Python of the environment with TRL 1.12.0; without it Prefine runs alone")
    parser.add_argument("--size", choices=("tiny", "30m"), default="30m")
    parser.add_argument("--rollouts", type=int, default=6)
    parser.add_argument("--episodes", type=int, default=32, help=f"of a rollout; a multiple of {MICRO_BATCH}")
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker, Path(args.folder), args.rollouts, args.episodes, args.lora)
        return
    folder = Path(tempfile.mkdtemp())
    make(folder, args.size == "tiny", args.episodes * (args.rollouts + 1))
    pythons = {"trl": args.trl_python, "prefine": sys.executable}
    sides, libraries = {}, {}
    for name, python in pythons.items():
        if python:
            command = [python, __file__, "--folder", str(folder), "--rollouts", str(args.rollouts), "--worker", name]
            command += ["--episodes", str(args.episodes)]
            command += ["--lora"] if args.lora else []
            errors = (folder / f"{name}.log").open("w")
            sides[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
            libraries[name] = _next(sides[name], folder / f"{name}.log")["libraries"]
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    peaks: dict[str, int] = {}
    for rollout in range(args.rollouts):
        for name, process in sides.items():
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
            said = _next(process, folder / f"{name}.log")
            peaks[name] = said["peak_bytes"]
            if rollout >= WARM_UP:
                seconds[name].append(said["seconds"])
    for process in sides.values():
        process.wait()
    median = {name: statistics.median(s) for name, s in seconds.items()}
    how = "LoRA" if args.lora else "full fine-tuning"
    print(f"{args.size}, {how}, {args.episodes} episodes a rollout, {PASSES} passes, {THREADS} threads")
    for name in sides:
        print(
            f"  {name:<8} {args.episodes / median[name]:7.2f} episodes a second   peak memory {peaks[name] / 2**20:7.0f} MiB, "
            f"{(peaks[name] - libraries[name]) / 2**20:.0f} without the libraries"
        )
    if len(sides) == 2:
        ratios = sorted(t / p for t, p in zip(seconds["trl"], seconds["prefine"], strict=True))
        print(f"  ratio of median seconds, TRL over Prefine: {median['trl'] / median['prefine']:.2f}")
        print(f"  rollout by rollout: median {statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}")
        own = {name: peaks[name] - libraries[name] for name in sides}
        print(
            f"  peak memory, Prefine over TRL: {peaks['prefine'] / peaks['trl']:.2f}, "
            f"without the libraries {own['prefine'] / own['trl']:.2f}"
        )


def _next(process: subprocess.Popen[str], log: Path) -> dict[str, Any]:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"a side stopped:\n{log.read_text()[-2000:]}")
    return dict(json.loads(line))


if __name__ == "__main__":
    main()
