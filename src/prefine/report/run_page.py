"""A run directory to one HTML file: verdict first, then why, then everything behind it. Reads files only; no torch."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from prefine.audit.check import CHECKS
from prefine.report.answers_section import SCRIPT, Shown, answers_section, join
from prefine.report.audit_section import audit_section
from prefine.report.chart import interval_chart, line_chart, share_chart, training_curves
from prefine.report.page import histogram, page
from prefine.runs import RunDirectory, read_jsonl, write_json, write_text

Summary = Mapping[str, Any]
KINDS = {"better": "better", "worse": "worse", "better, but": "but", "degenerated": "worse", "collapsed": "worse"}
"""How an outcome is coloured; others are in the colour of doubt."""
SHARES = ("empty", "not ended", "loop", "repetition", "other language")
"""Signs of degeneration that are shares of answers, and are drawn."""


@dataclass
class EvaluationFiles:
    """One evaluation of a run as it lies on disk."""

    name: str
    summary: Summary
    answers: list[Shown] = field(default_factory=list)


def evaluation_of(folder: Path) -> EvaluationFiles | None:
    """One evaluation's folder; None where it was not finished."""
    path = folder / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if "sentence" not in summary:
        return None
    rows = [list(read_jsonl(folder / n)) if (folder / n).exists() else [] for n in ("generations.jsonl", "verdicts.jsonl")]
    return EvaluationFiles(folder.resolve().name, summary, join(rows[0], rows[1]))


def evaluations(folder: Path) -> list[EvaluationFiles]:
    """Evaluations under ``eval/``, the headline first: a judge's before one without, the newest before older."""
    newest = sorted(folder.glob("*/summary.json"), key=lambda p: -p.stat().st_mtime)
    found = [e for path in newest if (e := evaluation_of(path.parent)) is not None]
    return sorted(found, key=lambda e: e.summary.get("win_rate") is None)


def run_page(run: RunDirectory) -> str:
    """The page."""
    found = evaluations(run.path / "eval")
    data = run.data()
    measured = run.path / "eval" / "reward" / "summary.json"
    reward = json.loads(measured.read_text(encoding="utf-8"))["reward_model"] if measured.exists() else None
    parts = [
        f"<header><h1>{escape(run.path.name)}</h1>{headline(found) if found or not reward else ''}</header>",
        reward_section(reward) if reward else "",
        *(evaluation_section(e) for e in found),
        training_curves(run.metrics()),
        _looks(run),
        _events(run),
        audit_section(data["audit"], {c.name: (c.why, c.fix) for c in CHECKS.values()}) if "audit" in data else "",
        _repeat(run),
        *(answers_section(e.name, e.answers, _models(e.summary)) for e in found[:1]),
    ]
    return page(f"Prefine: {run.path.name}", "\n".join(filter(None, parts)), SCRIPT)


def reward_section(quality: Mapping[str, Any]) -> str:
    """A reward model's quality on held-out pairs."""
    rows = [
        ["held-out accuracy", rate(quality["accuracy"])],
        ["where the chosen is shorter", rate(quality["shorter_chosen"])],
        ["where the chosen is longer", rate(quality["longer_chosen"])],
        ["correlation of reward and length", f"{quality['length_correlation']:+.2f}"],
        ["calibration error", f"{quality['calibration_error']:.3f}"],
    ]
    gaps = [[f"difference {low:.2f} to {high:.2f}", rate(interval)] for low, high, interval in quality["by_gap"]]
    points = [(100 * predicted, 100 * found) for predicted, found, _ in quality["reliability"]]
    drawn = line_chart("share found (%) over share predicted (%)", {"found": points, "if calibrated": [(x, x) for x, _ in points]}, "")
    return (
        f"<section><h2>Reward model</h2>{table(['', 'held-out pairs'], [r for r in rows if r[1]])}"
        f'{table(["accuracy by size of the difference", ""], gaps)}<div class="curves">{drawn}</div></section>'
    )


def write_judged(folder: Path) -> Path:
    """Write ``report.html`` beside one evaluation's files, for answers that belong to no run; returns its path."""
    e = evaluation_of(folder)
    assert e is not None
    title = f"{' against '.join(reversed(_models(e.summary)))}"
    answers = answers_section(e.name, e.answers, _models(e.summary))
    body = f"<header><h1>{escape(title)}</h1>{headline([e])}</header>{evaluation_section(e)}{answers}"
    write_text(folder / "report.html", page(f"Prefine: {title}", body, SCRIPT))
    return folder / "report.html"


def write_report(run: RunDirectory) -> Path:
    """Write ``report.html``, ``summary.json`` and the model card; returns the page's path."""
    from prefine.report.model_card import write_model_card

    path = run.path / "report.html"
    write_text(path, run_page(run))
    found = evaluations(run.path / "eval")
    first = found[0].summary if found else {}
    kept = {k: first.get(k) for k in ("outcome", "sentence", "win_rate", "learning", "judge", "skills", "harms")}
    write_json(run.path / "summary.json", kept | {"evaluations": {e.name: e.summary["sentence"] for e in found}})
    write_model_card(run)
    return path


def headline(found: Sequence[EvaluationFiles]) -> str:
    """The verdict's sentence, and all win rates as a picture."""
    if not found:
        return '<p class="verdict">Not judged yet: prefine eval judges a finished run.</p>'
    first = found[0].summary
    outcome = str(first["outcome"])
    kind = KINDS.get(outcome, "unsure")
    rows = [(_label(e), e.summary["win_rate"], str(e.summary["outcome"])) for e in found if e.summary.get("win_rate")]
    by = f'<p class="soft">{escape(_label(found[0]))}</p>'
    return f'<p class="verdict {kind}">{escape(str(first["sentence"]))}</p>{by}{interval_chart(rows) if rows else ""}'


def _label(e: EvaluationFiles) -> str:
    judge = e.summary.get("judge")
    if e.summary.get("trained_on"):
        return f"{e.name}, by the reward that was trained on"
    if not judge:
        return f"{e.name}, without a judge"
    return f"judge {judge}" if judge == e.name else f"{e.name}, judge {judge}"


def evaluation_section(e: EvaluationFiles) -> str:
    """One evaluation's numbers."""
    s = e.summary
    tables = [_counts(s), _skills(s), _degeneration(s), _drift(s), _categories(s), _by_length(s), _ratings(s)]
    lengths = _length_rows(e.answers)
    return f"<section><h2>Evaluation: {escape(e.name)}</h2>{''.join(filter(None, tables))}{lengths}</section>"


def _models(summary: Summary) -> tuple[str, str]:
    base, tuned = summary.get("models") or ("base", "tuned")
    return str(base), str(tuned)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is words and whose others are numbers; cells are text and get escaped."""
    if not rows:
        return ""
    top = "".join(f'<th scope="col"{"" if i == 0 else " class=number"}>{escape(h)}</th>' for i, h in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f'<td class="{"" if i == 0 else "number"}">{escape(c)}</td>' for i, c in enumerate(row)) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def rate(interval: Mapping[str, float] | None) -> str:
    """``62.5 % [57.1, 68.0]``."""
    return "" if not interval else f"{100 * interval['estimate']:.1f} % [{100 * interval['low']:.1f}, {100 * interval['high']:.1f}]"


def _plain(interval: Mapping[str, float]) -> str:
    return f"{interval['estimate']:+.3g} [{interval['low']:+.3g}, {interval['high']:+.3g}]"


QUALITY = {
    "flips": "verdicts that flip with the order",
    "first_wins": "verdicts won by the answer shown first",
    "longer_wins": "verdicts won by the longer answer",
}


def _counts(s: Summary) -> str:
    rows = [
        ["win rate", rate(s.get("win_rate"))],
        ["wins, losses, draws", f"{s['wins']}, {s['losses']}, {s['draws']}" if "wins" in s else ""],
        ["verdicts that failed", str(s["failed_votes"]) if "failed_votes" in s else ""],
        ["left out for want of their other order", str(s.get("left_out") or "")],
        ["sign test", f"p = {s['p_value']:.2g}" if s.get("p_value") is not None else ""],
        ["win rate at equal length (length alone)", rate(s.get("length_only_win_rate"))],
        ["win rate at equal style", rate(s.get("style_controlled_win_rate"))],
        ["mean length, characters", " to ".join(f"{n:.0f}" for n in s.get("mean_lengths") or ())],
        *([words, rate((s.get("judge_quality") or {}).get(key))] for key, words in QUALITY.items()),
    ]
    agreed = s.get("agreement")
    if agreed:
        rows += [["judge agrees with people", rate(agreed["same"])], ["Cohen's kappa with people", _plain(agreed["kappa"])]]
    learned = s.get("learning")
    if learned:
        margin = f"{learned['margin']:+.3g} {learned['unit']}, spread {learned['spread']:.3g}; up to {learned['floor']:.2g} is no change"
        rows += [[learned["measure"], f"{rate(learned['accuracy'])}, n = {learned['accuracy']['count']}"], ["mean margin", margin]]
    by = "the reward that was trained on" if s.get("trained_on") else s.get("judge") or "none"
    return table(["", f"judge: {by}"], [r for r in rows if r[1]])


def _skills(s: Summary) -> str:
    rows = [
        [k["name"], f"{100 * k['before']:.1f} %", f"{100 * k['after']:.1f} %", rate(k["change"]).replace(" %", ""), k.get("state", "")]
        for k in s.get("skills") or ()
    ]
    rows += [
        [f"perplexity of {p['source']}", f"{p['before']:.4g}", f"{p['after']:.4g}", f"log {_plain(p['change'])}", ""]
        for p in s.get("perplexity") or ()
    ]
    return table(["skill", "base", "tuned", "change, points", "no worse?"], rows)


def _degeneration(s: Summary) -> str:
    rows = [
        [f["name"], f"{f['base']:.3g}", f"{f['tuned']:.3g}", _plain(f["change"]), "broken" if f["broken"] else ""]
        for f in s.get("degeneration") or ()
    ]
    about = "".join(f"<li>{escape(f['name'])}: {escape(f['about'])}</li>" for f in s.get("degeneration") or ())
    more = f"<details><summary>what these are</summary><ul>{about}</ul></details>" if about else ""
    shares = [(f["name"], f["base"], f["tuned"]) for f in s.get("degeneration") or () if f["name"] in SHARES]
    return table(["degeneration", "base", "tuned", "change", ""], rows) + (share_chart("degeneration", shares) if shares else "") + more


def _drift(s: Summary) -> str:
    rows = []
    if s.get("drift"):
        rows += [
            ["KL to the base, nats a token", _plain(s["drift"]["per_token"])],
            ["KL to the base, nats an answer", _plain(s["drift"]["per_answer"])],
        ]
    pairs = s.get("held_out_pairs") or {}
    for name in ("chosen", "rejected"):
        if name in pairs:
            p = pairs[name]
            change = f"; {_plain(p['change'])}" if "change" in p else ""
            rows.append([f"log-prob of held-out {name}, nats", f"{p['before']:.1f} to {p['after']:.1f}{change}"])
    return table(["drift", "estimate with interval"], rows)


def _categories(s: Summary) -> str:
    return table(["category", "win rate"], [[name, rate(i)] for name, i in (s.get("categories") or {}).items()])


def _by_length(s: Summary) -> str:
    rows = [[name, rate(i), str(i["count"])] for name, i in (s.get("win_rate_by_length") or {}).items()]
    return table(["length", "win rate", "comparisons"], rows)


def _ratings(s: Summary) -> str:
    ratings = s.get("ratings") or {}
    if not ratings:
        return ""
    names = list(next(iter(ratings.values())))
    cells = [
        [name, *(f"{side[name]['estimate']:.2f} [{side[name]['low']:.2f}, {side[name]['high']:.2f}]" for side in ratings.values())]
        for name in names
    ]
    return table(["mean score", *ratings], cells)


def _length_rows(answers: Sequence[Shown]) -> str:
    """Lengths of both sides' answers, as pictures."""
    if not answers:
        return ""
    sides = [[len(str(a.row[side]).split()) for a in answers] for side in ("base", "tuned")]
    edges = [1]
    while edges[-1] <= max(1, *map(max, sides)):
        edges.append(max(edges[-1] + 1, round(edges[-1] * 1.3)))
    charts = []
    for name, lengths in zip(("base: words an answer", "tuned: words an answer"), sides, strict=True):
        counts = [sum(lo <= max(1, n) < hi for n in lengths) for lo, hi in itertools.pairwise(edges)]
        charts.append(histogram(name, edges, counts))
    return f'<div class="curves">{"".join(charts)}</div>'


def _looks(run: RunDirectory) -> str:
    looks = run.looks()
    if len(looks) < 2:
        return ""
    rows = [[str(look["evaluation"]), str(look["judge"]), str(look["sentence"])] for look in looks]
    chance = min(100, 5 * len(looks))
    note = f"A judge looked at this run {len(looks)} times; the chance that one of the looks is wrong is up to {chance} %, not 5 %."
    return f"<section><h2>Looks</h2><p>{note}</p>{table(['evaluation', 'judge', 'what it said'], rows)}</section>"


def _events(run: RunDirectory) -> str:
    path = run.path / "events.jsonl"
    events = list(read_jsonl(path)) if path.exists() else []
    if not events:
        return ""
    counted: dict[str, int] = {}
    for e in events:
        counted[str(e.get("event"))] = counted.get(str(e.get("event")), 0) + 1
    lines = "".join(f"<li>{escape(json.dumps(e, ensure_ascii=False, default=str))}</li>" for e in events[:50])
    told = ", ".join(f"{count} {name}" for name, count in counted.items())
    more = f"<details><summary>events</summary><ul>{lines}</ul></details>"
    return f"<section><h2>What happened on the way</h2><p>{escape(told)}</p>{more}</section>"


def _repeat(run: RunDirectory) -> str:
    config = run.path / "config.yaml"
    text = config.read_text() if config.exists() else ""
    first, _, rest = text.partition("\n")
    environment = run.path / "environment.json"
    versions = json.loads(environment.read_text()).get("versions", {}) if environment.exists() else {}
    shown = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"<section><h2>How to repeat it</h2><pre>{escape(first.removeprefix('# repeat: '))}</pre>"
        f"<p class=soft>{escape(shown)}</p><details><summary>all settings</summary><pre>{escape(rest)}</pre></details></section>"
    )
