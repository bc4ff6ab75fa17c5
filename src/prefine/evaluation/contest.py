"""Two models' answers before a judge: votes to files, and what the answers themselves tell. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prefine.errors import ConfigError, DataError
from prefine.evaluation.agreement import Agreement, agreement
from prefine.evaluation.answers import AnswerFile
from prefine.evaluation.count import Count, count
from prefine.evaluation.degeneration import Finding, Text, compare_texts
from prefine.evaluation.interval import mean_interval
from prefine.evaluation.judge import Comparison, Judge, Vote, compare, item_of, items_of, verdict_row
from prefine.evaluation.verdict import THRESHOLDS, Thresholds
from prefine.evaluation.verdict_files import Judged, VerdictFile, match, verdicts_of
from prefine.preferences.records import plain_text
from prefine.runs import read_jsonl, write_json, write_jsonl

Models = tuple[str, str]
UNNAMED = {"base", "baseline", "model", "tuned"}
"""What a file of verdicts calls its models where it names none."""


def hold(
    comparisons: Sequence[Comparison],
    judge: Judge,
    models: Models,
    folder: Path,
    progress: Callable[[int], None] = lambda done: None,
) -> VerdictFile:
    """Judge all comparisons; write ``generations.jsonl`` and ``verdicts.jsonl`` into the folder.

    Raises:
        DataError: nothing to compare, or not one verdict, with the judge's reasons.
    """
    if not comparisons:
        raise DataError("the two have no answered question in common: nothing to compare")
    votes: list[list[Vote]] = [[] for _ in comparisons]
    for place, vote in judge.judge(comparisons):
        votes[place].append(vote)
        progress(1)
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "generations.jsonl", map(generation_row, comparisons))
    rows = [
        verdict_row(c, v, models, judge.name)
        for c, given in zip(comparisons, votes, strict=True)
        for v in sorted(given, key=lambda v: v.order)
    ]
    write_jsonl(folder / "verdicts.jsonl", rows)
    asked = [row for row in rows if row.get("asked", True)]
    if asked and all(row["tuned_wins"] is None for row in asked):
        raise DataError(f"judge {judge.name} gave no verdict at all: {told_reasons(rows)}")
    return verdicts_of(enumerate(rows, 1), str(folder / "verdicts.jsonl"))


def judge_files(
    base: AnswerFile,
    tuned: AnswerFile,
    judge: Judge,
    models: Models,
    folder: Path,
    people: VerdictFile | None = None,
    thresholds: Thresholds = THRESHOLDS,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[Count, dict[str, Any]]:
    """Judge two files of answers into a folder; the count, and what ``summary.json`` holds."""
    comparisons, unmatched = compare(base, tuned)
    told = people_on(people, models) if people else []
    file = hold(comparisons, judge, models, folder, progress)
    findings = findings_of(comparisons)
    found = count(file, suspects=[f.suspect for f in findings], thresholds=thresholds)
    agreed = agree(file, told, comparisons) if told else None
    rows = list(read_jsonl(folder / "verdicts.jsonl"))
    summary = found.summary() | {
        "judge": judge.name,
        "degeneration": [f.summary() for f in findings],
        "ratings": mean_ratings(rows, models),
        "failure_reasons": told_reasons(rows),
        "unmatched": unmatched,
        "failed_answers": [*base.failures, *tuned.failures],
        "agreement": asdict(agreed) if agreed else None,
    }
    write_json(folder / "summary.json", summary)
    return found, summary


def told_reasons(rows: Sequence[Mapping[str, Any]]) -> str:
    """Why there is no verdict, the most frequent reasons with their counts."""
    counted = Counter(str(row.get("failure") or "no verdict") for row in rows if row["tuned_wins"] is None)
    return "; ".join(f"{count} x {reason}" for reason, count in counted.most_common(3))


def generation_row(c: Comparison) -> dict[str, Any]:
    """A line of ``generations.jsonl``: both answers to what was asked."""
    prompt = c.prompt
    row: dict[str, Any] = {
        "key": c.question.key,
        "cluster": c.question.cluster or c.question.key,
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "base": c.base[-1],
        "tuned": c.tuned[-1],
    }
    if c.question.category:
        row["category"] = c.question.category
    if c.ended != (None, None):
        row["ended"] = list(c.ended)
    return row | ({"turn": c.turn} if c.question.later_turns else {})


def findings_of(comparisons: Sequence[Comparison]) -> list[Finding]:
    """Signs of degeneration, tuned against base."""
    prompts = [plain_text(c.prompt) for c in comparisons]
    sides = [
        [Text(p, answer[-1], c.ended[side]) for p, c, answer in zip(prompts, comparisons, answers, strict=True)]
        for side, answers in enumerate(([c.base for c in comparisons], [c.tuned for c in comparisons]))
    ]
    return compare_texts(sides[0], sides[1], [c.question.cluster or c.question.key for c in comparisons])


def people_on(file: VerdictFile, models: Models) -> list[Judged]:
    """People's verdicts as ones on these models, turned round where the file has them the other way.

    Raises:
        ConfigError: the file judges other models.
    """
    if file.models == models[::-1] != models:
        return [replace(j, win=1 - j.win, lengths=j.lengths and j.lengths[::-1]) for j in file.counted]
    if file.models == models or set(file.models) <= UNNAMED:
        return file.counted
    raise ConfigError(f"{file.source}: people judged {file.models[1]} against {file.models[0]}, not {models[1]} against {models[0]}")


def agree(file: VerdictFile, people: Sequence[Judged], comparisons: Sequence[Comparison]) -> Agreement | None:
    """How far a judge and people say the same on the comparisons that both judged; None where there are none."""
    names = {name: item_of(c) for c in comparisons for name in reversed(items_of(c))}
    known = [replace(j, item=names.get(j.item, j.item)) for j in people]
    judge, human, clusters, _ = match(file.counted, known)
    return agreement(judge, human, clusters) if judge else None


def mean_ratings(rows: Sequence[Mapping[str, Any]], models: Models) -> dict[str, dict[str, Any]]:
    """Mean scores with intervals from verdict rows that have them: model -> (``all``, each category, each turn) -> interval."""
    scored = [r for r in rows if r.get("scores")]
    out: dict[str, dict[str, Any]] = {}
    names = models if models[0] != models[1] else ("base", "tuned")
    for side, model in enumerate(names) if scored else ():
        parts: dict[str, list[Mapping[str, Any]]] = {"all": scored}
        for of in (lambda r: r.get("category"), lambda r: f"turn {r['turn']}" if "turn" in r else None):
            for row in scored:
                if of(row):
                    parts.setdefault(str(of(row)), []).append(row)
        out[model] = {
            name: asdict(mean_interval([r["scores"][side] for r in part], [str(r["cluster"]) for r in part]))
            for name, part in parts.items()
        }
    return out
