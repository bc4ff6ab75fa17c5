"""What is drawn, against the plain way in float64: a whole sort, a whole cumulative sum."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from prefine.errors import ModelError
from prefine.generation.drawing import SeededSampling
from prefine.generation.engine import Sampling

ROWS = 400


def plain(scores: np.ndarray, seen: list[int], uniform: float, sampling: Sampling) -> tuple[int, float, float]:
    """The token, its log-prob by the model, and how far the number lies from the token's nearer edge."""
    own = np.exp((scores - scores.max()) / sampling.temperature)
    penalised = scores.copy()
    for token in set(seen):
        held = penalised[token]
        penalised[token] = held * sampling.repetition_penalty if held < 0 else held / sampling.repetition_penalty
    probs = np.exp((penalised - penalised.max()) / sampling.temperature)
    if sampling.top_k:
        probs[probs < np.sort(probs)[-min(sampling.top_k, len(probs))]] = 0
    probs[probs < sampling.min_p * probs.max()] = 0
    order = np.argsort(-probs)
    before = np.cumsum(probs[order]) - probs[order]
    probs[order[before >= sampling.top_p * probs.sum()]] = 0
    reached = np.cumsum(probs / probs.sum())
    drawn = int(np.searchsorted(reached, uniform * reached[-1], side="right"))
    edge = min(abs(reached[drawn] - uniform), abs(uniform - (reached[drawn - 1] if drawn else 0.0)))
    return drawn, float(np.log(own[drawn] / own.sum())), edge


@pytest.mark.parametrize("spread", [0.1, 2.0, 8.0])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(2, 1.0),
        Sampling(2, 0.3),
        Sampling(2, 1.0, top_p=0.9),
        Sampling(2, 1.5, top_k=50),
        Sampling(2, 1.0, min_p=0.02),
        Sampling(2, 0.8, top_p=0.95, top_k=2000, min_p=1e-4, repetition_penalty=1.3),
    ],
    ids=str,
)
def test_draws_are_those_of_a_whole_sort_and_sum(sampling: Sampling, spread: float) -> None:
    """A vocabulary of 3,001 words: no whole number of blocks, and flat ones have nuclei of more words than are looked at first."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(ROWS, 3001)).astype(np.float32) * spread
    ids = torch.from_numpy(rng.integers(0, 3001, (ROWS, 6)))
    ids[:, :2] = 7  # padding: two tokens of the prompt's five stand before it
    draw = SeededSampling(range(ROWS), sampling, 5, torch.full((ROWS,), 3))
    drawn = draw(ids, torch.from_numpy(scores.copy())).tokens.tolist()
    differ = 0
    for row, token in enumerate(drawn):
        uniform = np.random.Generator(np.random.Philox(row)).random(2)[1]
        wanted, logp, edge = plain(scores[row].astype(np.float64), ids[row, 2:].tolist(), uniform, sampling)
        if token == wanted:
            assert float(draw.logps[row, 1]) == pytest.approx(logp, abs=1e-5)
        else:
            differ += 1
            assert edge < 1e-6
    assert differ <= 2


def test_the_last_token_and_tokens_without_weight() -> None:
    """Whatever number is drawn, a token of weight zero is not: also where whole blocks are empty."""
    scores = torch.full((ROWS, 1000), -torch.inf)
    scores[:, 300], scores[:, 999] = 0.0, 0.0
    draw = SeededSampling(range(ROWS), Sampling(1, 1.0), 1, torch.ones(ROWS, dtype=torch.long))
    draw.uniform[0], draw.uniform[1], draw.uniform[2] = 0.0, 1 - 2**-53, 0.5
    drawn = draw(torch.zeros(ROWS, 1, dtype=torch.long), scores).tokens
    assert set(drawn.tolist()) == {300, 999}
    assert drawn[:3].tolist() == [300, 999, 999]


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_are_said(broken: float) -> None:
    scores = torch.zeros(2, 10)
    scores[1, 3] = broken
    with pytest.raises(ModelError, match="not numbers"):
        SeededSampling(range(2), Sampling(1, 1.0), 1, torch.tensor([1, 1]))(torch.zeros(2, 1, dtype=torch.long), scores)
