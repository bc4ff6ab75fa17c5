"""DPO of an adapter on preference pairs, after a look at the pairs.

python examples/dpo.py --model Qwen/Qwen2.5-0.5B-Instruct --data examples/pairs.jsonl --output-dir runs/dpo
"""

from __future__ import annotations

import argparse

import prefine as pf


def main() -> None:
    """Audit, train, and print what was learned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B-Instruct", help="folder or Hub id")
    parser.add_argument("--data", default="examples/pairs.jsonl", help="preference pairs")
    parser.add_argument("--output-dir", default="runs/dpo", help="the run directory")
    parser.add_argument("--max-steps", type=int, default=-1, help="stop after so many steps; -1: as many as the epochs have")
    args = parser.parse_args()

    data = pf.load_preferences(args.data)
    print(f"{len(data)} pairs ({data.format}); dropped: {data.dropped or 'none'}")
    print(data.audit())

    run = pf.dpo(
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
    print(f"report: {run.report()}")


if __name__ == "__main__":
    main()
