"""How far the answers lie from what the model would say; the one part of the audit that runs the model."""

from __future__ import annotations

import itertools

import numpy as np

from prefine.audit.check import Finding
from prefine.audit.shortcuts import Accuracy
from prefine.packing.budget import TokenBudget
from prefine.packing.encoding import Encoder
from prefine.packing.learned_tokens import memory_key
from prefine.preferences.convert import PairSource

SCORED_PAIRS = 256
FAR_NATS = 3.0
"""A chosen answer whose mean log-prob a token lies this far below the median is far off-policy."""


def off_policy(model: str, pairs: PairSource, max_length: int | None) -> Finding:
    """Score the first pairs under a model."""
    from prefine.scoring.loading import load_model, load_tokenizer
    from prefine.scoring.proof import prove_layout
    from prefine.scoring.scorer import Scorer

    encoder = Encoder(load_tokenizer(model), max_length)
    groups = list(itertools.islice(encoder.encode_pairs(pairs), SCORED_PAIRS))
    loaded = load_model(model).eval()
    scorer = Scorer(loaded, prove_layout(loaded, max_length).layout)
    budget = TokenBudget.of("auto", "cpu", key=memory_key(loaded, "score"))
    scored = budget.each(groups, scorer.shares, scorer.completion_logps)
    sums = np.concatenate([logps.cpu().numpy().reshape(-1, 2) for _, logps in scored])
    lengths = np.array([[len(c) for c in g.completion_ids] for g in groups])
    means = sums / lengths
    right = Accuracy(float((sums[:, 0] > sums[:, 1]).sum()), len(sums))
    far = [g.index for g, mean in zip(groups, means[:, 0], strict=True) if mean < np.median(means[:, 0]) - FAR_NATS]
    detail = (
        f"of {len(sums)} pairs the model ranks {right.text()} right already; mean log-prob a token: chosen {means[:, 0].mean():.2f}, "
        f"rejected {means[:, 1].mean():.2f}; {len(far)} chosen responses lie {FAR_NATS:g} nats below the median"
    )
    telling = right.interval()[0] > 0.9 or len(far) > 0.1 * len(sums)
    return Finding("off-policy", "look" if telling else "fine", len(far), len(sums), detail, tuple(far))
