"""People's verdicts and a judge's in one number; judges qualified on what people judged."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from prefine.cli import main
from prefine.evaluation.ppi import power


def test_the_estimate_by_its_formula() -> None:
    rng = np.random.default_rng(0)
    human = (rng.random(60) < 0.6).astype(float)
    judge = np.where(rng.random(60) < 0.8, human, 1 - human)
    others = (rng.random(300) < 0.55).astype(float)
    found = power(human.tolist(), judge.tolist(), others.tolist())
    # PPI++: lambda = cov(y, f) / ((1 + n / N) var(f)); lambda mean(f over the others) + mean(y - lambda f)
    everything = np.concatenate((judge, others))
    weight = np.cov(human, judge)[0, 1] / ((1 + 60 / 300) * everything.var(ddof=1))
    assert found.weight == pytest.approx(weight)
    assert found.combined.estimate == pytest.approx(weight * others.mean() + (human - weight * judge).mean())
    assert found.combined.high - found.combined.low < found.people.high - found.people.low
    assert found.worth > 0


def test_a_judge_that_knows_nothing_is_worth_nothing() -> None:
    rng = np.random.default_rng(1)
    human = (rng.random(80) < 0.6).astype(float)
    found = power(human.tolist(), (1 - human).tolist(), [0.5] * 100)  # says the opposite: no weight
    assert (found.weight, found.worth) == (0.0, 0.0)
    assert (found.combined.low, found.combined.high) == (found.people.low, found.people.high)
    with pytest.raises(ValueError, match="at least 20"):
        power([1.0] * 5, [1.0] * 5, [0.5])
    with pytest.raises(ValueError, match="but 1 of the judge"):
        power([1.0] * 20, [1.0], [0.5])


@pytest.mark.parametrize("accuracy", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("n", [30, 100])
def test_it_covers_and_is_as_narrow_as_theory_says(accuracy: float, n: int) -> None:
    rng = np.random.default_rng([n, int(100 * accuracy)])
    held, width, alone, total = 0, 0.0, 0.0, 10 * n
    for _ in range(200):
        human = (rng.random(total) < 0.5).astype(float)
        judge = np.where(rng.random(total) < accuracy, human, 1 - human)
        found = power(human[:n].tolist(), judge[:n].tolist(), judge[n:].tolist())
        held += found.combined.low <= 0.5 <= found.combined.high
        width += found.combined.high - found.combined.low
        alone += found.people.high - found.people.low
    assert held / 200 >= 0.94 - 2 * (0.94 * 0.06 / 200) ** 0.5
    correlation = 2 * accuracy - 1  # of two even coins that agree so often
    assert width / alone == pytest.approx((1 - correlation**2 * 0.9) ** 0.5, abs=0.06)
    assert width / alone <= 1.02


def _write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


@pytest.fixture
def answered(tmp_path: Path) -> tuple[str, str, str, str]:
    """Two files of responses, people's verdicts on 30 of 90 prompts, and a judge: longer is better."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 40, (90, 2))
    files = []
    for k, model in enumerate("ab"):
        rows = [{"key": str(i), "model": model, "prompt": f"q {i}", "answers": ["x" * int(n[k])]} for i, n in enumerate(lengths)]
        files.append(_write(tmp_path / f"{model}.jsonl", rows))
    wins = [float((n[1] > n[0]) ^ (i % 6 == 0)) for i, n in enumerate(lengths[:30])]
    said = [{"item": f"q {i}", "base": "a", "tuned": "b", "tuned_wins": win} for i, win in enumerate(wins)]
    (tmp_path / "score.py").write_text("def score(prompt, answer):\n    return len(answer)\n")
    return files[0], files[1], _write(tmp_path / "people.jsonl", said), f"{tmp_path / 'score.py'}:score"


def test_people_beside_a_judge(answered: tuple[str, str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, tuned, people, function = answered
    words = ["judge", base, tuned, "--judge", "python", "--function", function, "--human", people, "--output-dir", str(tmp_path / "o")]
    assert main(words) == 0
    told = capsys.readouterr().out
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    found = summary["with_people"]
    assert summary["win_rate"] == found["combined"]
    assert found["people"]["clusters"] == 30
    assert found["judge"]["clusters"] == 90
    assert "by people, helped by the judge" in told
    assert "people alone" in told
    assert "more prompts judged by people" in told
    numbers = tmp_path / "n.json"  # the same from verdicts that lie on disk
    assert main(["judge", "--verdicts", str(tmp_path / "o" / "verdicts.jsonl"), "--human", people, "--output", str(numbers)]) == 0
    assert json.loads(numbers.read_text())["files"][0]["win_rate"] == found["combined"]


def test_a_judge_is_qualified_and_quoted(answered: tuple[str, str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, tuned, people, function = answered
    words = ["judge", base, tuned, "--judge", "python", "--function", function]
    assert main([*words, "--qualify", "--human", people]) == 0
    told = capsys.readouterr().out
    assert "agrees with people on 83.3 %" in told  # every sixth was turned round
    assert "prefers the longer response in 100.0 %" in told
    assert main([*words, "--output-dir", str(tmp_path / "o")]) == 0
    assert "agrees with people on 83.3 %" in capsys.readouterr().out
    assert main([*words, "--qualify"]) == 2
    other = _write(tmp_path / "none.jsonl", [{"item": "unknown", "base": "a", "tuned": "b", "tuned_wins": 1.0}])
    assert main([*words, "--qualify", "--human", other]) == 2
    assert "none of these prompts" in capsys.readouterr().err
