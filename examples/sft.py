"""Supervised fine-tuning of an adapter on the preferred responses of preference data.

python examples/sft.py --model Qwen/Qwen2.5-0.5B-Instruct --data examples/pairs.jsonl --output-dir runs/sft
"""

from __future__ import annotations

import argparse

import prefine as pf


def main() -> None:
    """Train, and print the last logged loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B-Instruct", help="folder or Hub id")
    parser.add_argument("--data", default="examples/pairs.jsonl", help="messages, prompts with completions, text, or pairs")
    parser.add_argument("--output-dir", default="runs/sft", help="the run directory")
    parser.add_argument("--max-steps", type=int, default=-1, help="stop after so many steps; -1: as many as the epochs have")
    args = parser.parse_args()

    run = pf.sft(
        model=args.model,
        data=args.data,
        output_dir=args.output_dir,
        lora_r=16,
        max_steps=args.max_steps,
        logging_steps=1,
        progress=True,
    )
    print(run.metrics["loss"].dropna().tail(3).to_string())
    print(f"model: {args.output_dir}/model")


if __name__ == "__main__":
    main()
