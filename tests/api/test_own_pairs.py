"""Pairs of a model's own responses: what was cut is in none, unless it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

import prefine as pf

pytestmark = pytest.mark.filterwarnings("ignore")


def longer(prompt: str, response: str) -> float:
    return float(len(response))


@pytest.mark.parametrize("tokens", [1, 12])
def test_responses_that_were_cut_are_in_no_pair(tokens: int, lab_model: Path, tmp_path: Path) -> None:
    prompts = ["my kettle is loud", "my lamp is hot", "my mouse is slow"]
    asked = {"judge": longer, "max_new_tokens": tokens, "num_samples": 6, "pairing": "all", "seed": 3}
    made = pf.make_pairs(lab_model, prompts, tmp_path / "p.jsonl", **asked)
    with_cut = pf.make_pairs(lab_model, prompts, tmp_path / "kept.jsonl", keep_cut=True, **asked)
    assert made.count < with_cut.count
    assert any("--keep-cut" in line for line in made.lines)
    assert not any("--keep-cut" in line for line in with_cut.lines)
    if tokens == 1:
        assert made.count == 0
