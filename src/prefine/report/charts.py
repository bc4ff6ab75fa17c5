"""The charts of a run, by name: ``CHARTS["loss"](run)`` is an Altair chart, for a notebook, a file or a page. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prefine.errors import DataError
from prefine.report.evaluation_files import EvaluationFiles, evaluations, pair_margins, reward_quality_of
from prefine.report.plots import EVALUATION, Estimate, binned, calibration, histogram, intervals, lines, scatter, shares
from prefine.report.tables import sign_words
from prefine.runs import RunDirectory

if TYPE_CHECKING:
    from prefine.report.theme import Chart

Metrics = Sequence[Mapping[str, Any]]

CURVES: dict[str, tuple[str, str, dict[str, str]]] = {
    "loss": ("loss", "loss", {"loss": "training", "eval_loss": EVALUATION}),
    "logps": (
        "log-probs of chosen and rejected",
        "nats/response",
        {"logps/chosen": "chosen", "logps/rejected": "rejected"}
        | {"eval_logps/chosen": "chosen, eval", "eval_logps/rejected": "rejected, eval"},
    ),
    "rewards": (
        "rewards of chosen and rejected",
        "reward",
        {"rewards/chosen": "chosen", "rewards/rejected": "rejected"}
        | {"eval_rewards/chosen": "chosen, eval", "eval_rewards/rejected": "rejected, eval"},
    ),
    "margins": (
        "reward margin of chosen over rejected",
        "margin",
        {"rewards/margins": "training", "eval_rewards/margins": EVALUATION},
    ),
    "accuracy": (
        "reward accuracy",
        "share of pairs",
        {"rewards/accuracies": "training", "eval_rewards/accuracies": EVALUATION},
    ),
    "kl": ("KL to the reference model", "nats/response", {"objective/kl": "KL"}),
    "sample-scores": ("scores of sampled responses", "score", {"objective/scores": "score"}),
    "sample-length": ("length of sampled responses", "tokens", {"completions/length": "tokens"}),
    "ended": ("sampled responses that reached EOS", "share", {"completions/ended": "share"}),
    "explained-variance": ("explained variance of values", "share", {"val/explained_variance": "share"}),
    "disagreement": ("disagreement of reward models", "standard deviations", {"objective/disagreement": "disagreement"}),
    "token-accuracy": (
        "mean token accuracy",
        "share of tokens",
        {"mean_token_accuracy": "training", "eval_mean_token_accuracy": EVALUATION},
    ),
    "retention": ("retention loss", "nats/token", {"retention/loss": "retention"}),
    "entropy": ("entropy", "nats/token", {"entropy": "training", "eval_entropy": EVALUATION}),
    "grad-norm": ("gradient norm", "norm", {"grad_norm": "norm"}),
    "learning-rate": ("learning rate", "rate", {"learning_rate": "rate"}),
    "tokens-per-second": ("throughput", "tokens/s", {"tokens_per_second": "tokens/s"}),
}
"""Name -> title, unit and which logged metric is which series."""
MACHINE = ("entropy", "grad-norm", "learning-rate", "tokens-per-second", "token-accuracy")
"""Curves of how training ran, rather than of what it learned."""
SHARES = ("empty", "not ended", "truncated", "loop", "repetition", "other language")
"""Signs of degeneration that are shares of responses."""


def logged(metrics: Metrics) -> Metrics:
    """Lines of training and evaluation; not the closing one of means over all of training."""
    return [m for m in metrics if "step" in m and "train_loss" not in m]


def curve(name: str, metrics: Metrics, marks: Mapping[float, str] | None = None) -> Chart | None:
    """A curve of :data:`CURVES` from logged lines; None where nothing of it was logged.

    Args:
        marks: steps at which the guard found something, and what.
    """
    title, unit, keys = CURVES[name]
    series = {label: points for key, label in keys.items() if (points := points_of(metrics, key))}
    return lines(title, series, unit, marks=marks)


def points_of(metrics: Metrics, key: str) -> list[tuple[float, float]]:
    """(step, value) of one metric."""
    return [(float(m["step"]), float(m[key])) for m in logged(metrics) if isinstance(m.get(key), int | float)]


def found_at(run: RunDirectory) -> dict[float, str]:
    """Steps at which the guard found something, and what."""
    out: dict[float, str] = {}
    for event in run.events():
        if event.get("event") == "guard" and event.get("step") and event.get("severity") != "note":
            done = f" ({event['done']})" if event.get("done") else ""
            step = float(event["step"])
            out[step] = "; ".join(filter(None, (out.get(step, ""), f"{event.get('rule')}{done}")))
    return out


# ---- of evaluations


def win_rate_chart(found: Sequence[EvaluationFiles]) -> Chart | None:
    """Win rates of all judged evaluations, with their intervals."""
    rows = [Estimate(e.label, e.summary["win_rate"], str(e.summary["outcome"])) for e in found if e.judged]
    return intervals("win rate over the base, 95 % CI", rows) if rows else None


def length_chart(e: EvaluationFiles) -> Chart | None:
    """Words of both models' responses."""
    sides = {side: [float(len(str(s.row[side]).split())) for s in e.responses] for side in ("base", "tuned")}
    return histogram("length of responses", binned(sides), "words")


def length_win_chart(e: EvaluationFiles) -> Chart | None:
    """Win rate by how long the tuned response is beside the base's."""
    found = e.summary.get("win_rate_by_length") or {}
    rows = [Estimate(name, interval) for name, interval in found.items()]
    return intervals("win rate by length, 95 % CI", rows) if rows else None


def scores_chart(e: EvaluationFiles) -> Chart | None:
    """The judge's scores of tuned over base, a point a response pair."""
    return scatter(f"scores by {e.label}", [s.scores for s in e.responses if s.scores], "base score", "tuned score")


def degeneration_chart(e: EvaluationFiles) -> Chart | None:
    """Signs of degeneration that are shares, where there is any."""
    rows = [
        (sign_words(str(f["name"])), float(f["base"]), float(f["tuned"]))
        for f in e.summary.get("degeneration") or ()
        if f["name"] in SHARES
    ]
    return shares("degeneration", rows) if any(b or t for _, b, t in rows) else None


def margin_distribution_chart(e: EvaluationFiles) -> Chart | None:
    """Log-prob margins of held-out pairs before training and after."""
    before, after = pair_margins(e)
    return histogram("log-prob margin of chosen over rejected, held-out pairs", binned({"before": before, "after": after}), "nats")


def implicit_calibration_chart(e: EvaluationFiles, beta: float) -> Chart | None:
    """How often chosen is preferred where DPO's implicit reward says how likely that is, on held-out pairs."""
    before, after = pair_margins(e)
    if not after or beta <= 0:
        return None
    from prefine.evaluation.reward_quality import reward_quality

    gains = [beta * (a - b) for a, b in zip(after, before, strict=True)]
    found = reward_quality(gains, [0.0] * len(gains), [[1, 1]] * len(gains), [str(p.get("cluster")) for p in e.pairs])
    return calibration("calibration of the implicit reward, held-out pairs", found.reliability, found.calibration_error)


def reward_calibration_chart(quality: Mapping[str, Any] | None) -> Chart | None:
    """The same of a reward model, from what its run measured."""
    if quality is None:
        return None
    return calibration("calibration of the reward model, held-out pairs", quality["reliability"], quality["calibration_error"])


# ---- by name


def _curve(name: str) -> Callable[[RunDirectory], Chart]:
    return lambda run: _there(curve(name, run.metrics()), run, f"nothing of {', '.join(CURVES[name][2])} was logged")


def _first(draw: Callable[[EvaluationFiles], Chart | None], what: str) -> Callable[[RunDirectory], Chart]:
    def chart(run: RunDirectory) -> Chart:
        drawn = (draw(e) for e in evaluations(run.path / "eval"))
        return _there(next((c for c in drawn if c is not None), None), run, what)

    return chart


def _there(chart: Chart | None, run: RunDirectory, what: str) -> Chart:
    if chart is None:
        raise DataError(f"{run.path}: {what}")
    return chart


def _calibration(run: RunDirectory) -> Chart:
    found = reward_calibration_chart(reward_quality_of(run))
    return found or _first(lambda e: implicit_calibration_chart(e, run.beta()), "no held-out pairs were measured")(run)


def _win_rate(run: RunDirectory) -> Chart:
    return _there(win_rate_chart(evaluations(run.path / "eval")), run, "no judge has compared responses; prefine eval asks one")


CHARTS: dict[str, Callable[[RunDirectory], Chart]] = {
    **{name: _curve(name) for name in CURVES},
    "margin-distribution": _first(margin_distribution_chart, "no evaluation measured held-out pairs"),
    "calibration": _calibration,
    "win-rate": _win_rate,
    "length": _first(length_chart, "no responses were sampled"),
    "length-win": _first(length_win_chart, "no judge has compared responses"),
    "scores": _first(scores_chart, "no judge scored responses"),
    "degeneration": _first(degeneration_chart, "no evaluation found a sign of degeneration"),
}
"""Name -> a run's chart.

Raises:
    DataError: the run holds nothing to draw it from.
"""
