"""How far the tuned model moved from its base: log-ratios on its own answers, on held-out pairs and on plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefine.errors import DataError, MissingFile
from prefine.evaluation.interval import Interval, bootstrap, cluster_sums, mean_interval
from prefine.packing.budget import TokenBudget
from prefine.packing.group import PromptGroup, as_ids
from prefine.scoring.reference import Reference
from prefine.scoring.scorer import Scorer

Floats = NDArray[np.float64]


def completion_logps(policy: Scorer, reference: Reference, groups: Sequence[PromptGroup], budget: TokenBudget) -> tuple[Floats, Floats]:
    """Log-probs of all completions, end to end, by the tuned model and by its base, shapes (completions,), nats."""
    was_training = policy.unwrapped.training
    policy.unwrapped.eval()
    tuned, base = [], []
    for part in budget.split(groups, policy.shares):
        tuned += policy.completion_logps(part).tolist()
        with reference.active():
            base += reference.scorer.completion_logps(part).tolist()
    policy.unwrapped.train(was_training)
    return np.array(tuned), np.array(base)


def implicit_wins(tuned: Floats, base: Floats) -> list[float]:
    """Judge held-out pairs by DPO's own reward: 1 where the margin of chosen over rejected grew, 0.5 where it stayed, else 0.

    Needs no generation. It measures whether preferences generalise, not whether answers got better.

    Args:
        tuned, base: log-probs of chosen, rejected, chosen, ... as :func:`completion_logps` gives, shapes (2 pairs,).
    """
    gains = (tuned - base).reshape(-1, 2)
    margins = gains[:, 0] - gains[:, 1]
    return [0.5 if m == 0 else float(m > 0) for m in margins]


@dataclass(frozen=True)
class Drift:
    """KL(tuned || base) by the tuned model's own answers: the mean log-ratio, k1 of joschu.net/blog/kl-approx.html, nats.

    Attributes:
        per_token: over all answered tokens; per_answer: over answers.
    """

    per_token: Interval
    per_answer: Interval


def kl_to_base(log_ratios: Floats, num_tokens: Floats, clusters: Sequence[str]) -> Drift:
    """From each answer's summed log-ratio and its tokens, shapes (answers,)."""
    sums, _ = cluster_sums(log_ratios, clusters)
    tokens, _ = cluster_sums(num_tokens, clusters)
    low, high = bootstrap(lambda picks: sums[picks].sum(1) / tokens[picks].sum(1), len(sums))
    per_token = Interval(float(sums.sum() / tokens.sum()), low, high, len(log_ratios), len(sums))
    return Drift(per_token, mean_interval(log_ratios, clusters))


@dataclass(frozen=True)
class Perplexity:
    """Perplexity of a text before and after; ``change`` is that of the log, nats a token, paired window by window."""

    source: str
    before: float
    after: float
    change: Interval


WINDOW_TOKENS = 512


def text_windows(path: str, tokenizer: Any, window_tokens: int = WINDOW_TOKENS) -> list[PromptGroup]:
    """A text file in windows whose first token is the prompt.

    Raises:
        MissingFile, DataError: not there, not text, or too short.
    """
    if not Path(path).is_file():
        raise MissingFile(f"{path}: no such file")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    ids = tokenizer(text, add_special_tokens=True, verbose=False)["input_ids"]
    parts = [ids[i : i + window_tokens] for i in range(0, len(ids), window_tokens)]
    out = [PromptGroup(as_ids(p[:1]), (as_ids(p[1:]),), i) for i, p in enumerate(parts, 1) if len(p) > 1]
    if len(out) < 2:
        raise DataError(f"{path}: {len(ids)} tokens; a perplexity with an interval needs at least {window_tokens + 2}")
    return out


def perplexity(source: str, windows: Sequence[PromptGroup], policy: Scorer, reference: Reference, budget: TokenBudget) -> Perplexity:
    """Perplexity of base and tuned on the same windows."""
    tuned, base = completion_logps(policy, reference, windows, budget)
    tokens = np.array([float(g.num_completion_tokens) for g in windows])
    change = base - tuned
    low, high = bootstrap(lambda picks: change[picks].sum(1) / tokens[picks].sum(1), len(change))
    total = tokens.sum()
    interval = Interval(float(change.sum() / total), low, high, len(windows), len(windows))
    return Perplexity(source, float(np.exp(-base.sum() / total)), float(np.exp(-tuned.sum() / total)), interval)
