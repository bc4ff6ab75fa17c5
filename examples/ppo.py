"""PPO against a reward model that ``examples/reward.py`` made.

python examples/ppo.py --model Qwen/Qwen2.5-0.5B-Instruct --reward-model runs/reward/model --data examples/prompts.txt --output-dir runs/ppo
"""

from __future__ import annotations

import argparse

import prefine as pf


def main() -> None:
    """Train, and print how the rewards moved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B-Instruct", help="folder or Hub id")
    parser.add_argument("--reward-model", default="runs/reward/model", help="folder or Hub id of a one-label classifier")
    parser.add_argument("--data", default="examples/prompts.txt", help="prompts, one a line, or any data with prompts")
    parser.add_argument("--output-dir", default="runs/ppo", help="the run directory")
    parser.add_argument("--max-steps", type=int, default=-1, help="stop after so many steps; -1: as many as the epochs have")
    parser.add_argument("--response-length", type=int, default=128, help="maximum of tokens of a response")
    args = parser.parse_args()

    run = pf.ppo(
        model=args.model,
        reward_model=[args.reward_model],
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
