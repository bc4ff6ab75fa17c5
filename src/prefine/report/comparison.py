"""Several runs on one page: settings that differ, verdicts, responses to the same prompts, numbers, training curves. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefine.report import charts
from prefine.report.evaluation_files import EvaluationFiles, Shown, evaluations
from prefine.report.numbers import learned
from prefine.report.page import figures, page, render
from prefine.report.plots import Estimate, intervals, lines
from prefine.report.responses import turns_of
from prefine.report.tables import Table, points, rate, sign_words, words_of
from prefine.runs import RunDirectory, replace_file, settings_that_differ

MOST_RUNS = 6
"""Of which curves are drawn: as many as there are colours."""
MOST_PROMPTS = 10
CURVES = ("loss", "accuracy", "margins", "kl", "sample-scores", "sample-length")


def comparison_page(runs: Sequence[RunDirectory], evaluation: str | None = None, differences: Sequence[str] = ()) -> str:
    """The page.

    Args:
        evaluation: its name; unset: the first that all have, else each run's own headline.
        differences: paired differences between runs, a sentence each, as ``prefine compare`` finds them.
    """
    names = _names(runs)
    found = [_chosen(run, evaluation, runs) for run in runs]
    title = " and ".join(names) if len(names) == 2 else f"{len(names)} runs"
    common = {e.name for e in found if e}
    body = render(
        "comparison.html",
        title=f"Comparison of {title}",
        evaluation=common.pop() if len(common) == 1 else "each run's own",
        differences=differences,
        rates=figures([_rates(names, found)]),
        verdicts=Table(
            ["run", "verdict"],
            [[n, str(e.summary["sentence"]) if e else "not judged"] for n, e in zip(names, found, strict=True)],
            "Verdicts",
            prose=True,
        ),
        settings=_settings(names, runs),
        numbers=_numbers(names, found),
        prompts=_prompts(names, found),
        curves=figures([_curve(name, names, runs) for name in CURVES]),
        left_out=max(0, len(runs) - MOST_RUNS),
    )
    return page(f"Prefine: {title}", body)


def write_comparison(runs: Sequence[RunDirectory], path: Path, evaluation: str | None = None, differences: Sequence[str] = ()) -> Path:
    """Write the page; returns its path."""
    replace_file(path, comparison_page(runs, evaluation, differences))
    return path


def _names(runs: Sequence[RunDirectory]) -> list[str]:
    """Folders' names where they tell the runs apart, else paths."""
    short = [run.path.resolve().name for run in runs]
    return short if len(set(short)) == len(short) else [str(run.path) for run in runs]


def _chosen(run: RunDirectory, asked: str | None, runs: Sequence[RunDirectory]) -> EvaluationFiles | None:
    found = evaluations(run.path / "eval")
    if asked is None:
        shared = [e.name for e in found if all((r.path / "eval" / e.name / "summary.json").exists() for r in runs)]
        asked = next(iter(shared), None)
    named = [e for e in found if e.name == asked] if asked else found
    return named[0] if named else None


def _rates(names: Sequence[str], found: Sequence[EvaluationFiles | None]) -> Any:
    rows = [
        Estimate(name, e.summary["win_rate"], str(e.summary["outcome"])) for name, e in zip(names, found, strict=True) if e and e.judged
    ]
    if rows:
        return intervals("win rate over the base, 95 % CI", rows)
    told = [(name, known) for name, e in zip(names, found, strict=True) if e and (known := learned(e.summary))]
    what = " or ".join(dict.fromkeys(kind for _, (kind, _) in told))
    accuracies = [Estimate(name, accuracy) for name, (_, accuracy) in told]
    return intervals(f"{what}, 95 % CI", accuracies, minimum=0.5, x=f"{what}, %") if accuracies else None


def _settings(names: Sequence[str], runs: Sequence[RunDirectory]) -> Table:
    """A setting a row where runs were told otherwise."""
    return Table(["setting", *names], settings_that_differ(runs), "Settings that differ", prose=True)


def _numbers(names: Sequence[str], found: Sequence[EvaluationFiles | None]) -> Table:
    columns = [_quantities(e.summary) if e else {} for e in found]
    keys = list(dict.fromkeys(k for column in columns for k in column))
    rows = [[key, *(column.get(key, "") for column in columns)] for key in keys]
    return Table(["", *names], [r for r in rows if any(r[1:])], "Numbers", "In brackets: 95 % CI.")


def _quantities(s: Mapping[str, Any]) -> dict[str, str]:
    """What one evaluation measured, a cell a quantity."""
    rated, known = s.get("win_rate") or {}, learned(s)
    out = {
        "outcome": words_of(str(s.get("outcome", ""))),
        "win rate": rate(s.get("win_rate")),
        "n": f"{rated['count']:,}" if "count" in rated else "",
        "win rate at equal length": rate(s.get("length_only_win_rate")),
        **({known[0]: rate(known[1])} if known else {}),
        "mean length, characters": " to ".join(f"{n:.0f}" for n in s.get("mean_lengths") or ()),
    }
    for key, words in (("per_token", "KL to the base, nats/token"), ("per_answer", "KL to the base, nats/response")):
        out[words] = f"{s['drift'][key]['estimate']:.3g}" if s.get("drift") else ""
    for skill in s.get("skills") or ():
        out[str(skill["name"])] = f"{100 * skill['before']:.1f} to {100 * skill['after']:.1f} %, change {points(skill['change'])}"
    for sign in s.get("degeneration") or ():
        if sign["broken"]:
            out[f"{sign_words(sign['name'])}, worse"] = f"{sign['base']:.3g} to {sign['tuned']:.3g}"
    return out


def _prompts(names: Sequence[str], found: Sequence[EvaluationFiles | None]) -> list[dict[str, Any]]:
    """Prompts that all runs responded to, those first on which their verdicts lie furthest apart."""
    known = [{_key(s): s for s in e.responses} for e in found if e]
    if len(known) < len(found) or not known:
        return []
    keys = [k for k in known[0] if all(k in each for each in known)]
    out = []
    for key in sorted(keys, key=lambda k: -_spread([each[k] for each in known]))[:MOST_PROMPTS]:
        each = [k[key] for k in known]
        bases = list(dict.fromkeys(str(s.row["base"]) for s in each))
        sides = [
            {"model": "base" if len(bases) == 1 else f"base of {n}", "text": str(s.row["base"]), "win": ""}
            for n, s in zip(names, each, strict=True)
        ]
        sides = sides[: 1 if len(bases) == 1 else None]
        sides += [
            {"model": n, "text": str(s.row["tuned"]), "win": "" if s.win is None else f"win {s.win:.2f}"}
            for n, s in zip(names, each, strict=True)
        ]
        out.append({"prompt": turns_of(each[0].row["prompt"]), "sides": sides})
    return out


def _key(s: Shown) -> tuple[Any, ...]:
    """The prompt's words and which of its samples it is."""
    return (str(s.row["prompt"]), str(s.row.get("key")), s.row.get("turn"))


def _spread(shown: Sequence[Shown]) -> float:
    wins = [s.win for s in shown if s.win is not None]
    return max(wins) - min(wins) if wins else 0.0


def _curve(name: str, names: Sequence[str], runs: Sequence[RunDirectory]) -> Any:
    """One metric of all runs: on evaluation data where all have it, else in training."""
    title, unit, keys = charts.CURVES[name]
    logged = [run.metrics() for run in runs[:MOST_RUNS]]
    for key in reversed(keys):
        series = {n: points for n, m in zip(names, logged, strict=False) if (points := charts.points_of(m, key))}
        if len(series) == len(logged) or (series and key == next(iter(keys))):
            return lines(f"{title}, evaluation" if key.startswith("eval_") else title, series, unit)
    return None
