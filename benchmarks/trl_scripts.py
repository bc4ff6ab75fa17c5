"""TRL's own training scripts with the import swapped: do they run, and are their losses TRL's?

    python benchmarks/trl_scripts.py ROOT [dpo sft reward]      (ROOT as for trl_tests.py, with the stand-ins made)

Each script is the installed TRL's ``scripts/*.py``, run by the same command in a fresh process with TRL's classes and with Prefine's, on
one model and one data set in float32; losses are compared step by step. The exit code is 1 where one differs by more than 1e-4.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

DATA = {
    "dpo": ["standard_preference", "conversational_preference"],
    "sft": [
        "standard_language_modeling",
        "conversational_language_modeling",
        "standard_prompt_completion",
        "conversational_prompt_completion",
    ],
    "reward": ["standard_implicit_prompt_preference", "conversational_preference"],
}
MORE = {"dpo": ["--learning_rate", "1e-3"], "sft": ["--learning_rate", "1e-3"], "reward": ["--learning_rate", "1e-3"]}
LIMIT = 1e-4
CLASSES = re.compile(r"\b(?:DPO|SFT|Reward)(?:Config|Trainer)\b")


def swapped(text: str) -> str:
    """A script that takes configs and trainers from Prefine, all else from TRL."""

    def one(match: re.Match[str]) -> str:
        names = [n.strip() for n in match[2].split(",")]
        ours = [n for n in names if CLASSES.fullmatch(n)]
        theirs = [n for n in names if n not in ours]
        lines = [f"from prefine import {', '.join(ours)}"] if ours else []
        lines += [f"from trl import {', '.join(theirs)}"] if theirs else []
        return "\n".join(match[1] + line for line in lines)

    return re.sub(r"(?m)^( *)from trl import (.+)$", one, text)


def losses(script: Path, what: str, config: str, root: Path, folder: Path) -> list[float]:
    """Run a script; its logged losses."""
    hub = root / "trl-internal-testing"
    command = [sys.executable, str(script), "--model_name_or_path", str(hub / "tiny-Qwen2ForCausalLM-2.5"), "--dtype", "float32"]
    command += ["--dataset_name", str(hub / "zen"), "--dataset_config", config, "--output_dir", str(folder), "--max_steps", "8"]
    command += ["--per_device_train_batch_size", "4", "--gradient_accumulation_steps", "2", "--logging_steps", "1", "--save_steps", "8"]
    command += ["--use_cpu", "--bf16", "False", "--report_to", "none", *MORE[what]]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script}: {done.stderr[-3000:]}")
    history = json.loads((folder / "checkpoint-8/trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def main() -> int:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("what", nargs="*", default=list(DATA))
    args = parser.parse_intermixed_args()
    import trl

    worst = 0.0
    for what in args.what:
        text = (Path(trl.__file__).parent / f"scripts/{what}.py").read_text()
        for config in DATA[what]:
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place)
                (folder / "theirs.py").write_text(text)
                (folder / "ours.py").write_text(swapped(text))
                both = [losses(folder / f"{n}.py", what, config, args.root.resolve(), folder / n) for n in ("theirs", "ours")]
            gap = max(abs(a - b) for a, b in zip(*both, strict=True))
            worst = max(worst, gap)
            print(f"{what} {config}: {len(both[0])} steps, from {both[0][0]:.6f} to {both[0][-1]:.6f}; largest difference {gap:.1e}")
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
