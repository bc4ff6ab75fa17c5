"""Several runs side by side: what they were told, how they were judged, who beats whom."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefine.api.calls import call
from prefine.api.progress import Progress
from prefine.api.tables import Shows, Table
from prefine.errors import ConfigError
from prefine.evaluation.multiple import together
from prefine.runs import RunDirectory, as_written, read_json, settings_that_differ, write_json


@dataclass
class CompareOptions:
    """Options of ``prefine compare``."""

    runs: list[str] | None = field(default=None, metadata={"help": "Run directories (also as the first words)."})
    evaluation: str | None = field(default=None, metadata={"help": "Which evaluation to compare by. Unset: the first that all have."})
    output: str | None = field(default=None, metadata={"help": "File for the numbers as JSON."})
    html: str | None = field(default=None, metadata={"help": "File for a page of the runs side by side; opens with no network."})


@dataclass(repr=False)
class Comparison(Shows):
    """Runs side by side.

    Attributes:
        evaluation: by which they are compared; summaries: its numbers, a run each; differences: of every two runs.
        settings: those that differ; table: what was measured.
    """

    evaluation: str
    runs: Sequence[str]
    summaries: Sequence[Mapping[str, Any]]
    differences: Sequence[Mapping[str, Any]]
    settings: Table | None
    table: Table
    lines: Sequence[str]

    def parts(self) -> list[Any]:
        """What there is to see."""
        return [self.settings or "the runs were told the same", self.table, *self.lines]


@call(CompareOptions, positional=("runs",), rest=True)
def compare(given: CompareOptions, progress: Progress) -> Comparison:
    """Several runs side by side: settings that differ, win rates over the base, skills, drift, and paired differences.

    Raises:
        ConfigError: fewer than two runs, or no evaluation in common.
    """
    names = [str(name) for name in given.runs or []]
    if len(names) < 2:
        raise ConfigError("compare needs at least two RUNs: the --output-dirs of training runs")
    if len(set(names)) < len(names):
        raise ConfigError("compare: a run is named twice")
    runs = [RunDirectory.open(name) for name in names]
    with as_written(*(run.path for run in runs)):
        from prefine.report.run_page import evaluations

        found = [{e.name: e.summary for e in evaluations(run.path / "eval")} for run in runs]
        chosen = _chosen(given.evaluation, names, found)
        summaries = [f[chosen] for f in found]
        pairs = list(itertools.combinations(runs, 2))
        differences = [difference(a, b, chosen, together(len(pairs))) for a, b in pairs]
        lines = [str(d["sentence"]) for d in differences]
        if len(pairs) > 1:
            lines.append(f"  the {len(pairs)} intervals hold all at once with 95 %, so that the best may be picked by them")
        if given.output:
            write_json(
                Path(given.output), {"evaluation": chosen, "runs": dict(zip(names, summaries, strict=True)), "differences": differences}
            )
            lines.append(f"numbers: {given.output}")
        if given.html:
            from prefine.report.comparison import write_comparison

            write_comparison(runs, Path(given.html), chosen, [str(d["sentence"]) for d in differences])
            lines.append(f"page: {given.html}")
        return Comparison(chosen, names, summaries, differences, _settings(runs), _table(names, summaries, chosen), lines)


def _chosen(asked: str | None, names: list[str], found: list[dict[str, Any]]) -> str:
    unjudged = [n for n, f in zip(names, found, strict=True) if not f]
    if unjudged:
        raise ConfigError(f"{unjudged[0]}: not judged yet; run prefine eval {unjudged[0]}")
    common = [name for name in found[0] if all(name in f for f in found)]
    if asked is not None and asked not in common:
        raise ConfigError(f"--evaluation {asked}: not all runs have it; all have: {', '.join(common) or 'none'}")
    if not common:
        have = "; ".join(f"{n}: {', '.join(f)}" for n, f in zip(names, found, strict=True))
        raise ConfigError(f"the runs have no evaluation in common ({have}); judge them alike with prefine eval --name")
    return asked or common[0]


def _settings(runs: list[RunDirectory]) -> Table | None:
    """What the runs were told otherwise; None where they were told the same."""
    rows = settings_that_differ(runs)
    return Table(["", *(str(r.path) for r in runs)], rows, "settings that differ") if rows else None


def _table(names: list[str], summaries: list[Mapping[str, Any]], chosen: str) -> Table:
    """What was measured of each run."""
    from prefine.report.numbers import learned
    from prefine.report.tables import rate

    known = [learned(s) for s in summaries]
    rows: list[tuple[str, list[str]]] = [
        ("win rate over its base", [rate(s.get("win_rate")) for s in summaries]),
        *(
            (kind, [rate(found[1]) if found and found[0] == kind else "" for found in known])
            for kind in dict.fromkeys(found[0] for found in known if found)
        ),
        ("verdict", [str(s["outcome"]) for s in summaries]),
        ("at equal length", [rate(s.get("length_only_win_rate")) for s in summaries]),
    ]
    for label, key in (("KL, nats/token", "per_token"), ("KL, nats/response", "per_answer")):
        rows.append((label, [f"{s['drift'][key]['estimate']:.3g}" if s.get("drift") else "" for s in summaries]))
    skills = dict.fromkeys(k["name"] for s in summaries for k in s.get("skills") or ())
    for skill in skills:
        of = [next((k for k in s["skills"] if k["name"] == skill), None) for s in summaries]
        rows.append((skill, [f"{100 * k['before']:.1f} to {100 * k['after']:.1f} %" if k else "" for k in of]))
    return Table(["", *names], [[label, *cells] for label, cells in rows if any(cells)], f"evaluation {chosen}")


def difference(first: RunDirectory, second: RunDirectory, name: str, level: float) -> dict[str, Any]:
    """The second run's win rate less the first's, prompt by prompt."""
    from prefine.evaluation.interval import least_clusters, paired_difference
    from prefine.evaluation.verdict_files import match, read_verdicts

    paths = [run.path / "eval" / name / "verdicts.jsonl" for run in (first, second)]
    who = f"{second.path} against {first.path}"
    if not all(path.exists() for path in paths):
        sentence = f"{who}: no difference to give, nothing was compared prompt by prompt"
        return {"runs": [str(first.path), str(second.path)], "sentence": sentence}
    files = [read_verdicts(str(path)) for path in paths]
    before, after, clusters, unmatched = match(files[0].counted, files[1].counted)
    judges = [read_json(run.path / "eval" / name / "summary.json").get("judge") for run in (first, second)]
    bases = [str(Path(f.models[0]).resolve()) if Path(f.models[0]).exists() else f.models[0] for f in files]
    for what, values in (("base", bases), ("judge", judges)):
        if values[0] != values[1]:
            sentence = f"{who}: no difference to give, another {what} ({values[1] or 'none'} and {values[0] or 'none'})"
            return {"runs": [str(first.path), str(second.path)], "sentence": sentence}
    if len(set(clusters)) < least_clusters(0.5):
        sentence = f"{who}: {len(set(clusters))} prompts were judged in both, too few to compare by"
        return {"runs": [str(first.path), str(second.path)], "sentence": sentence}
    change = paired_difference(after, before, clusters, level=level)
    state = "higher" if change.low > 0 else "lower" if change.high < 0 else "inconclusive"
    what = "win rate" if judges[0] else "reward accuracy"
    sentence = (
        f"{who}: {what} {100 * change.estimate:+.2f} points [{100 * change.low:+.2f}, {100 * change.high:+.2f}], {state}, "
        f"on {change.count} prompts that both were judged on; {unmatched} have only one"
    )
    return {"runs": [str(first.path), str(second.path)], **vars(change), "unmatched": unmatched, "sentence": sentence}
