"""Two models' answers before a judge: votes to files, and what the answers themselves tell. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from prefine.errors import ConfigError, DataError
from prefine.evaluation.agreement import Agreement, agreement
from prefine.evaluation.answers import AnswerFile
from prefine.evaluation.count import Count, count
from prefine.evaluation.degeneration import Finding, Text, compare_texts
from prefine.evaluation.interval import mean_interval
from prefine.evaluation.judge import ByScore, Comparison, Judge, Vote, compare, item_of, items_of, verdict_row
from prefine.evaluation.ppi import LEAST_PROMPTS, Powered, power
from prefine.evaluation.sequence import Looked, until_decided
from prefine.evaluation.verdict import THRESHOLDS, Skill, Suspect, Thresholds
from prefine.evaluation.verdict_files import Judged, VerdictFile, match, verdicts_of
from prefine.preferences.records import plain_text
from prefine.runs import read_jsonl, write_json, write_jsonl

Models = tuple[str, str]
UNNAMED = {"base", "baseline", "model", "tuned"}
"""What a file of verdicts calls its models where it names none."""


@dataclass(frozen=True)
class Until:
    """Judging that stops as soon as it is decided.

    Attributes:
        thresholds: what decides.
        most_calls: verdicts that may be asked for; None: as many as there are.
        at_once: prompts that are judged between two looks.
        seed: of the order of prompts.
    """

    thresholds: Thresholds
    most_calls: int | None = None
    at_once: int = 8
    seed: int = 0


@dataclass
class JudgedVerdicts:
    """Comparisons before a judge.

    Attributes:
        file: the verdicts; looked: how judging until decided went, None where all was judged.
    """

    file: VerdictFile
    looked: Looked | None = None


def judge_comparisons(
    comparisons: Sequence[Comparison],
    judge: Judge,
    models: Models,
    folder: Path,
    progress: Callable[[int], None] = lambda done: None,
    until: Until | None = None,
) -> JudgedVerdicts:
    """Judge all comparisons, or as many as decide it; write ``generations.jsonl`` and ``verdicts.jsonl`` into the folder.

    Raises:
        DataError: nothing to compare, or not one verdict, with the judge's reasons.
    """
    if not comparisons:
        raise DataError("the two have no answered question in common: nothing to compare")
    votes: list[list[Vote]] = [[] for _ in comparisons]
    looked = _until_decided(comparisons, judge, votes, progress, until) if until else None
    if looked is None:
        for place, vote in _votes(judge, comparisons):
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
        raise DataError(f"judge {judge.name} gave no verdict at all: {failure_reasons(rows)}")
    return JudgedVerdicts(verdicts_of(enumerate(rows, 1), str(folder / "verdicts.jsonl")), looked)


UNANSWERED = "both responses were cut within their reasoning; allow more tokens (--max-new-tokens)"


def _votes(judge: Judge, comparisons: Sequence[Comparison]) -> Iterator[tuple[int, Vote]]:
    """A judge's votes; where neither side came to answer, a failure, which nobody is asked about."""
    open_ended = getattr(getattr(judge, "scorer", None), "reads_reasoning", False)
    asked = [place for place, c in enumerate(comparisons) if open_ended or not c.is_unanswered]
    for place in sorted({*range(len(comparisons))} - {*asked}):
        yield place, Vote(None, failure=UNANSWERED)
    for at, vote in judge.judge([comparisons[place] for place in asked]) if asked else ():
        yield asked[at], vote


def _until_decided(
    comparisons: Sequence[Comparison], judge: Judge, votes: list[list[Vote]], progress: Callable[[int], None], until: Until
) -> Looked:
    clusters: dict[str, list[int]] = {}
    for place, c in enumerate(comparisons):
        clusters.setdefault(c.question.cluster or c.question.key, []).append(place)
    members = list(clusters.values())
    calls = [0]

    def verdicts_of_clusters(picked: Sequence[int]) -> Iterator[float | None]:
        places = [p for i in picked for p in members[i]]
        for at, vote in _votes(judge, [comparisons[p] for p in places]):
            votes[places[at]].append(vote)
            calls[0] += vote.asked
            progress(1)
        for i in picked:
            # A comparison that lacks one of its orders counts for nothing, as when all are judged.
            whole = [v.win for p in members[i] if all(v.win is not None for v in votes[p]) for v in votes[p]]
            yield sum(w for w in whole if w is not None) / len(whole) if whole else None

    order = np.random.default_rng(until.seed).permutation(len(members)).tolist()
    each = (1 if isinstance(judge, ByScore) or not hasattr(judge, "asks") else 2) * max(map(len, members))
    most = until.most_calls
    room = None if most is None else (lambda: (most - calls[0]) // each)
    return until_decided(order, verdicts_of_clusters, until.thresholds, until.at_once, room)


def judge_files(
    base: AnswerFile,
    tuned: AnswerFile,
    judge: Judge,
    models: Models,
    folder: Path,
    people: VerdictFile | None = None,
    thresholds: Thresholds = THRESHOLDS,
    progress: Callable[[int], None] = lambda done: None,
    until: Until | None = None,
    qualified: Mapping[str, Any] | None = None,
) -> tuple[Count, dict[str, Any]]:
    """Judge two files of answers into a folder; the count, and what ``summary.json`` holds."""
    comparisons, unmatched = compare(base, tuned)
    told = human_verdicts(people, models) if people else []
    held = judge_comparisons(comparisons, judge, models, folder, progress, until)
    findings = findings_of(comparisons)
    suspects = [f.suspect for f in findings]
    found, head = count_judged(held, told, comparisons, (), suspects, thresholds)
    rows = list(read_jsonl(folder / "verdicts.jsonl"))
    summary = head | {
        "judge": judge.name,
        "qualified": qualified,
        "degeneration": [f.summary() for f in findings],
        "ratings": mean_ratings(rows, models),
        "failure_reasons": failure_reasons(rows),
        "unmatched": unmatched,
        "repeated": [base.repeated, tuned.repeated],
        "failed_answers": [*base.failures, *tuned.failures],
    }
    write_json(folder / "summary.json", summary)
    return found, summary


def count_judged(
    held: JudgedVerdicts,
    people: Sequence[Judged],
    comparisons: Sequence[Comparison],
    skills: Sequence[Skill],
    suspects: Sequence[Suspect],
    thresholds: Thresholds,
) -> tuple[Count, dict[str, Any]]:
    """Count a judge's verdicts; where judging could stop early by the interval that allows it, else with people's where there are enough.

    Args:
        people: their verdicts on some of the prompts, named as in their file.
    """
    file = held.file
    agreed = agree(file, people, comparisons) if people else None
    powered = with_people(file, people, comparisons) if people else None
    interval, what = None, None
    if held.looked is not None:
        interval = held.looked.interval
    elif powered is not None:
        interval = powered.combined
        helped = "by people, helped by the judge," if powered.weight > 0 else "by people, whom the judge does not help,"
        what = f"win rate of {file.models[1]} over {file.models[0]} {helped}"
    found = count(file, skills, suspects, thresholds, what, interval=interval)
    return found, found.summary() | {
        "agreement": asdict(agreed) if agreed else None,
        "with_people": asdict(powered) if powered else None,
        "too_few_people": agreed.same.count if agreed and powered is None and held.looked is None else None,
        "until_decided": held.looked.summary() if held.looked else None,
    }


def with_people(file: VerdictFile, people: Sequence[Judged], comparisons: Sequence[Comparison]) -> Powered | None:
    """People's verdicts on some prompts and the judge's on all, in one number; None where people judged too few."""
    known = by_comparison(people, comparisons)
    said: dict[str, list[float]] = {}
    for j in known:
        said.setdefault(j.item, []).extend([j.win] * j.weight)
    items: dict[str, list[float]] = {}
    for j in file.votes:
        items.setdefault(j.item, []).append(j.win)
    clusters: dict[str, list[str]] = {}
    for j in file.counted:
        if j.item not in clusters.setdefault(j.cluster, []):
            clusters[j.cluster].append(j.item)
    human: list[float] = []
    judged: list[float] = []
    others: list[float] = []
    for members in clusters.values():
        both = [i for i in members if i in said]
        if both:
            human.append(float(np.mean([np.mean(said[i]) for i in both])))
        (judged if both else others).append(float(np.mean([np.mean(items[i]) for i in both or members])))
    return power(human, judged, others) if len(human) >= LEAST_PROMPTS else None


def failure_reasons(rows: Sequence[Mapping[str, Any]]) -> str:
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
    if c.reasoning != (None, None):
        row["reasoning"] = list(c.reasoning)
    return row | ({"turn": c.turn} if c.question.later_turns else {})


def findings_of(comparisons: Sequence[Comparison]) -> list[Finding]:
    """Signs of degeneration, tuned against base."""
    prompts = [plain_text(c.prompt) for c in comparisons]
    thinks = any(c.reasoning != (None, None) for c in comparisons)
    sides = [
        [
            Text(p, answer[-1], c.ended[side], reasoning=c.reasoning[side] or "" if thinks else None)
            for p, c, answer in zip(prompts, comparisons, answers, strict=True)
        ]
        for side, answers in enumerate(([c.base for c in comparisons], [c.tuned for c in comparisons]))
    ]
    return compare_texts(sides[0], sides[1], [c.question.cluster or c.question.key for c in comparisons])


def human_verdicts(file: VerdictFile, models: Models) -> list[Judged]:
    """People's verdicts as ones on these models, turned round where the file has them the other way.

    Raises:
        ConfigError: the file judges other models.
    """
    if file.models == models[::-1] != models:
        return [replace(j, win=1 - j.win, lengths=j.lengths and j.lengths[::-1]) for j in file.counted]
    if file.models == models or set(file.models) <= UNNAMED:
        return file.counted
    raise ConfigError(f"{file.source}: people judged {file.models[1]} against {file.models[0]}, not {models[1]} against {models[0]}")


def by_comparison(people: Sequence[Judged], comparisons: Sequence[Comparison]) -> list[Judged]:
    """People's verdicts by the names that the comparisons go by in ours."""
    names = {name: item_of(c) for c in comparisons for name in reversed(items_of(c))}
    return [replace(j, item=names.get(j.item, j.item)) for j in people]


def agree(file: VerdictFile, people: Sequence[Judged], comparisons: Sequence[Comparison]) -> Agreement | None:
    """How far a judge and people say the same on the comparisons that both judged; None where there are none."""
    judge, human, clusters, _ = match(file.counted, by_comparison(people, comparisons))
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
            if len({str(r["cluster"]) for r in part}) > 1
        }
    return out
