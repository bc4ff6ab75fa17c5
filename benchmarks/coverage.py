"""How often intervals hold the truth, how often verdicts are false alarms, and what looking early saves.

python benchmarks/coverage.py [--sets 2000] [--part exact|rates|clusters|family|looks|people|others] [--prompts 1 2 3 ...]

Rates stand for a grid: numbers of prompts, kinds of verdicts, true rates; each row gives the lowest and highest coverage
over the rates, the share of false *better* or *worse* at a true 50 %, and the width beside the former interval's
(a percentile bootstrap, exact only where all verdicts are the same) at the rates where that one holds in 94 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from prefine.evaluation.agreement import agreement, cohens_kappa
from prefine.evaluation.degeneration import SIGNS, Text, compare_texts
from prefine.evaluation.drift import blocks_of
from prefine.evaluation.interval import RATE, Interval, mean_interval, ratio_interval, tails
from prefine.evaluation.ppi import power
from prefine.evaluation.regression import skill_of
from prefine.evaluation.sequence import ConfidenceSequence
from prefine.evaluation.verdict import THRESHOLDS, decide, find_broken

PROMPTS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 805)
RATES = (0.03, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97)
Floats = NDArray[np.float64]
NEAR = 0.02


def binary(rng: np.random.Generator, n: int, rate: float, ties: float = 0.0) -> tuple[Floats, float]:
    wins = np.where(rng.random(n) < ties, 0.5, rng.random(n) < rate)
    return wins, rate * (1 - ties) + ties / 2


def both_orders(rng: np.random.Generator, n: int, rate: float) -> tuple[Floats, float]:
    """A judge that leans to what it sees first by 15 points."""
    first, second = min(1.0, rate + 0.15), max(0.0, rate - 0.15)
    return ((rng.random(n) < first) * 0.5 + (rng.random(n) < second) * 0.5), (first + second) / 2


def uniform(rng: np.random.Generator, n: int, rate: float) -> tuple[Floats, float]:
    half = min(rate, 1 - rate)
    return rng.uniform(rate - half, rate + half, n), rate


def spread_out(rng: np.random.Generator, n: int, rate: float) -> tuple[Floats, float]:
    return rng.beta(2 * rate, 2 * (1 - rate), n), rate


def near_binary(rng: np.random.Generator, n: int, rate: float) -> tuple[Floats, float]:
    away = rng.uniform(0, NEAR, n)
    return np.where(rng.random(n) < rate, 1 - away, away), rate * (1 - NEAR) + NEAR / 2


KINDS: dict[str, Callable[[np.random.Generator, int, float], tuple[Floats, float]]] = {
    "binary": binary,
    "ties 20 %": lambda rng, n, rate: binary(rng, n, rate, 0.2),
    "ties 40 %": lambda rng, n, rate: binary(rng, n, rate, 0.4),
    "ties 60 %": lambda rng, n, rate: binary(rng, n, rate, 0.6),
    "both orders": both_orders,
    "uniform": uniform,
    "beta": spread_out,
    "near-binary": near_binary,
}
SIZES: dict[str, Callable[[np.random.Generator, int], NDArray[np.int64]]] = {
    "equal": lambda rng, n: np.full(n, 4),
    "log-normal": lambda rng, n: np.maximum(1, np.round(rng.lognormal(1, 1, n))).astype(int),
    "one of a third": lambda rng, n: np.array([max(1, n - 1), *[2] * (n - 1)]),
    "one of nine tenths": lambda rng, n: np.array([max(1, 18 * (n - 1)), *[2] * (n - 1)]),
}


def former(sums: Floats, counts: Floats, rng: np.random.Generator, resamples: int = 1000) -> tuple[float, float]:
    estimate, n = sums.sum() / counts.sum(), len(sums)
    if np.ptp(sums / counts) < 1e-12:
        missed = 1 - 0.025 ** (1 / n)
        return estimate - missed * estimate, estimate + missed * (1 - estimate)
    times = rng.multinomial(n, np.full(n, 1 / n), resamples)
    low, high = np.quantile((times @ sums) / (times @ counts), tails(n))
    return float(low), float(high)


class Tally:
    """Coverage and widths at one rate."""

    def __init__(self) -> None:
        self.sets = self.held = self.was_held = 0
        self.width = self.was_width = 0.0

    def add(self, found: Interval, was: tuple[float, float], truth: float) -> None:
        self.sets += 1
        self.held += found.low - 1e-9 <= truth <= found.high + 1e-9
        self.was_held += was[0] - 1e-9 <= truth <= was[1] + 1e-9
        self.width += found.high - found.low
        self.was_width += was[1] - was[0]

    @property
    def cover(self) -> float:
        return 100 * self.held / self.sets


def row(tallies: list[Tally], alarms: float) -> str:
    right = [t.width / t.was_width for t in tallies if t.was_width and t.was_held >= 0.94 * t.sets]
    wider = f"{min(right):.2f} to {max(right):.2f}" if right else "never right"
    was = [100 * t.was_held / t.sets for t in tallies]
    return (
        f"{min(t.cover for t in tallies):.1f} to {max(t.cover for t in tallies):.1f} % | {alarms:.1f} % | "
        f"{min(was):.1f} to {max(was):.1f} % | {wider} |"
    )


def exact(sets: int, prompts: list[int]) -> None:
    """Wins and losses, summed over all that can be drawn: rates of 3 to 97 % in steps of a point."""
    from scipy.stats import binom

    print("| prompts | coverage | false *better* or *worse* at a true 50 % |\n| --- | --- | --- |")
    for n in prompts:
        found = [mean_interval([1.0] * k + [0.0] * (n - k), bounds=RATE) for k in range(n + 1)]
        low, high = (np.array([getattr(i, end) for i in found]) for end in ("low", "high"))
        drawn = np.arange(n + 1)
        cover = [binom.pmf(drawn, n, p)[(low - 1e-9 <= p) & (p <= high + 1e-9)].sum() for p in np.arange(0.03, 0.971, 0.01)]
        called = [decide(i).outcome in ("better", "worse") for i in found]
        alarms = binom.pmf(drawn, n, 0.5)[np.array(called)].sum()
        print(f"| {n} | {100 * min(cover):.1f} to {100 * max(cover):.1f} % | {100 * alarms:.1f} % |", flush=True)


def rates(sets: int, prompts: list[int]) -> None:
    print("| prompts | verdicts | coverage over rates | false alarms | coverage before | width beside before |")
    print("| --- | --- | --- | --- | --- | --- |")
    for n in prompts:
        for kind, draw in KINDS.items():
            known: dict[bytes, Interval] = {}
            tallies, alarms = [], 0
            for rate in RATES:
                rng, tally = np.random.default_rng([n, int(1000 * rate)]), Tally()
                for _ in range(sets):
                    wins, truth = draw(rng, n, rate)
                    key = np.sort(wins).tobytes()
                    found = known.get(key) or known.setdefault(key, mean_interval(wins, bounds=RATE))
                    tally.add(found, former(wins, np.ones(n), rng, 400), truth)
                    if rate == 0.5:
                        alarms += decide(found).outcome in ("better", "worse")
                tallies.append(tally)
            print(f"| {n} | {kind} | {row(tallies, 100 * alarms / sets)}", flush=True)


def clusters(sets: int, prompts: list[int]) -> None:
    print("| clusters | sizes | alike within | coverage over rates | false alarms | coverage before | width beside before |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for n in prompts:
        for kind, size in SIZES.items():
            for alike in (0.0, 0.3, 1.0):
                tallies, alarms = [], 0
                for rate in RATES:
                    rng, tally = np.random.default_rng([n, int(1000 * rate)]), Tally()
                    for _ in range(sets):
                        counts = size(rng, n)
                        own = np.full(n, rate)
                        if alike == 1:
                            own = (rng.random(n) < rate).astype(float)
                        elif alike:
                            own = rng.beta(rate * (1 / alike - 1), (1 - rate) * (1 / alike - 1), n)
                        won = rng.binomial(counts, own)
                        wins = np.concatenate([np.repeat([1.0, 0.0], [w, c - w]) for w, c in zip(won, counts, strict=True)])
                        found = mean_interval(wins, np.repeat(np.arange(n), counts).tolist(), bounds=RATE)
                        tally.add(found, former(won.astype(float), counts.astype(float), rng), rate)
                        if rate == 0.5:
                            alarms += decide(found).outcome in ("better", "worse")
                    tallies.append(tally)
                print(f"| {n} | {kind} | {alike:g} | {row(tallies, 100 * alarms / sets)}", flush=True)


def family(sets: int, prompts: list[int]) -> None:
    """20 skills and all signs of an unchanged model, sampled twice; and "kept" at a loss of exactly what is allowed."""
    print(f"signs: {', '.join(s.name for s in SIGNS)} and those of all responses together\n")
    rng = np.random.default_rng(0)
    words = [f"word{i}" for i in range(300)]

    def responses(n: int) -> list[Text]:
        out = []
        for _ in range(n):
            length = int(rng.integers(10, 60))
            said = [words[int(w)] for w in np.minimum(rng.zipf(1.3, length), 300) - 1]
            if rng.random() < 0.1:
                said = [*said, *said[-4:] * 4]
            out.append(Text("what is it", "" if rng.random() < 0.03 else " ".join(said), bool(rng.random() < 0.85)))
        return out

    print("| items of each of 20 skills | prompts | false *better, but* |\n| --- | --- | --- |")
    for items, n in ((50, 30), (300, 100)):
        false = 0
        for _ in range(sets // 4):
            skills = []
            for k in range(20):
                right = 0.3 + 0.03 * k
                skills.append(skill_of(f"s{k}", *((rng.random(items) < right).astype(float).tolist() for _ in range(2)), 0.01))
            findings = compare_texts(responses(n), responses(n), [str(i) for i in range(n)])
            false += bool(find_broken(skills, [f.suspect for f in findings])[0])
        print(f"| {items} | {n} | {100 * false / (sets // 4):.1f} % of {sets // 4} |", flush=True)
    print("\n| items | changes | called kept at a loss of exactly one point |\n| --- | --- | --- |")
    for n in (30, 50, 100, 300, 450, 520, 700, 1000, 2000):
        for name, gained in (("one-sided", 0.0), ("two-sided", 0.03)):
            kept = 0
            known: dict[tuple[int, int], bool] = {}
            for _ in range(sets):
                lost, won, _ = rng.multinomial(n, [0.01 + gained, gained, 1 - 0.01 - 2 * gained])
                if (lost, won) not in known:
                    changes = [-1.0] * lost + [1.0] * won + [0.0] * (n - lost - won)
                    known[lost, won] = skill_of("s", [0.0] * n, changes, 0.01).kept
                kept += known[lost, won]
            print(f"| {n} | {name} | {100 * kept / sets:.2f} % |", flush=True)


def looks(sets: int, prompts: list[int]) -> None:
    from prefine.evaluation.interval import needed_prompts

    most = 1000
    print(f"a look after every prompt, at most {most} prompts; fixed: prompts for 80 % power, where any number does\n")
    print("| true rate | better | worse | short of 55 % | undecided | mean prompts | median | fixed |\n" + "| --- " * 8 + "|")
    for rate in (0.5, 0.55, 0.6, 0.7):
        rng = np.random.default_rng(int(100 * rate))
        ends: dict[str, int] = {}
        used = []
        runs = sets if rate == 0.5 else sets // 4
        for _ in range(runs):
            sequence, decision = ConfidenceSequence(), "undecided"
            for _ in range(most):
                sequence.add(float(rng.random() < rate))
                decision = sequence.decision(THRESHOLDS)
                if decision != "undecided":
                    break
            ends[decision] = ends.get(decision, 0) + 1
            used.append(sequence.count)
        fixed = needed_prompts([0.0, 1.0] * 500, works=THRESHOLDS.min_win_rate, rate=rate)
        shares = " | ".join(f"{100 * ends.get(e, 0) / runs:.1f} %" for e in ("better", "worse", "short", "undecided"))
        print(f"| {100 * rate:.0f} % | {shares} | {np.mean(used):.0f} | {np.median(used):.0f} | {fixed or 'none'} |", flush=True)


def people(sets: int, prompts: list[int]) -> None:
    print("| true rate | human votes | prompts | judge's accuracy | coverage | people alone | width beside people alone | in theory |")
    print("| --- " * 8 + "|")
    for rate in (0.5, 0.7, 0.9):
        for n, total in ((30, 60), (30, 300), (50, 500), (100, 1000), (400, 800), (400, 4000)):
            for accuracy in (0.5, 0.65, 0.8, 0.95):
                rng = np.random.default_rng([n, total, int(100 * accuracy)])
                held = alone = 0
                width = people_width = 0.0
                for _ in range(sets // 4):
                    human = (rng.random(total) < rate).astype(float)
                    judge = np.where(rng.random(total) < accuracy, human, 1 - human)
                    found = power(human[:n], judge[:n], judge[n:])
                    held += found.combined.low <= rate <= found.combined.high
                    alone += found.people.low <= rate <= found.people.high
                    width += found.combined.high - found.combined.low
                    people_width += found.people.high - found.people.low
                says = rate * accuracy + (1 - rate) * (1 - accuracy)
                squared = (rate * (accuracy - says)) ** 2 / (rate * (1 - rate) * says * (1 - says))
                theory = (1 - squared * (total - n) / total) ** 0.5
                runs = sets // 4
                print(
                    f"| {rate:g} | {n} | {total} | {accuracy:g} | {100 * held / runs:.1f} % | {100 * alone / runs:.1f} % | "
                    f"{width / people_width:.3f} | {theory:.3f} |",
                    flush=True,
                )


def heavy(rng: np.random.Generator) -> Iterator[tuple[str, Callable[[int], Floats], float]]:
    yield "normal", lambda n: rng.normal(1, 2, n), 1.0
    yield "log-normal, sigma 1", lambda n: rng.lognormal(0, 1, n), float(np.exp(0.5))
    yield "log-normal, sigma 1.5", lambda n: rng.lognormal(0, 1.5, n), float(np.exp(1.125))
    yield "Student, 3 degrees", lambda n: rng.standard_t(3, n), 0.0
    yield "gamma, shape .3", lambda n: rng.gamma(0.3, 1, n), 0.3


def others(sets: int, prompts: list[int]) -> None:
    runs = sets // 4
    print("| unbounded values | n | coverage |\n| --- | --- | --- |")
    rng = np.random.default_rng(0)
    for name, draw, truth in heavy(rng):
        for n in (10, 30, 100, 300):
            held = sum((i := mean_interval(draw(n))).low <= truth <= i.high for _ in range(runs))
            print(f"| {name} | {n} | {100 * held / runs:.1f} % |", flush=True)
    print("\n| perplexity, correlation of neighbours | windows | coverage |\n| --- | --- | --- |")
    for correlation in (0.0, 0.5, 0.8):
        for n in (40, 200):
            held = 0
            for _ in range(runs):
                noise = rng.normal(size=n)
                series = np.empty(n)
                series[0] = noise[0]
                for i in range(1, n):
                    series[i] = correlation * series[i - 1] + (1 - correlation**2) ** 0.5 * noise[i]
                found = ratio_interval(series + 1, np.ones(n), blocks_of(n))
                held += found.low <= 1 <= found.high
            print(f"| {correlation} | {n} | {100 * held / runs:.1f} % |", flush=True)
    print("\n| kappa: first judge's wins, agreement beyond chance | n | coverage |\n| --- | --- | --- |")
    for wins, beyond in ((0.5, 0.3), (0.5, 0.9), (0.9, 0.5), (0.95, 0.5), (0.9, 0.9)):
        marginal = np.array([1 - wins, 0, wins])
        table = beyond * np.diag(marginal) + (1 - beyond) * np.outer(marginal, marginal)
        truth = cohens_kappa(table)
        for n in (10, 30, 100):
            held = 0
            for _ in range(max(50, runs // 5)):
                cells = rng.choice(9, n, p=table.ravel())
                kappa = agreement((cells // 3 / 2).tolist(), (cells % 3 / 2).tolist()).kappa
                held += kappa.low - 1e-9 <= truth <= kappa.high + 1e-9
            print(f"| {wins}, {beyond} | {n} | {100 * held / max(50, runs // 5):.1f} % |", flush=True)


PARTS = {"exact": exact, "rates": rates, "clusters": clusters, "family": family, "looks": looks, "people": people, "others": others}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--prompts", type=int, nargs="+", default=list(PROMPTS))
    given = parser.parse_args()
    for part in given.part or PARTS:
        print(f"\n## {part}\n", flush=True)
        PARTS[part](given.sets, given.prompts)


if __name__ == "__main__":
    main()
