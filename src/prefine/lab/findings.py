"""What an experiment found over seeds: arms, contrasts with their intervals, and the page that shows them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import numpy as np

from prefine.evaluation.interval import Interval
from prefine.lab.experiments import Contrast, Experiment
from prefine.lab.ground import Measured
from prefine.report.page import figures, page, render
from prefine.report.plots import Series, frontier, lines
from prefine.report.tables import Table

if TYPE_CHECKING:
    from prefine.report.theme import Chart

BySeed = Mapping[int, Mapping[str, Measured]]


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean with Student's 95 % interval over independent seeds; infinite for one seed."""
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return Interval(mean(values), mean(values) - half, mean(values) + half, len(values), len(values))


def state(interval: Interval) -> str:
    """What an interval of a difference says of the claim that it is above 0."""
    return "shown" if interval.low > 0 else "the other way round" if interval.high < 0 else "inconclusive"


def signed(interval: Interval) -> str:
    """``"+0.123 [+0.100, +0.150]"``."""
    known = math.isfinite(interval.low)
    return f"{interval.estimate:+.3f}" + (f" [{interval.low:+.3f}, {interval.high:+.3f}]" if known else "")


class Findings:
    """An experiment's measurements, seed by seed."""

    def __init__(self, experiment: Experiment, found: BySeed) -> None:
        self.experiment = experiment
        self.found = found
        self.labels = [a.label for a in experiment.arms if all(a.label in by for by in found.values())]

    def each(self, label: str) -> list[Measured]:
        """An arm on every seed."""
        return [by[label] for by in self.found.values()]

    def contrasts(self) -> list[tuple[Contrast, list[Interval], Interval]]:
        """Each contrast: differences of gold seed by seed, with intervals over combinations, and over seeds."""
        out = []
        for c in self.experiment.contrasts:
            if c.better in self.labels and c.worse in self.labels:
                each = [b.over(w) for b, w in zip(self.each(c.better), self.each(c.worse), strict=True)]
                out.append((c, each, over_seeds([e.estimate for e in each])))
        return out

    def hacking(self) -> tuple[Interval, Interval] | None:
        """The change of gold and of the arm's own reward from the first to the last tenth of its rollouts, over seeds."""
        if self.experiment.hacks not in self.labels:
            return None
        curves = [np.array(m.curve) for m in self.each(self.experiment.hacks)]
        tenth = max(1, len(curves[0]) // 10)
        changes = [c[-tenth:].mean(0) - c[:tenth].mean(0) for c in curves]
        return over_seeds([float(c[0]) for c in changes]), over_seeds([float(c[1]) for c in changes])

    # ---- in words

    def rows(self) -> list[list[str]]:
        """An arm a row, means over seeds; rewards where one model scored them all."""
        comparable = all(math.isfinite(m.proxy) for label in self.labels for m in self.each(label))
        out = []
        for label in self.labels:
            each = self.each(label)
            golds = [m.mean() for m in each]
            spread = f"\u00a0±\u00a0{stdev(golds):.3f}" if len(golds) > 1 else ""
            proxies = [m.proxy for m in each]
            out.append(
                [
                    label,
                    f"{mean(golds):.3f}{spread}",
                    " ".join(f"{g:.2f}" for g in golds),
                    " ".join(f"{100 * m.win_rate().estimate:.0f}" for m in each),
                    f"{mean(m.kl for m in each):.2f}",
                    f"{mean(proxies):+.2f}" if comparable else "",
                    f"{100 * mean(m.arithmetic for m in each):.1f} %",
                ]
            )
        return out

    HEAD = ("arm", "oracle score ± SD of seeds", "oracle score, each seed", "win rate %", "KL", "reward", "arithmetic")

    def claims(self) -> list[list[str]]:
        """A contrast a row."""
        return [[c.claim, " ".join(signed(e) for e in each), signed(whole), state(whole)] for c, each, whole in self.contrasts()]

    CLAIMS_HEAD = ("claim", "difference of oracle score, each seed", "over seeds, 95 % CI", "")

    def hacked(self) -> str:
        """What became of the arm that may hack its reward."""
        found = self.hacking()
        if found is None:
            return ""
        gold, reward = found
        name, moved = (
            self.experiment.hacks,
            f"from first to last rollouts its reward changed by {signed(reward)}, the oracle's score by {signed(gold)}",
        )
        if not math.isfinite(gold.low):
            return f"'{name}', one seed: {moved}."
        says = "hacked its reward" if reward.low > 0 and gold.high < 0 else "was not shown to hack its reward"
        return f"'{name}' {says}: {moved}."

    # ---- as files

    def summary(self) -> dict[str, Any]:
        """Plain data, for ``results.json``."""
        return {
            "experiment": self.experiment.name,
            "about": self.experiment.about,
            "seeds": list(self.found),
            "arms": [
                {
                    "arm": label,
                    "gold": [m.mean() for m in self.each(label)],
                    "win_rate": [vars(m.win_rate()) for m in self.each(label)],
                    "kl": [m.kl for m in self.each(label)],
                    "reward": [m.proxy if math.isfinite(m.proxy) else None for m in self.each(label)],
                    "arithmetic": [m.arithmetic for m in self.each(label)],
                    "parts": [m.parts for m in self.each(label)],
                }
                for label in self.labels
            ],
            "contrasts": [
                {"claim": c.claim, "better": c.better, "worse": c.worse, "each_seed": [vars(e) for e in each], "state": state(whole)}
                | {"over_seeds": vars(whole) if math.isfinite(whole.low) else {"estimate": whole.estimate}}
                for c, each, whole in self.contrasts()
            ],
        }

    def picture(self) -> list[Chart]:
        """Oracle score against KL where an experiment turns knobs; oracle score and reward over rollouts where it watches them."""
        if self.experiment.hacks:
            return self._curves()
        names = list(dict.fromkeys(a.name for a in self.experiment.arms))
        series = []
        for name in names[:6]:
            arms = [a for a in self.experiment.arms if a.name == name and a.label in self.labels]
            each = [self.each(a.label) for a in arms]
            points = [(mean(m.kl for m in e), mean(m.mean() for m in e)) for e in each]
            ends = [a.knob if i in (0, len(arms) - 1) else "" for i, a in enumerate(arms)]
            series.append(Series(name, points, ends, [(m.kl, m.mean()) for e in each for m in e]))
        title = f"Oracle score over KL, means of seeds {', '.join(map(str, self.found))}; faint: each seed"
        base = mean(float(np.mean(by[self.labels[0]].base)) for by in self.found.values())
        drawn = frontier(title, series, "KL to the base, nats/response (logarithmic)", "oracle score", log_x=True, level=("the base", base))
        return [drawn] if drawn is not None else []

    def _curves(self) -> list[Chart]:
        out = []
        for place, (what, unit) in enumerate((("oracle score of samples", "oracle score"), ("reward that is optimised", "reward"))):
            series = {}
            for label in self.labels:
                curves = [np.array(m.curve)[:, place] for m in self.each(label)]
                shortest = min(map(len, curves))
                smooth = np.mean([c[:shortest] for c in curves], 0)
                window = max(1, shortest // 20)
                smooth = np.convolve(smooth, np.ones(window) / window, "valid")
                series[label] = [(float(i), float(v)) for i, v in enumerate(smooth)]
            out.append(lines(f"{what}, mean of seeds {', '.join(map(str, self.found))}", series, unit, "rollout"))
        return [c for c in out if c is not None]

    def html(self) -> str:
        """The page."""
        note = "Differences of oracle score on the same unseen prompts; a seed's interval is over combinations, the last one Student's."
        body = render(
            "findings.html",
            name=self.experiment.name,
            about=self.experiment.about,
            hacked=self.hacked(),
            figures=figures(self.picture()),
            arms=Table(self.HEAD, self.rows(), "Arms"),
            claims=Table(self.CLAIMS_HEAD, self.claims(), "What was asked", note),
        )
        return page(f"Prefine's laboratory: {self.experiment.name}", body)
