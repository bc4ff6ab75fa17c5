"""A run judged from every side: answers, verdicts, degeneration, drift, skills; into ``eval/NAME``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prefine.errors import DataError, MissingFile
from prefine.evaluation.answers import AnswerFile, answer_questions
from prefine.evaluation.conclusion import Conclusion, Responses, conclude, label_learning, learning, reward_learning
from prefine.evaluation.contest import (
    Until,
    count_judged,
    failure_reasons,
    findings_of,
    generation_row,
    human_verdicts,
    judge_comparisons,
    mean_ratings,
)
from prefine.evaluation.count import Count
from prefine.evaluation.degeneration import Finding
from prefine.evaluation.drift import (
    WINDOW_TOKENS,
    Drift,
    Floats,
    Perplexity,
    completion_kl,
    completion_logps,
    implicit_wins,
    kl_to_base,
    perplexity,
    text_windows,
)
from prefine.evaluation.interval import RATE, mean_interval
from prefine.evaluation.judge import Comparison, Judge, compare
from prefine.evaluation.model_pair import ModelPair
from prefine.evaluation.questions import Question
from prefine.evaluation.regression import check_tasks, evaluate_tasks, paired_skill, quiet
from prefine.evaluation.verdict import THRESHOLDS, Skill, Thresholds, Verdict, find_broken
from prefine.evaluation.verdict_files import VerdictFile
from prefine.generation.engine import Sampling
from prefine.packing.group import WANTED, LabelledGroup, PromptGroup
from prefine.packing.store import prompt_key
from prefine.runs import HELD_OUT_LABELS, HELD_OUT_PAIRS, read_jsonl, write_json, write_jsonl
from prefine.scoring.limits import Limits, check_groups
from prefine.scoring.reference import groups_fingerprint
from prefine.scoring.scorer import Scorer

Progress = Callable[[str, int, int], None]
"""Called with a stage, how much more of it is done, and how much there is in all."""


@dataclass(frozen=True)
class Extras:
    """What else is looked at beside answers.

    Attributes:
        pairs: held-out pairs, or labelled responses, for DPO's own reward and for log-probs before and after.
        texts: files whose perplexity is compared.
        tasks, include_path, limit: of lm-eval.
        beta: of the loss that trained the run.
        skills: those measured elsewhere.
        people: verdicts that people gave on the same questions, to hold the judge against.
    """

    pairs: Sequence[PromptGroup] = ()
    texts: Sequence[str] = ()
    tasks: Sequence[str] = ()
    include_path: str | None = None
    limit: int | None = None
    beta: float = 0.1
    skills: Sequence[Skill] = ()
    people: VerdictFile | None = None


@dataclass
class Evaluation:
    """What an evaluation found; ``summary`` is what ``summary.json`` holds.

    Attributes:
        found: the judge's verdict; or, where no judge compared responses, what is known without one.
        count: behind the verdict; None without a judge.
    """

    found: Verdict | Conclusion
    count: Count | None
    comparisons: list[Comparison] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)


def answer_both(
    sides: ModelPair, questions: Sequence[Question], sampling: Sampling, seed: int, folder: Path, progress: Progress, batch_size: int = 128
) -> tuple[AnswerFile, AnswerFile, list[str]]:
    """Both sides' answers, kept in the folder so that a killed evaluation goes on; and what failed, in words."""
    total = 2 * sum(1 + len(q.later_turns) for q in questions)
    files, failed = [], []
    for tuned, name in enumerate(("base", "tuned")):
        model = sides.names[tuned]
        with sides.engine(bool(tuned), batch_size) as engine:
            path = folder / f"answers-{name}.jsonl"
            done = answer_questions(engine, questions, sampling, seed, path, model, lambda n: progress("responses", n, total))
        files.append(AnswerFile(str(path), model, done[0], list(done[1])))
        failed += [f"{name}: {reason}" for reason in done[1].values()]
    return files[0], files[1], failed


def evaluate(
    sides: ModelPair,
    questions: Sequence[Question],
    judge: Judge | None,
    folder: Path,
    sampling: Sampling,
    seed: int = 0,
    extras: Extras | None = None,
    thresholds: Thresholds = THRESHOLDS,
    progress: Progress = lambda stage, done, total: None,
    batch_size: int = 128,
    trained_on: bool = False,
    hint: str = "",
    until: Until | None = None,
    qualified: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Everything: a verdict where a judge compares responses, else what is known without one.

    Args:
        trained_on: the judge is the reward that the model was trained on: that it scores higher there is no verdict.
        until: judge no more than decides it; qualified: what is known of the judge.
        hint: how to have a judge compare the responses, for the sentence of a conclusion.

    Raises:
        DataError, MissingFile: no judge, no pairs and no questions, or nothing that could be compared.
    """
    extras = extras or Extras()
    if extras.tasks:
        with quiet():
            check_tasks(extras.tasks, extras.include_path)
    for path in extras.texts:
        if not Path(path).is_file():
            raise MissingFile(f"{path}: no such file")
    if judge is None and not extras.pairs and not questions:
        raise DataError("no judge, no held-out pairs and no prompts: nothing to evaluate; give --judge, --prompts, or pairs with --data")
    base, tuned, failed = answer_both(sides, questions, sampling, seed, folder, progress, batch_size)
    comparisons, _ = compare(base, tuned, lambda a: a.question.key)
    measured, texts = measure_skills(sides, extras, thresholds, progress)
    skills = [*extras.skills, *measured]
    findings = findings_of(comparisons) if comparisons else []
    suspects = [*(f.suspect for f in findings), *(p.suspect for p in texts)]
    broken, phrases = find_broken(skills, suspects)
    findings = [replace(f, broken=f.name in broken) for f in findings]
    logps = completion_logps(sides.policy, sides.reference, extras.pairs, sides.budget)
    drift = _drift(sides, tuned)
    held = None
    if judge is not None:
        held = judge_comparisons(comparisons, judge, sides.names, folder, lambda n: progress("verdicts", n, len(comparisons)), until)
    rows = list(read_jsonl(folder / "verdicts.jsonl")) if held else []
    counted, learned, labels = None, None, labels_of(extras.pairs)
    if extras.pairs:
        clusters = [f"{prompt_key(g):016x}" for g in extras.pairs]
        if labels is None:
            learned = learning(*logps, clusters, extras.beta, epsilon_of(sides.policy))
            write_jsonl(folder / HELD_OUT_PAIRS, pair_rows(extras.pairs, logps))
        else:
            learned = label_learning(*logps, labels, clusters, extras.beta, epsilon_of(sides.policy))
            write_jsonl(folder / HELD_OUT_LABELS, label_rows(extras.pairs, labels, logps))
    found: Verdict | Conclusion
    if held is not None and not trained_on:
        told = human_verdicts(extras.people, sides.names) if extras.people else []
        counted, head = count_judged(held, told, comparisons, skills, suspects, thresholds)
        found = counted.verdict
    else:
        if held is not None:
            learned = reward_learning(rows)
        elif extras.pairs and labels is None:
            write_jsonl(folder / "verdicts.jsonl", implicit_rows(sides.names, extras.pairs, logps))
        if comparisons:
            write_jsonl(folder / "generations.jsonl", map(generation_row, comparisons))
        others = [p for p in phrases if not any(p == f.suspect.phrase for f in findings)]
        found = conclude(learned, _responses(comparisons, drift, findings), hint, others)
        head = {"models": list(sides.names), "outcome": found.outcome, "sentence": found.sentence}
        head |= {
            "skills": [asdict(s) | {"state": s.state_among(broken)} for s in skills],
            "harms": phrases,
        }
    summary = head | {
        "judge": judge.name if judge else None,
        "trained_on": trained_on,
        "qualified": qualified,
        "learning": learned.summary() if learned else None,
        "repeat": {"sampling": vars(sampling), "seed": seed, "questions": len(questions)},
        "failed_answers": failed,
        "degeneration": [f.summary() for f in findings],
        "drift": asdict(drift) if drift else None,
        "held_out_pairs": pair_summary(extras.pairs, logps) if extras.pairs and labels is None else None,
        "held_out_labels": label_summary(extras.pairs, labels, logps) if labels is not None else None,
        "perplexity": [asdict(p) for p in texts],
        "ratings": mean_ratings(rows, sides.names),
        "failure_reasons": failure_reasons(rows),
    }
    write_json(folder / "summary.json", summary)
    return Evaluation(found, counted, comparisons, summary)


def _responses(comparisons: Sequence[Comparison], drift: Drift | None, findings: Sequence[Finding]) -> Responses | None:
    if not comparisons:
        return None
    same = sum(c.base == c.tuned and c.reasoning[0] == c.reasoning[1] for c in comparisons)
    return Responses(len(comparisons), same, drift.per_token if drift else None, tuple(findings))


def epsilon_of(scorer: Scorer) -> float:
    """The rounding of what computes a model's log-probs: that of its coarsest floating weights, or of autocast."""
    kinds = {p.dtype for p in scorer.unwrapped.parameters() if p.is_floating_point()}
    with scorer.autocast():
        kinds |= {torch.get_autocast_dtype(d) for d in ("cpu", "cuda") if torch.is_autocast_enabled(d)}
    return max((torch.finfo(kind).eps for kind in kinds if kind.itemsize > 1), default=torch.finfo(torch.float32).eps)


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
            "judge": "reward accuracy",
            "tuned_wins": win,
        }
        for g, win in zip(pairs, implicit_wins(tuned, base), strict=True)
    ]


def pair_rows(pairs: Sequence[PromptGroup], logps: tuple[Floats, Floats]) -> list[dict[str, Any]]:
    """Rows of :data:`~prefine.runs.HELD_OUT_PAIRS`: log-probs before and after, nats, of chosen and of rejected."""
    after, before = (side.reshape(-1, 2).tolist() for side in logps)
    return [
        {"row": g.index, "cluster": f"{prompt_key(g):016x}", "chosen": [b[0], a[0]], "rejected": [b[1], a[1]]}
        for g, b, a in zip(pairs, before, after, strict=True)
    ]


def pair_summary(pairs: Sequence[PromptGroup], logps: tuple[Floats, Floats]) -> dict[str, Any]:
    """Log-probs of held-out chosen and rejected before and after, nats an answer; how often chosen is the likelier."""
    tuned, base = (side.reshape(-1, 2) for side in logps)
    clusters = [f"{prompt_key(g):016x}" for g in pairs]
    out: dict[str, Any] = {"pairs": len(pairs)}
    for column, name in enumerate(("chosen", "rejected")):
        before, after = base[:, column], tuned[:, column]
        out[name] = {"before": float(before.mean()), "after": float(after.mean())}
        if len(set(clusters)) > 1:
            out[name]["change"] = asdict(mean_interval(after - before, clusters))
    for name, side in (("before", base), ("after", tuned)):
        out[f"chosen_likelier_{name}"] = float((side[:, 0] > side[:, 1]).mean())
    return out


def labels_of(groups: Sequence[PromptGroup]) -> list[bool] | None:
    """Of labelled responses whether each is wanted; None of pairs."""
    labels = [g.labels[0] == WANTED for g in groups if isinstance(g, LabelledGroup)]
    return labels or None


def label_rows(groups: Sequence[PromptGroup], labels: Sequence[bool], logps: tuple[Floats, Floats]) -> list[dict[str, Any]]:
    """Rows of :data:`~prefine.runs.HELD_OUT_LABELS`: each response's log-probs before and after, nats."""
    return [
        {"row": g.index, "cluster": f"{prompt_key(g):016x}", "wanted": wanted, "logps": [before, after]}
        for g, wanted, after, before in zip(groups, labels, *(side.tolist() for side in logps), strict=True)
    ]


def label_summary(groups: Sequence[PromptGroup], labels: Sequence[bool], logps: tuple[Floats, Floats]) -> dict[str, Any]:
    """Log-probs of held-out wanted and unwanted responses before and after, nats/response; the implicit reward's accuracy: how often a
    wanted response gained, and an unwanted one lost; what did not move counts half."""
    tuned, base = logps
    clusters = np.array([f"{prompt_key(g):016x}" for g in groups])
    right = np.where(tuned == base, 0.5, (tuned > base) == np.array(labels))
    out: dict[str, Any] = {"responses": len(groups), "accuracy": asdict(mean_interval(right, clusters.tolist(), bounds=RATE))}
    for name, which in (("wanted", np.array(labels)), ("unwanted", ~np.array(labels))):
        if not which.any():
            continue
        out[name] = {"count": int(which.sum()), "before": float(base[which].mean()), "after": float(tuned[which].mean())}
        if len(set(clusters[which])) > 1:
            out[name]["change"] = asdict(mean_interval((tuned - base)[which], clusters[which].tolist()))
    return out


def _drift(sides: ModelPair, tuned: AnswerFile) -> Drift | None:
    groups = sides.groups(tuned.answered)
    if len({prompt_key(g) for g in groups}) < 2:
        return None
    kl = completion_kl(sides.policy, sides.reference, groups, sides.budget)
    tokens = np.array([float(g.num_completion_tokens) for g in groups])
    return kl_to_base(kl, tokens, [str(prompt_key(g)) for g in groups])


def measure_skills(sides: ModelPair, extras: Extras, thresholds: Thresholds, progress: Progress) -> tuple[list[Skill], list[Perplexity]]:
    """lm-eval's tasks and texts, base against tuned."""
    total = 2 * bool(extras.tasks) + len(extras.texts)
    texts = []
    limits = Limits.of(sides.policy.unwrapped)
    for path in extras.texts:
        windows = text_windows(path, sides.tokenizer, min(WINDOW_TOKENS, limits.positions or WINDOW_TOKENS))
        check_groups(limits, windows, path)
        texts.append(perplexity(path, windows, sides.policy, sides.reference, sides.budget))
        progress("skills", 1, total)
    scores = []
    for tuned in (False, True) if extras.tasks else ():
        with sides.model(tuned) as model, quiet():
            scores.append(evaluate_tasks(model, sides.tokenizer, extras.tasks, extras.include_path, extras.limit))
        progress("skills", 1, total)
    skills = [paired_skill(name, scores[0][name], scores[1][name], thresholds.tolerance) for name in scores[0]] if scores else []
    return skills, texts
