"""A reward model from preference pairs: one number a response, higher where people would prefer it.

python examples/reward.py --model Qwen/Qwen2.5-0.5B-Instruct --data examples/pairs.jsonl --output-dir runs/reward
"""

from __future__ import annotations

import argparse

import prefine as pf


def main() -> None:
    """Train, and print how well it tells held-out pairs apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B-Instruct", help="folder or Hub id")
    parser.add_argument("--data", default="examples/pairs.jsonl", help="preference pairs")
    parser.add_argument("--output-dir", default="runs/reward", help="the run directory")
    parser.add_argument("--max-steps", type=int, default=-1, help="stop after so many steps; -1: as many as the epochs have")
    args = parser.parse_args()

    run = pf.reward(
        model=args.model,
        data=args.data,
        output_dir=args.output_dir,
        lora_r=16,
        num_train_epochs=3,
        max_steps=args.max_steps,
        logging_steps=1,
        progress=True,
    )
    for name, evaluation in run.evaluations.items():
        print(name, evaluation)
    print(f"reward model: {args.output_dir}/model")


if __name__ == "__main__":
    main()
