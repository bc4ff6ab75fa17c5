"""How far the tuned model moved from its base: log-ratios on its own answers, on held-out pairs and on plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prefine.errors import DataError, MissingFile
from prefine.evaluation.interval import Interval, mean_interval, ratio_interval, ratio_p_value
from prefine.evaluation.verdict import Suspect
from prefine.packing.budget import TokenBudget
from prefine.packing.group import PromptGroup, as_ids
from prefine.scoring.reference import Reference
from prefine.scoring.scorer import Scorer
from prefine.scoring.token_logps import chunk_tokens, head_logps

Floats = NDArray[np.float64]


def completion_logps(policy: Scorer, reference: Reference, groups: Sequence[PromptGroup], budget: TokenBudget) -> tuple[Floats, Floats]:
    """Log-probs of all completions, end to end, by the tuned model and by its base, shapes (completions,), nats."""
    was_training = policy.unwrapped.training
    policy.unwrapped.eval()
    tuned, base = [], []

    def one(part: list[PromptGroup]) -> tuple[list[float], list[float]]:
        by_tuned = policy.completion_logps(part).tolist()
        with reference.active():
            return by_tuned, reference.scorer.completion_logps(part).tolist()

    for _, (by_tuned, by_base) in budget.each(groups, policy.shares, one):
        tuned += by_tuned
        base += by_base
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


@torch.no_grad()
def completion_kl(policy: Scorer, reference: Reference, groups: Sequence[PromptGroup], budget: TokenBudget) -> Floats:
    """KL(tuned || base) of the next-token distributions, summed over each completion's tokens, shape (completions,), nats.

    The sum over the vocabulary is taken, so that a token's part is never below 0 and has no heavy tail, which the log-ratio of the
    sampled tokens (k1 of joschu.net/blog/kl-approx.html, of the same mean) has.
    """
    was_training = policy.unwrapped.training
    policy.unwrapped.eval()

    def one(part: list[PromptGroup]) -> list[float]:
        pack = policy.pack(part)
        with policy.attending(pack):
            hidden = policy.hidden(pack)
        base_hidden = reference.hidden(pack) if reference.scorer.layout == policy.layout else None
        if base_hidden is None:
            with reference.active():
                own = reference.scorer.pack(part)
                with reference.scorer.attending(own):
                    base_hidden = reference.scorer.hidden(own)
        chunk = chunk_tokens(getattr(policy.head, "out_features", 2**17))
        pieces = []
        for tuned_CD, base_CD in zip(torch.split(hidden, chunk), torch.split(base_hidden, chunk), strict=True):
            logp_CV = head_logps(tuned_CD, policy.head, policy.scaling)
            with reference.active():
                base_CV = head_logps(base_CD, reference.scorer.head, reference.scorer.scaling)
            pieces.append((logp_CV.exp() * (logp_CV - base_CV)).sum(-1).clamp(min=0))
        sums: list[float] = pack.sum_by_completion(torch.cat(pieces)).tolist()
        return sums

    out = [kl for _, found in budget.each(groups, policy.shares, one) for kl in found]
    policy.unwrapped.train(was_training)
    return np.array(out)


@dataclass(frozen=True)
class Drift:
    """KL(tuned || base) along the tuned model's own answers, from :func:`completion_kl`, nats.

    Attributes:
        per_token: over all answered tokens; per_answer: over answers.
    """

    per_token: Interval
    per_answer: Interval


def kl_to_base(kl: Floats, num_tokens: Floats, clusters: Sequence[str]) -> Drift:
    """From each answer's summed KL and its tokens, shapes (answers,)."""
    return Drift(ratio_interval(kl, num_tokens, clusters), mean_interval(kl, clusters))


@dataclass(frozen=True)
class Perplexity:
    """Perplexity of a text before and after.

    Attributes:
        change: of the log, nats a token, over blocks of neighbouring windows, which are not independent of one another.
        worse: one-sided p-value that it rose.
    """

    source: str
    before: float
    after: float
    change: Interval
    worse: float

    @property
    def suspect(self) -> Suspect:
        """As the verdict weighs it: a rise of more than one per cent matters, where the interval that is shown leaves no fall in it.

        Of few blocks the interval, a bootstrap's, is wider than what Student's t makes of them.
        """
        matters = self.after > 1.01 * self.before and self.change.low > 0
        rose = f"perplexity of {self.source} rose from {self.before:.3g} to {self.after:.3g}"
        return Suspect(f"perplexity of {self.source}", rose, self.worse, matters)


WINDOW_TOKENS = 512
BLOCKS, LEAST_BLOCKS, BLOCK_WINDOWS = 10, 4, 20
"""A text is cut into runs of windows, which are what is counted as independent (batch means): so many, each of so many windows."""


def blocks_of(windows: int) -> list[int]:
    """Which run each window belongs to: ten runs, fewer where they would have fewer than twenty windows, four at least."""
    count = min(BLOCKS, max(LEAST_BLOCKS, windows // BLOCK_WINDOWS), max(2, windows // 2))
    return [i * count // windows for i in range(windows)]


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
        raise DataError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})", code="PF-D06") from error
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
    total = tokens.sum()
    blocks = blocks_of(len(windows))
    change, worse = ratio_interval(base - tuned, tokens, blocks), ratio_p_value(base - tuned, tokens, blocks)
    return Perplexity(source, float(np.exp(-base.sum() / total)), float(np.exp(-tuned.sum() / total)), change, worse)
