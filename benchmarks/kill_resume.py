"""Kill -9 at random moments, a third of them inside saving, and go on: is the trajectory that of a run that was left alone?

    python benchmarks/kill_resume.py --trials 60          # DPO, SFT, a reward model, PPO in turn
    python benchmarks/kill_resume.py --flips 20           # one byte of a checkpoint is flipped: is the file named?

Each run is a process of its own, forked from one that has only imported the libraries, with its random state drawn anew.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

STEPS = 24
METHODS = ("dpo", "sft", "reward", "ppo")


def materials(folder: Path) -> None:
    """A tiny model, pairs, prompts, and a reward function."""
    import random as drawn

    from prefine.lab.language import corpus_reply, gold, split_tickets
    from prefine.lab.model import build_model, build_tokenizer

    folder.mkdir(parents=True)
    build_model(0, hidden=32, layers=2).save_pretrained(folder / "model")
    build_tokenizer().save_pretrained(folder / "model")
    rng, rows, prompts = drawn.Random(0), [], []
    tickets, _ = split_tickets()
    while len(rows) < 64:
        ticket = rng.choice(tickets)
        better, worse = sorted((corpus_reply(ticket, rng) for _ in range(2)), key=lambda a: -gold(ticket.prompt, a).score)
        prompts.append({"prompt": ticket.prompt})
        if better != worse:
            rows.append({"prompt": ticket.prompt, "chosen": better, "rejected": worse})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in prompts))
    (folder / "length.py").write_text("def shorter(prompts, responses):\n    return [-float(len(r)) for r in responses]\n")


def command(method: str, folder: Path, run: Path, lora: bool) -> list[str]:
    """The words of a run that logs each step and saves every fourth."""
    data = folder / ("prompts.jsonl" if method == "ppo" else "pairs.jsonl")
    words = [method, "--model", folder / "model", "--data", data, "--output-dir", run, "--max-steps", STEPS, "--logging-steps", 1]
    words += ["--save-steps", 4, "--save-total-limit", 1, "--per-device-train-batch-size", 8, "--learning-rate", "1e-3", "--seed", 3]
    words += ["--lora-r", 4] if lora else []
    words += {"dpo": ["--final-eval", "off"], "ppo": ["--eval-fraction", 0, "--response-length", 8, "--num-mini-batches", 2,
              "--num-samples", 2, "--reward-function", f"{folder / 'length.py'}:shorter"]}.get(method, [])  # fmt: skip
    return [str(w) for w in words]


def start(words: list[str], log: Path) -> int:
    """Run a command in a forked process; returns its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        import numpy
        import torch

        for seeded in (random, numpy.random):
            seeded.seed(None)
        torch.seed()
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        from prefine.cli import main

        code = main(words)
        sys.stdout.flush()
    finally:
        os._exit(code)


def finish(words: list[str], log: Path) -> int:
    """Run a command to its end; returns its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(start(words, log), 0)[1])


def losses(run: Path) -> dict[int, float]:
    """Step -> loss."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {m["step"]: m["loss"] for m in lines if "loss" in m}


def weights(run: Path) -> bytes:
    """The final model's bytes."""
    return b"".join(p.read_bytes() for p in sorted((run / "model").glob("*.safetensors")))


def kill_somewhere(words: list[str], run: Path, log: Path, in_saving: bool, draw: random.Random) -> str:
    """Start a command and kill it; says where it was: before its first checkpoint, between two, inside saving, after training, done."""
    log_of_steps, saving = run / "metrics.jsonl", run / "checkpoints" / ".saving"
    child = start(words, log)

    def lines() -> int:
        return log_of_steps.read_bytes().count(b"\n") if log_of_steps.exists() else 0

    if in_saving:
        saves, seen, delay = draw.randint(1, STEPS // 4), 0, draw.uniform(0, 0.03)
        was = False
        while os.waitpid(child, os.WNOHANG)[0] == 0:
            now = saving.exists()
            seen += now and not was
            was = now
            if seen >= saves:
                time.sleep(delay)
                break
            time.sleep(0.0005)
        else:
            return "done"
    else:
        step, delay = draw.randint(min(lines(), STEPS), STEPS), draw.uniform(0, 0.05)
        while lines() < step or not run.exists():
            if os.waitpid(child, os.WNOHANG)[0]:
                return "done"
            time.sleep(0.002)
        time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if saving.exists():
        return "inside saving"
    if (run / "model").exists():
        return "after training"
    return "between checkpoints" if any((run / "checkpoints").glob("checkpoint-*")) else "before the first checkpoint"


def kills(trials: int, folder: Path, seed: int) -> int:
    """Trials of killing and resuming; returns how many went wrong."""
    draw, wrong, where = random.Random(seed), 0, {}
    whole: dict[tuple[str, bool], Path] = {}
    for trial in range(trials):
        method, lora, in_saving = METHODS[trial % len(METHODS)], trial // len(METHODS) % 2 == 0, trial // len(METHODS) % 3 == 0
        if (method, lora) not in whole:
            run = folder / f"whole-{method}-{lora}"
            assert finish(command(method, folder / "made", run, lora), folder / "whole.log") == 0, (folder / "whole.log").read_text()[
                -2000:
            ]
            whole[method, lora] = run
        left_alone = whole[method, lora]
        run, log = folder / f"trial-{trial}", folder / f"trial-{trial}.log"
        words = command(method, folder / "made", run, lora)
        places = []
        for _ in range(draw.choice((1, 1, 2))):  # some are killed again while they go on
            places.append(kill_somewhere(words, run, log, in_saving, draw))
            words = [*words, "--resume"] if "--resume" not in words else words
        code = finish(words, log)
        ours, theirs = (losses(run) if code == 0 else {}), losses(left_alone)
        gap = (
            max((abs(ours[s] - theirs[s]) / max(1e-12, abs(theirs[s])) for s in theirs), default=0.0)
            if ours.keys() == theirs.keys()
            else 1.0
        )
        same = code == 0 and weights(run) == weights(left_alone)
        ok = code == 0 and gap <= 1e-6
        wrong += not ok
        for place in places:
            where[place] = where.get(place, 0) + 1
        kind = "LoRA" if lora else "full"
        print(f"{trial + 1:3} {method:6} {kind} killed {', then '.join(places):32} gap {gap:.1e} weights {'equal' if same else 'differ'}"
              f"{'' if ok else f'  WRONG, exit {code}, {log}'}", flush=True)  # fmt: skip
        if ok:
            shutil.rmtree(run)
    told = ", ".join(f"{count} {place}" for place, count in sorted(where.items()))
    print(f"{trials - wrong} of {trials} went on as the run that was left alone; killed: {told}")
    return wrong


def flips(count: int, folder: Path, seed: int) -> int:
    """Flip a byte of a random file of the newest checkpoint, resume, and look for its name; returns how many were not named."""
    draw, missed = random.Random(seed), 0
    words = command("dpo", folder / "made", folder / "run", True)
    words[words.index("--save-total-limit") + 1] = "2"
    assert finish(words, folder / "run.log") == 0
    files = sorted(p.name for p in (folder / "run" / "checkpoints" / f"checkpoint-{STEPS}").iterdir())
    for flip in range(count):
        run = folder / "flipped"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(folder / "run", run)
        name = files[flip % len(files)]
        path = run / "checkpoints" / f"checkpoint-{STEPS}" / name
        content = bytearray(path.read_bytes())
        place = draw.randrange(len(content))
        content[place] ^= draw.randrange(1, 256)
        path.write_bytes(content)
        log = folder / f"flip-{flip}.log"
        again = [str(run) if w == str(folder / "run") else w for w in words]
        code = finish([*again, "--resume"], log)
        named = re.search(rf"checkpoint-{STEPS} is passed over: .*{re.escape(name)}", " ".join(log.read_text().split()))
        equal = code == 0 and weights(run) == weights(folder / "run")
        missed += not (named and equal)
        print(
            f"{flip + 1:3} byte {place} of {name}: {'named' if named else 'NOT NAMED'}, {'same weights' if equal else 'OTHER WEIGHTS'}",
            flush=True,
        )
    print(f"{count - missed} of {count} were named, and the run went on from the checkpoint before to the same weights")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--flips", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    own = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.environ |= {"PREFINE_CACHE": str(place / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        import torch

        import prefine.report.run_page
        import prefine.training.dpo
        import prefine.training.ppo
        import prefine.training.reward
        import prefine.training.sft  # noqa: F401  before forking: a run then starts at once

        torch.set_num_threads(1)
        materials(place / "made")
        wrong = kills(own.trials, place, own.seed) if own.trials else 0
        return min(1, wrong + (flips(own.flips, place, own.seed) if own.flips else 0))


if __name__ == "__main__":
    raise SystemExit(main())
