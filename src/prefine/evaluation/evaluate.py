"""A finished run judged from every side: answers, verdicts, degeneration, drift, skills; into ``eval/NAME``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prefine.errors import DataError
from prefine.evaluation.answers import AnswerFile, answer_questions
from prefine.evaluation.contest import agree, findings_of, hold, mean_ratings, people_on, told_reasons
from prefine.evaluation.count import Count, count
from prefine.evaluation.drift import (
    Floats,
    Perplexity,
    completion_kl,
    completion_logps,
    implicit_wins,
    kl_to_base,
    perplexity,
    text_windows,
)
from prefine.evaluation.interval import mean_interval
from prefine.evaluation.judge import Comparison, Judge, compare
from prefine.evaluation.questions import Question
from prefine.evaluation.regression import check_tasks, evaluate_tasks, paired_skill, quiet
from prefine.evaluation.sides import Sides
from prefine.evaluation.verdict import THRESHOLDS, Skill, Thresholds
from prefine.evaluation.verdict_files import VerdictFile, verdicts_of
from prefine.generation.engine import Sampling
from prefine.packing.group import PromptGroup
from prefine.packing.store import prompt_key
from prefine.runs import read_jsonl, write_json, write_jsonl
from prefine.scoring.reference import groups_fingerprint

Progress = Callable[[str, int, int], None]
"""Called with a stage, how much more of it is done, and how much there is in all."""


IMPLICIT = "held-out pairs on which chosen gained on rejected"
"""What the rate is where no judge was asked: DPO's own reward."""


@dataclass(frozen=True)
class Extras:
    """What else is looked at beside answers.

    Attributes:
        pairs: held-out pairs, for DPO's own reward and for log-probs before and after.
        texts: files whose perplexity is compared.
        tasks, include_path, limit: of lm-eval.
        skills: those measured elsewhere.
        people: verdicts that people gave on the same questions, to hold the judge against.
    """

    pairs: Sequence[PromptGroup] = ()
    texts: Sequence[str] = ()
    tasks: Sequence[str] = ()
    include_path: str | None = None
    limit: int | None = None
    skills: Sequence[Skill] = ()
    people: VerdictFile | None = None


@dataclass
class Evaluation:
    """What an evaluation found; ``summary`` is what ``summary.json`` holds."""

    count: Count
    comparisons: list[Comparison] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)


def answer_both(
    sides: Sides, questions: Sequence[Question], sampling: Sampling, seed: int, folder: Path, progress: Progress, batch_size: int = 32
) -> tuple[AnswerFile, AnswerFile, list[str]]:
    """Both sides' answers, kept in the folder so that a killed evaluation goes on; and what failed, in words."""
    total = 2 * sum(1 + len(q.later_turns) for q in questions)
    files, failed = [], []
    for tuned, name in enumerate(("base", "tuned")):
        model = sides.names[tuned]
        with sides.engine(bool(tuned), batch_size) as engine:
            path = folder / f"answers-{name}.jsonl"
            done = answer_questions(engine, questions, sampling, seed, path, model, lambda n: progress("answers", n, total))
        files.append(AnswerFile(str(path), model, done[0], list(done[1])))
        failed += [f"{name}: {reason}" for reason in done[1].values()]
    return files[0], files[1], failed


def evaluate(
    sides: Sides,
    questions: Sequence[Question],
    judge: Judge | None,
    folder: Path,
    sampling: Sampling,
    seed: int = 0,
    extras: Extras | None = None,
    thresholds: Thresholds = THRESHOLDS,
    progress: Progress = lambda stage, done, total: None,
    batch_size: int = 32,
    what: str | None = None,
) -> Evaluation:
    """Everything; the verdict's win rate is the judge's, or DPO's own reward on the held-out pairs where there is none.

    Args:
        what: what the judge's win rate is called, where it is not of one model over the other.

    Raises:
        DataError: no judge and no pairs, or nothing that could be compared.
    """
    extras = extras or Extras()
    if extras.tasks:
        with quiet():
            check_tasks(extras.tasks, extras.include_path)
    if judge is None and not extras.pairs:
        raise DataError("no judge, and no held-out pairs for DPO's own reward: give --judge, or pairs with --data")
    base, tuned, failed = answer_both(sides, questions, sampling, seed, folder, progress, batch_size)
    comparisons, _ = compare(base, tuned, lambda a: a.question.key)
    findings = findings_of(comparisons) if comparisons else []
    measured, texts = measure_skills(sides, extras, thresholds, progress)
    skills = [*extras.skills, *measured]
    suspects = [f.suspect for f in findings] + [p.suspect for p in texts]
    logps = completion_logps(sides.policy, sides.reference, extras.pairs, sides.budget)
    verdicts = _verdicts(sides, judge, comparisons, extras.pairs, logps, folder, progress)
    agreed = agree(verdicts, people_on(extras.people, sides.names), comparisons) if extras.people else None
    found = count(verdicts, skills, suspects, thresholds, what if judge else IMPLICIT)
    rows = list(read_jsonl(folder / "verdicts.jsonl"))
    summary = found.summary() | {
        "judge": judge.name if judge else "implicit",
        "agreement": asdict(agreed) if agreed else None,
        "repeat": {"sampling": vars(sampling), "seed": seed, "questions": len(questions)},
        "failed_answers": failed,
        "degeneration": [f.summary() for f in findings],
        "drift": _drift(sides, tuned) if tuned.answered else None,
        "held_out_pairs": pair_summary(extras.pairs, logps) if extras.pairs else None,
        "perplexity": [asdict(p) for p in texts],
        "ratings": mean_ratings(rows, sides.names),
        "failure_reasons": told_reasons(rows),
    }
    write_json(folder / "summary.json", summary)
    return Evaluation(found, comparisons, summary)


def _verdicts(
    sides: Sides,
    judge: Judge | None,
    comparisons: list[Comparison],
    pairs: Sequence[PromptGroup],
    logps: tuple[Floats, Floats],
    folder: Path,
    progress: Progress,
) -> VerdictFile:
    if judge is not None:
        return hold(comparisons, judge, sides.names, folder, lambda n: progress("verdicts", n, len(comparisons)))
    rows = implicit_rows(sides.names, pairs, logps)
    write_jsonl(folder / "verdicts.jsonl", rows)
    return verdicts_of(enumerate(rows, 1), str(folder / "verdicts.jsonl"))


def implicit_rows(models: tuple[str, str], pairs: Sequence[PromptGroup], logps: tuple[Floats, Floats]) -> list[dict[str, Any]]:
    """Verdict rows of DPO's own reward on pairs, from :func:`~prefine.evaluation.drift.completion_logps`."""
    tuned, base = logps
    names = dict(zip(("base", "tuned"), models, strict=True))
    return [
        {
            "item": groups_fingerprint([g])[:16],
            "row": g.index,
            "cluster": f"{prompt_key(g):016x}",
            **names,
            "judge": "implicit",
            "tuned_wins": win,
        }
        for g, win in zip(pairs, implicit_wins(tuned, base), strict=True)
    ]


def pair_summary(pairs: Sequence[PromptGroup], logps: tuple[Floats, Floats]) -> dict[str, Any]:
    """Log-probs of held-out chosen and rejected before and after, nats an answer; how often chosen is the likelier."""
    tuned, base = (side.reshape(-1, 2) for side in logps)
    clusters = [f"{prompt_key(g):016x}" for g in pairs]
    out: dict[str, Any] = {"pairs": len(pairs)}
    for column, name in enumerate(("chosen", "rejected")):
        before, after = base[:, column], tuned[:, column]
        out[name] = {
            "before": float(before.mean()),
            "after": float(after.mean()),
            "change": asdict(mean_interval(after - before, clusters)),
        }
    for name, side in (("before", base), ("after", tuned)):
        out[f"chosen_likelier_{name}"] = float((side[:, 0] > side[:, 1]).mean())
    return out


def _drift(sides: Sides, tuned: AnswerFile) -> dict[str, Any] | None:
    groups = sides.groups(tuned.answered)
    if not groups:
        return None
    kl = completion_kl(sides.policy, sides.reference, groups, sides.budget)
    tokens = np.array([float(g.num_completion_tokens) for g in groups])
    return asdict(kl_to_base(kl, tokens, [str(prompt_key(g)) for g in groups]))


def measure_skills(sides: Sides, extras: Extras, thresholds: Thresholds, progress: Progress) -> tuple[list[Skill], list[Perplexity]]:
    """lm-eval's tasks and texts, base against tuned."""
    total = 2 * bool(extras.tasks) + len(extras.texts)
    texts = []
    for path in extras.texts:
        texts.append(perplexity(path, text_windows(path, sides.tokenizer), sides.policy, sides.reference, sides.budget))
        progress("skills", 1, total)
    scores = []
    for tuned in (False, True) if extras.tasks else ():
        with sides.model(tuned) as model, quiet():
            scores.append(evaluate_tasks(model, sides.tokenizer, extras.tasks, extras.include_path, extras.limit))
        progress("skills", 1, total)
    skills = [paired_skill(name, scores[0][name], scores[1][name], thresholds.allowed) for name in scores[0]] if scores else []
    return skills, texts
