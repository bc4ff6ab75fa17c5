"""Online DPO against a reward written in Python: pairs are made of the model's own responses as it learns.

python examples/online_dpo.py --model Qwen/Qwen2.5-0.5B-Instruct --data examples/prompts.txt --output-dir runs/online-dpo
"""

from __future__ import annotations

import argparse

from reward_function import reward

import prefine as pf


def main() -> None:
    """Train, and print how the rewards moved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B-Instruct", help="folder or Hub id")
    parser.add_argument("--data", default="examples/prompts.txt", help="prompts, one a line, or any data with prompts")
    parser.add_argument("--output-dir", default="runs/online-dpo", help="the run directory")
    parser.add_argument("--max-steps", type=int, default=-1, help="stop after so many steps; -1: as many as the epochs have")
    parser.add_argument("--response-length", type=int, default=128, help="maximum of tokens of a response")
    args = parser.parse_args()

    run = pf.online_dpo(
        model=args.model,
        reward_function=reward,
        data=args.data,
        output_dir=args.output_dir,
        lora_r=16,
        response_length=args.response_length,
        max_steps=args.max_steps,
        logging_steps=1,
        progress=True,
    )
    print(run.metrics[["objective/scores", "objective/kl"]].dropna().to_string())
    print(f"report: {run.report()}")


if __name__ == "__main__":
    main()
