"""How often the 95 % interval of a win rate holds the truth, and how often the verdict is a false alarm.

python benchmarks/coverage.py [--sets 2000]
"""

from __future__ import annotations

import argparse

import numpy as np

from prefine.evaluation.interval import mean_interval
from prefine.evaluation.verdict import decide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=2000)
    sets = parser.parse_args().sets
    print("| prompts | ties | coverage | false alarms at a true 50 % |\n| --- | --- | --- | --- |")
    for n in (50, 200, 800):
        for ties in (0.0, 0.2, 0.4):
            rng = np.random.default_rng(n)
            held = alarms = 0
            for i in range(sets):
                rate = rng.uniform(0.3, 0.7)
                tied = rng.random(n) < ties
                wins = np.where(tied, 0.5, rng.random(n) < rate)
                interval = mean_interval(wins, seed=i)
                held += interval.low <= rate * (1 - ties) + 0.5 * ties <= interval.high
                even = np.where(tied, 0.5, rng.random(n) < 0.5)
                alarms += decide(mean_interval(even, seed=i)).outcome != "not shown"
            print(f"| {n} | {100 * ties:.0f} % | {100 * held / sets:.1f} % | {100 * alarms / sets:.1f} % |", flush=True)


if __name__ == "__main__":
    main()
