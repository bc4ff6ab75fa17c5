"""Stopping as soon as it is decided."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from prefine.cli import main
from prefine.evaluation.sequence import STAKES, ConfidenceSequence, until_decided
from prefine.evaluation.verdict import THRESHOLDS


def test_wealth_by_a_loop() -> None:
    values = [1.0, 0.5, 0.0, 1.0, 1.0, 0.75, 1.0, 1.0]
    sequence = ConfidenceSequence()
    for value in values:
        sequence.add(value)
    place = 300
    mean = float(sequence.means[place, 0])
    wealth = 0.0
    for stake in STAKES:
        up = down = 1.0
        for value in values:
            up *= 1 + stake / mean * (value - mean)
            down *= 1 - stake / (1 - mean) * (value - mean)
        wealth += (up + down) / 2 / len(STAKES)
    assert np.exp(sequence.wealth[:, place]).sum() / 2 / len(STAKES) == pytest.approx(wealth)
    with pytest.raises(ValueError, match="outside"):
        sequence.add(1.1)


def test_it_is_seldom_wrong_however_often_one_looks() -> None:
    rng = np.random.default_rng(0)
    false = 0
    for _ in range(150):
        sequence = ConfidenceSequence()
        for _ in range(150):
            sequence.add(float(rng.choice([0.0, 0.5, 1.0])))
            if sequence.decision(THRESHOLDS) in ("better", "worse"):
                false += 1
                break
    assert false / 150 <= 0.05 + 2 * (0.05 * 0.95 / 150) ** 0.5


def test_a_clear_difference_is_decided_early() -> None:
    rng = np.random.default_rng(0)
    wins = (rng.random(500) < 0.8).astype(float)
    asked: list[int] = []

    def judge(places: list[int]) -> list[float | None]:
        asked.extend(places)
        return [None if p % 10 == 0 else float(wins[p]) for p in places]

    looked = until_decided(list(range(500)), judge, THRESHOLDS, at_once=4)
    assert looked.decision == "better"
    assert len(asked) < 120
    assert looked.interval.clusters == sum(p % 10 != 0 for p in asked)
    assert looked.interval.low > 0.5
    assert "were not judged" in looked.words()
    none = until_decided(list(range(500)), lambda places: [0.5] * len(places), THRESHOLDS)
    assert none.decision == "short"  # between 45 and 55 %
    worse = until_decided(list(range(500)), lambda places: [float(p % 10 < 2) for p in places], THRESHOLDS, room=lambda: 500)
    assert worse.decision == "worse"  # below 55 % is no reason to stop before it is known to be below 50
    assert until_decided(list(range(500)), lambda places: [1.0] * len(places), THRESHOLDS, room=lambda: 0).interval.clusters == 0


def _answers(path: Path, model: str, texts: list[str]) -> str:
    rows = [{"key": str(i), "model": model, "prompt": f"question {i}", "answers": [t]} for i, t in enumerate(texts)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def test_the_command_stops_and_says_what_it_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "score.py").write_text("asked = []\ndef score(prompt, answer):\n    asked.append(prompt)\n    return len(answer)\n")
    files = [_answers(tmp_path / "a.jsonl", "a", ["x"] * 200), _answers(tmp_path / "b.jsonl", "b", ["xy"] * 200)]
    words = ["judge", *files, "--judge", "python", "--function", f"{tmp_path / 'score.py'}:score", "--output-dir", str(tmp_path / "o")]
    assert main([*words, "--until", "decided", "--require", "better"]) == 0
    told = capsys.readouterr().out
    assert "BETTER" in told
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    judged = summary["until_decided"]["interval"]["clusters"]
    assert judged < 60
    assert f"decided after {judged} of 200 prompts" in told
    assert len((tmp_path / "o" / "verdicts.jsonl").read_text().splitlines()) == judged
    assert main([*words, "--until", "decided", "--max-calls", "3"]) == 0
    assert "undecided after 3 of 200" in capsys.readouterr().out
    for bad in (["--max-calls", "3"], ["--until", "bored"], ["--until", "decided", "--human", files[0]]):
        assert main([*words, *bad]) == 2
