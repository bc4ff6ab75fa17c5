"""Evaluations of a run as they lie on disk: summaries, responses with their verdicts, held-out pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefine.runs import HELD_OUT_PAIRS, RunDirectory, read_json, read_jsonl

Summary = Mapping[str, Any]
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """One comparison: its responses, how far the tuned one wins on average, and what was said.

    Attributes:
        scores: mean scores of base and tuned, where the judge scores them.
    """

    row: Row
    win: float | None
    confidence: float
    raw: tuple[str, ...]
    scores: tuple[float, float] | None = None

    @property
    def verdict(self) -> str:
        """``tuned``, ``base``, ``tie`` or ``none``."""
        if self.win is None:
            return "none"
        return "tie" if self.win == 0.5 else "tuned" if self.win > 0.5 else "base"


@dataclass
class EvaluationFiles:
    """One evaluation of a run; ``pairs`` are rows of :data:`~prefine.runs.HELD_OUT_PAIRS`."""

    name: str
    summary: Summary
    responses: list[Shown] = field(default_factory=list)
    pairs: Sequence[Row] = ()

    @property
    def models(self) -> tuple[str, str]:
        """Names of base and tuned."""
        base, tuned = self.summary.get("models") or ("base", "tuned")
        return str(base), str(tuned)

    @property
    def judged(self) -> bool:
        """Whether a judge compared responses."""
        return bool(self.summary.get("win_rate"))

    @property
    def by(self) -> str:
        """Who judged, in words."""
        if self.summary.get("trained_on"):
            return "the reward that was trained on"
        judge = self.summary.get("judge")
        # The laboratory's exact judge, as older runs call it.
        return "oracle judge" if judge == "gold" else f"judge {judge}" if judge else "no judge"

    @property
    def label(self) -> str:
        """The name that was chosen for it, and who judged where the name does not say so."""
        return self.by if self.by in (self.name, f"judge {self.name}") else f"{self.name}, {self.by}"


def join(generations: Sequence[Row], verdicts: Sequence[Row]) -> list[Shown]:
    """Responses with their verdicts, most confident first: by how far votes agree, then by the gap of scores."""
    votes: dict[tuple[str, Any], list[Row]] = {}
    for v in verdicts:
        votes.setdefault((str(v.get("key")), v.get("turn")), []).append(v)
    out = []
    for row in generations:
        given = votes.get((str(row.get("key")), row.get("turn")), [])
        wins = [float(v["tuned_wins"]) for v in given if v.get("tuned_wins") is not None]
        win = sum(wins) / len(wins) if wins else None
        scored = [v["scores"] for v in given if v.get("scores")]
        scores = (float(scored[0][0]), float(scored[0][1])) if scored else None
        gap = abs(scores[1] - scores[0]) if scores else 0.0
        confidence = -1.0 if win is None else abs(win - 0.5) * 2 + gap / (1 + gap)
        raw = tuple(str(r) for v in given for r in v.get("raw", ())) + tuple(str(v["failure"]) for v in given if v.get("failure"))
        out.append(Shown(row, win, confidence, raw, scores))
    return sorted(out, key=lambda s: -s.confidence)


def evaluation_of(folder: Path) -> EvaluationFiles | None:
    """One evaluation's folder; None where it was not finished."""
    path = folder / "summary.json"
    summary = read_json(path) if path.exists() else {}
    if "sentence" not in summary:
        return None
    generations, verdicts, pairs = (_rows(folder / name) for name in ("generations.jsonl", "verdicts.jsonl", HELD_OUT_PAIRS))
    return EvaluationFiles(folder.resolve().name, summary, join(generations, verdicts), pairs)


def _rows(path: Path) -> list[dict[str, Any]]:
    return list(read_jsonl(path)) if path.exists() else []


def evaluations(folder: Path) -> list[EvaluationFiles]:
    """Evaluations under ``eval/``, the headline first: a judge's before one without, the newest before older."""
    newest = sorted(folder.glob("*/summary.json"), key=lambda p: -p.stat().st_mtime)
    found = [e for path in newest if (e := evaluation_of(path.parent)) is not None]
    return sorted(found, key=lambda e: e.summary.get("win_rate") is None)


def reward_quality_of(run: RunDirectory) -> dict[str, Any] | None:
    """A reward model's quality on held-out pairs, as its run measured it; None where it did not."""
    path = run.path / "eval" / "reward" / "summary.json"
    found = read_json(path).get("reward_model") if path.exists() else None
    return dict(found) if found else None


def pair_margins(e: EvaluationFiles) -> tuple[list[float], list[float]]:
    """Log-prob of chosen less that of rejected on held-out pairs, nats, before training and after."""
    before, after = (
        [float(p["chosen"][side]) - float(p["rejected"][side]) for p in e.pairs if p.get("chosen") and p.get("rejected")] for side in (0, 1)
    )
    return before, after
