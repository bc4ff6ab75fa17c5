"""A run directory to one HTML file: verdict, responses side by side, numbers, training, data. Reads files only; no torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefine.audit.check import CHECKS
from prefine.guard.rule import GRADES
from prefine.report import charts
from prefine.report.audit_section import audit_section
from prefine.report.evaluation_files import EvaluationFiles, evaluation_of, evaluations, reward_quality_of
from prefine.report.model_card import write_model_card
from prefine.report.numbers import number_tables, verdict_tables
from prefine.report.page import Figure, figures, page, render
from prefine.report.responses import responses_section
from prefine.report.tables import Table, rate
from prefine.runs import RunDirectory, as_written, read_json, replace_file, write_json

if TYPE_CHECKING:
    from prefine.report.theme import Chart

__all__ = ["evaluations", "rate", "run_page", "write_judged", "write_report"]

KINDS = {"better": "better", "worse": "bad", "better, but": "bad", "degenerated": "bad", "collapsed": "bad", "opposite": "bad"}
"""How an outcome is coloured; others are in the colour of doubt."""


@dataclass(frozen=True)
class Headline:
    """What a reader sees first: a sentence, how it is coloured, who says it, and win rates as a picture."""

    sentence: str
    kind: str = "none"
    by: str = ""
    charts: list[Figure] = field(default_factory=list)


def run_page(run: RunDirectory) -> str:
    """The page."""
    found = evaluations(run.path / "eval")
    quality = reward_quality_of(run)
    data = run.data()
    return page(
        f"Prefine: {run.path.name}",
        render(
            "run.html",
            name=run.path.name,
            command=run.command(),
            headline=headline(found) if found else _without_evaluation(run, quality),
            responses=_markup(_responses(found)),
            evaluations=evaluations_part(found, run.beta()),
            reward=_reward(quality),
            training=_training(run),
            guard=_guard(run),
            looks=_looks(run),
            data=_data(data),
            audit=_markup(audit_section(data["audit"], {c.name: (c.why, c.fix) for c in CHECKS.values()})) if "audit" in data else "",
            events=_events(run),
            repeat=_repeat(run),
        ),
    )


def write_report(run: RunDirectory) -> Path:
    """Write ``report.html``, ``summary.json`` and the model card; returns the page's path.

    Raises:
        DataError: what lies there is damaged.
    """
    path = run.path / "report.html"
    with as_written(run.path):
        replace_file(path, run_page(run))
        found = evaluations(run.path / "eval")
        first = found[0].summary if found else {}
        kept = {k: first.get(k) for k in ("outcome", "sentence", "win_rate", "learning", "judge", "skills", "harms")}
        write_json(run.path / "summary.json", kept | {"evaluations": {e.name: e.summary["sentence"] for e in found}})
        write_model_card(run)
    return path


def write_judged(folder: Path) -> Path:
    """Write ``report.html`` beside one evaluation's files, for responses that belong to no run; returns its path."""
    e = evaluation_of(folder)
    assert e is not None
    title = f"{' against '.join(reversed(e.models))}"
    parts = {"headline": headline([e]), "responses": _markup(_responses([e])), "evaluations": evaluations_part([e], 0.0)}
    replace_file(folder / "report.html", page(f"Prefine: {title}", render("judged.html", title=title, **parts)))
    return folder / "report.html"


def headline(found: Sequence[EvaluationFiles]) -> Headline:
    """The first evaluation's sentence, and all win rates."""
    first = found[0]
    outcome = str(first.summary.get("outcome", ""))
    drawn = figures([charts.win_rate_chart(found)])
    return Headline(str(first.summary["sentence"]), KINDS.get(outcome, "doubt"), f"Evaluation {first.label}", drawn)


def _without_evaluation(run: RunDirectory, quality: Mapping[str, Any] | None) -> Headline:
    """What is known of a run that no responses were sampled of."""
    if quality:
        accuracy = quality["accuracy"]
        sentence = f"Held-out accuracy {rate(accuracy)}, n = {accuracy['count']}; calibration error {quality['calibration_error']:.3f}"
        return Headline(sentence, "better" if accuracy["low"] > 0.5 else "doubt", "Reward model on held-out preference pairs, 95 % CI")
    if run.command() == "sft":
        held = charts.points_of(run.metrics(), "eval_loss")
        if held:
            first = f", from {held[0][1]:.4g} at step {held[0][0]:g}" if len(held) > 1 else ""
            return Headline(f"Held-out loss {held[-1][1]:.4g} nats/token at step {held[-1][0]:g}{first}", "none", "Supervised fine-tuning")
        loss = charts.points_of(run.metrics(), "loss")
        trained = f"Training loss from {loss[0][1]:.4g} to {loss[-1][1]:.4g} nats/token; " if loss else ""
        return Headline(f"{trained}nothing was held out, so how it generalises is not known", "doubt", "Supervised fine-tuning")
    if run.command() == "reward":
        return Headline("Nothing was held out: the accuracy of this reward model is not known", "doubt")
    return Headline("Not judged yet: prefine eval judges a finished run.")


def _responses(found: Sequence[EvaluationFiles]) -> str:
    """The first evaluation's responses, and what further ones have."""
    if not found:
        return ""
    first = next((e for e in found if e.responses), found[0])
    others = [f"{e.label}: {len(e.responses)} responses in eval/{e.name}." for e in found if e is not first and e.responses]
    return responses_section(first.name, first.responses, first.models, others)


def evaluations_part(found: Sequence[EvaluationFiles], beta: float) -> dict[str, Any] | None:
    """Charts and tables of all evaluations, each quantity once."""
    if not found:
        return None
    drawers: list[Callable[[EvaluationFiles], Chart | None]] = [
        charts.length_chart,
        charts.length_win_chart,
        charts.margin_distribution_chart,
        lambda e: charts.implicit_calibration_chart(e, beta),
    ]
    once = [next((c for e in found if (c := draw(e)) is not None), None) for draw in drawers]
    drawn = figures([*once, *(charts.scores_chart(e) for e in found)])
    return {"verdicts": verdict_tables(found), "charts": drawn, "tables": number_tables(found)}


def _reward(quality: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A reward model's quality on held-out pairs."""
    if quality is None:
        return None
    rows = [
        ["accuracy", rate(quality["accuracy"])],
        ["accuracy where the chosen response is shorter", rate(quality["shorter_chosen"])],
        ["accuracy where the chosen response is longer", rate(quality["longer_chosen"])],
        ["correlation of reward and length", f"{quality['length_correlation']:+.2f}"],
        ["expected calibration error", f"{quality['calibration_error']:.3f}"],
    ]
    gaps = [[f"{low:.2f} to {high:.2f}", f"{rate(i)}, n = {i['count']}"] for low, high, i in quality["by_gap"]]
    tables = [
        Table(["", "held-out pairs"], [r for r in rows if r[1]], "Reward model", "In brackets: 95 % CI."),
        Table(["reward difference", "accuracy"], gaps, "Accuracy by reward difference"),
    ]
    return {"charts": figures([charts.reward_calibration_chart(quality)]), "tables": tables}


def _training(run: RunDirectory) -> dict[str, list[Figure]]:
    """Curves of what was learned, and of how training ran."""
    metrics = run.metrics()
    names = [name for name in charts.CURVES if name not in charts.MACHINE]
    marks = charts.found_at(run)
    parts = (("learned", names), ("machine", charts.MACHINE))
    return {kind: figures([charts.curve(n, metrics, marks) for n in these]) for kind, these in parts}


def _guard(run: RunDirectory) -> Table | None:
    """What the guard found, in order."""
    found = [e for e in run.events() if e.get("event") == "guard"]
    names = ("step", "rule", "text", "advice", "done")
    rows = [[GRADES.get(str(e.get("severity")), ""), *(str(e.get(name) or "") for name in names)] for e in found]
    columns = ["", "step", "rule", "what was seen", "what to do", "what was done"]
    return Table(columns, rows, "What the guard found", prose=True) if rows else None


def _looks(run: RunDirectory) -> dict[str, Any] | None:
    looks = run.looks()
    if len(looks) < 2:
        return None
    rows = [[str(look["evaluation"]), str(look["judge"]), str(look["sentence"])] for look in looks]
    chance = min(100, 5 * len(looks))
    note = f"A judge looked at this run {len(looks)} times; the chance that one of the looks is wrong is up to {chance} %, not 5 %."
    return {"note": note, "table": Table(["evaluation", "judge", "verdict"], rows, prose=True)}


def _data(data: Mapping[str, Any]) -> Table:
    """What was read and what was left out of it."""
    encoding = data.get("encoding") or {}
    trained = encoding.get("encoded", data.get("pairs"))
    counts = {"source": data.get("source"), "format": data.get("format"), "rows": data.get("rows"), "used for training": trained}
    rows = [[name, f"{value:,}" if isinstance(value, int) else str(value)] for name, value in counts.items() if value is not None]
    for what, found in (("dropped", data.get("dropped")), ("dropped", encoding.get("dropped")), ("truncated", encoding.get("cut"))):
        for reason, how in (found or {}).items() if isinstance(found, Mapping) else ():
            count = how.get("count", "") if isinstance(how, Mapping) else len(how) if isinstance(how, list) else how
            rows.append([f"{what}: {reason}", f"{count:,}" if isinstance(count, int) else str(count)])
    return Table(["", ""], rows, prose=True)


def _events(run: RunDirectory) -> dict[str, Any] | None:
    events = run.events()
    if not events:
        return None
    counted = Counter(str(e.get("event")) for e in events)
    told = ", ".join(f"{count} {name}" for name, count in counted.items())
    return {"told": told, "lines": [json.dumps(e, ensure_ascii=False, default=str) for e in events[:50]], "more": max(0, len(events) - 50)}


def _repeat(run: RunDirectory) -> dict[str, str]:
    config = run.path / "config.yaml"
    first, _, rest = (config.read_text(encoding="utf-8") if config.exists() else "").partition("\n")
    environment = run.path / "environment.json"
    versions = read_json(environment).get("versions", {}) if environment.exists() else {}
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    return {"command": first.removeprefix("# repeat: "), "versions": shown, "settings": rest}


def _markup(html: str) -> Any:
    from markupsafe import Markup

    return Markup(html)
