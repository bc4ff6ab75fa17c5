"""Counting verdicts: AlpacaEval's numbers, intervals that cover, ratings, judges' bias."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefine.cli import main
from prefine.errors import DataError
from prefine.evaluation.bradley_terry import Game, ratings, strengths
from prefine.evaluation.count import count, judge_quality
from prefine.evaluation.interval import mean_interval, needed_prompts, paired_difference, sign_test, standard_error
from prefine.evaluation.length import fit_logistic, length_only_win_rate
from prefine.evaluation.verdict import decide
from prefine.evaluation.verdict_files import Judged, match, read_verdicts

PUBLISHED = {"alpaca-7b": 2.591, "alpaca-farm-ppo-human": 4.100}


@pytest.mark.parametrize("model", ["alpaca-7b", "alpaca-farm-ppo-human", "FuseChat-Llama-3.2-1B-Instruct"])
def test_alpaca_eval_files(shared_data: Path, model: str) -> None:
    path = shared_data / "alpaca_eval" / model / "annotations.json.gz"
    with gzip.open(path) as stream:
        raw = [row["preference"] for row in json.load(stream)]
    y = [p - 1 for p in raw]  # that project's formulas, written out
    mean = sum(y) / len(y)
    error = (sum((v - mean) ** 2 for v in y) / (len(y) - 1)) ** 0.5 / len(y) ** 0.5
    wins, draws = sum(v > 0.5 for v in y), sum(v == 0.5 for v in y)
    found = count(read_verdicts(str(path)))
    assert 100 * found.verdict.win_rate.estimate == pytest.approx(100 * mean, abs=1e-9)
    assert found.standard_error == pytest.approx(error, abs=1e-9)
    assert (found.wins, found.draws, found.losses) == (wins, draws, len(y) - wins - draws)
    assert found.discrete == pytest.approx((wins + draws / 2) / len(y), abs=1e-9)
    assert found.failures == 0
    if model in PUBLISHED:
        assert round(100 * found.verdict.win_rate.estimate, 3) == PUBLISHED[model]


def test_alpaca_eval_paired(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [shared_data / "alpaca_eval" / m / "annotations.json.gz" for m in PUBLISHED]
    first, second = (read_verdicts(str(p)) for p in paths)
    before, after, clusters, unmatched = match(first.judged, second.judged)
    change = paired_difference(after, before, clusters)
    assert unmatched == 0
    assert round(100 * change.estimate, 2) == 1.51
    assert round(100 * standard_error(np.array(after) - np.array(before)), 3) == 0.516
    # Rows in another order, some dropped: matched by instruction, not by place.
    with gzip.open(paths[1]) as stream:
        rows = json.load(stream)
    shuffled = tmp_path / "shuffled.json"
    shuffled.write_text(json.dumps(rows[::-1][:700]))
    fewer = read_verdicts(str(shuffled))
    a, b, _, unmatched = match(first.judged, fewer.judged)
    assert (len(a), unmatched) == (700, 105)
    known = dict(zip((j.item for j in second.judged), (j.win for j in second.judged), strict=True))
    assert b == [known[j.item] for j in first.judged if j.item in {x.item for x in fewer.judged}]
    out = tmp_path / "out" / "numbers.json"
    assert main(["judge", *map(str, paths), "--output", str(out), "--require", "better"]) == 1
    printed = capsys.readouterr().out
    assert "+1.51 points" in printed
    assert "WORSE" in printed
    assert json.loads(out.read_text())["ratings"][0]["model"] == "gpt4_1106_preview"


def _coverage(n: int, ties: float, sets: int, seed: int) -> float:
    """How often the interval holds the true rate, over sets with rates from 0.3 to 0.7."""
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(sets):
        rate = rng.uniform(0.3, 0.7)
        wins = (rng.random(n) < rate).astype(float)
        tied = rng.random(n) < ties
        wins[tied] = 0.5
        interval = mean_interval(wins, seed=int(rng.integers(2**31)))
        held += interval.low <= rate * (1 - ties) + 0.5 * ties <= interval.high
    return held / sets


@pytest.mark.parametrize("n", [50, 200])
@pytest.mark.parametrize("ties", [0.0, 0.4])
def test_intervals_cover(n: int, ties: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefine.evaluation.interval.RESAMPLES", 1000)
    assert 0.93 < _coverage(n, ties, 600, seed=n) < 0.97  # the full simulation is benchmarks/coverage.py


def test_false_alarms_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefine.evaluation.interval.RESAMPLES", 1000)
    rng = np.random.default_rng(0)
    alarms = sum(decide(mean_interval((rng.random(200) < 0.5).astype(float), seed=i)).outcome != "inconclusive" for i in range(400))
    assert alarms / 400 <= 0.07  # 5 %, and two standard errors


def test_clusters_widen() -> None:
    wins = [1.0, 1.0, 0.0, 0.0] * 25
    alone, together = mean_interval(wins), mean_interval(wins, [i // 2 for i in range(100)])
    assert together.high - together.low == pytest.approx((alone.high - alone.low) * 2**0.5, rel=0.1)
    assert (alone.clusters, together.clusters) == (100, 50)


def test_sign_test_and_sample_size() -> None:
    from scipy.stats import binomtest

    assert sign_test([1.0] * 15 + [0.0] * 5 + [0.5] * 9) == pytest.approx(binomtest(15, 20).pvalue)
    assert sign_test([0.5, 0.5]) == 1.0
    # 53 % against 50 %, no ties: (1.96 + 0.8416)^2 .2491 / .03^2 = 2173
    assert needed_prompts([1.0] * 53 + [0.0] * 47) == pytest.approx(2173, rel=0.02)
    assert needed_prompts([1.0, 0.0]) is None


def test_length_only_win_rate() -> None:
    rng = np.random.default_rng(1)
    base, tuned = rng.integers(50, 150, 6000), rng.integers(80, 180, 6000)
    x = np.tanh((tuned - base) / (tuned - base).std())
    wins = (rng.random(6000) < 1 / (1 + np.exp(-(0.4 + 1.5 * x)))).astype(float)
    assert wins.mean() > 0.68  # longer answers lift it
    assert length_only_win_rate(wins, tuned, base) == pytest.approx(1 / (1 + np.exp(-0.4)), abs=0.03)
    assert length_only_win_rate(wins, base, base) == pytest.approx(wins.mean(), abs=1e-6)
    from sklearn.linear_model import LogisticRegression

    design = np.column_stack((np.ones_like(x), x))
    other = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10, max_iter=500).fit(design, wins).coef_[0]
    assert fit_logistic(design, wins) == pytest.approx(other, abs=1e-4)


def test_bradley_terry() -> None:
    # Two models, 30 games, 20 won: odds 2 apart but for the tenth of a game that is added.
    log_odds = np.diff(strengths(np.array([[0, 10.0], [20.0, 0]])))[0]
    assert log_odds == pytest.approx(np.log(20.05 / 10.05), abs=1e-6)
    rng = np.random.default_rng(0)
    truth = {"a": 0.0, "b": 0.5, "c": 1.5}
    games = [
        Game(x, y, float(rng.random() < 1 / (1 + np.exp(truth[x] - truth[y]))), i)
        for i in range(900)
        for x, y in [list(truth)[j] for j in rng.choice(3, 2, replace=False)] and [tuple(rng.permutation(list(truth))[:2])]
    ]
    found = ratings(games, resamples=100)
    assert [r.model for r in found] == ["c", "b", "a"]
    scale = 400 / np.log(10)
    assert found[0].rating - found[2].rating == pytest.approx(1.5 * scale, rel=0.2)
    assert all(r.low < r.rating < r.high for r in found)
    always = ratings([Game("x", "y", 1.0, i) for i in range(50)], resamples=20)
    assert np.isfinite([r.rating for r in always]).all()


def test_judges_bias() -> None:
    judged = [Judged("p1", 0.0, "p1", (10, 20), "base first"), Judged("p1", 1.0, "p1", (10, 20), "model first")]  # first always wins
    judged += [Judged("p2", 1.0, "p2", (10, 20), "base first"), Judged("p2", 1.0, "p2", (10, 20), "model first")]
    quality = judge_quality(judged)
    assert quality.flips is not None
    assert quality.first_wins is not None
    assert quality.longer_wins is not None
    assert quality.flips.estimate == 0.5
    assert quality.first_wins.estimate == 0.75
    assert quality.longer_wins.estimate == 0.75
    assert judge_quality([Judged("p", 1.0, "p")]).first_wins is None


def _write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def test_other_forms_of_verdicts(tmp_path: Path) -> None:
    arena = [
        {"question_id": "q1", "model": "m", "judge": "j", "games": [{"score": "A>B"}, {"score": "A>>B"}]},  # base, then model
        {"question_id": "q2", "model": "m", "judge": "j", "games": [{"score": "A=B"}, {"score": None}]},
        {"question_id": "q3", "model": "m", "judge": "j", "games": [{"score": ""}, None]},
    ]
    found = read_verdicts(_write(tmp_path / "a.jsonl", arena))
    assert [(j.item, j.win) for j in found.judged] == [("q1", 0.0), ("q1", 1.0), ("q2", 0.5)]
    assert (found.failures, found.models) == ([3], ("baseline", "m"))
    bench = [{"question_id": 81, "turn": 2, "model_1": "x", "model_2": "y", "g1_winner": "model_2", "g2_winner": "tie"},
             {"question_id": 81, "turn": 1, "model_1": "x", "model_2": "y", "g1_winner": "error", "g2_winner": "error"}]  # fmt: skip
    found = read_verdicts(_write(tmp_path / "b.jsonl", bench))
    assert [(j.item, j.win, j.cluster) for j in found.judged] == [("81 turn 2", 1.0, "81"), ("81 turn 2", 0.5, "81")]
    assert found.failures == [2]
    found = read_verdicts(_write(tmp_path / "c.jsonl", [{"row": 1, "tuned_wins": 1.0}, {"row": 2, "tuned_wins": None}]))
    assert (len(found.judged), found.failures) == (1, [2])
    for rows, message in (
        ([{"x": 1}], "no verdicts of"),
        ([{"preference": None, "instruction": "q"}], "no row has a verdict"),
        ([arena[0], arena[0] | {"model": "n"}], "earlier rows"),
        ([arena[0] | {"games": ["x"]}], "not a readable verdict"),
    ):
        with pytest.raises(DataError, match=message):
            read_verdicts(_write(tmp_path / "d.jsonl", rows))


def _games(path: Path, key: str, games: list[Any]) -> str:
    return _write(path, [{"question_id": f"q{i}", "model": "m", key: g} for i, g in enumerate(games)])


def _scores(*scores: str) -> list[dict[str, str]]:
    return [{"score": s} for s in scores]


def test_arena_hards_weights_and_failed_games(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = [_scores("A>B", "A>>B"), _scores("A=B", "B<A"), _scores("B>>A", "A>B", "A>B")]  # the third game is not read
    broken = [[], None, _scores("A>B"), [{}, {"score": "B>>A"}]]
    path = _games(tmp_path / "a.jsonl", "games", [*whole, *broken])
    found = count(read_verdicts(path))
    # Votes: 0 and 1, 1, 1; a half and 1; 1, 1, 1 and 1: 8.5 of 10. Each once: 4.5 of 6.
    assert (found.verdict.win_rate.estimate, found.verdict.win_rate.count, found.verdict.win_rate.clusters) == (0.85, 6, 3)
    assert found.other is not None
    assert found.other.win_rate == 0.75
    assert (found.wins, found.losses, found.draws, found.failed_votes, found.left_out, found.failures) == (4, 1, 1, 6, 2, 2)
    assert main(["judge", "--verdicts", path, "--output", str(tmp_path / "out.json")]) == 0
    out = capsys.readouterr().out
    assert "6 of 14 verdicts failed, 2 more left out for want of their other order" in out
    assert "2 of 6 verdicts are >> and weigh three, as in Arena-Hard's show_result; weighed once 75.0 %; 1 games beyond" in out
    assert json.loads((tmp_path / "out.json").read_text())["files"][0]["other_count"]["win_rate"] == 0.75
    with pytest.raises(DataError, match="not a readable verdict"):  # nothing names its prompt
        read_verdicts(_write(tmp_path / "b.jsonl", [{"games": _scores("A>B", "A>B")}]))
    with pytest.raises(DataError, match="no prompt has a verdict in both orders"):
        read_verdicts(_games(tmp_path / "c.jsonl", "games", broken))


def test_fastchats_count_of_pairs_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    games = [("model_2", "model_2"), ("tie", "model_2"), ("model_1", "model_1"), ("model_2", "model_1"), ("error", "error"), ("model_2",)]
    rows = [{"question_id": 80 + i, "model_1": "x", "model_2": "y"} | {f"g{n}_winner": w for n, w in enumerate(pair, 1)}
            for i, pair in enumerate(games)]  # fmt: skip
    rows.append(rows[0] | {"question_id": 90, "m1_score": -1, "m2_score": 7})  # a rating that was not found is no defeat
    again = {"question_id": 84, "g1_winner": "model_2", "g2_winner": "model_2"}  # judged anew, after games that failed
    found = count(read_verdicts(_write(tmp_path / "b.jsonl", [*rows, rows[0] | again])))
    # Games: 2 of 2, 1.5, 0, 1 and 2 of 2: 6.5 of 10. Pairs: 2 wins, 1 loss, 2 ties: 3 of 5.
    assert found.verdict.win_rate.estimate == 0.65
    assert (found.failed_votes, found.left_out, found.failures) == (5, 1, 2)
    assert found.other is not None
    assert found.other.win_rate == 0.6
    assert main(["judge", "--verdicts", _write(tmp_path / "b.jsonl", rows)]) == 0
    out = capsys.readouterr().out
    assert "5 of 14 verdicts failed, 1 more left out" in out
    assert "disagree for a tie: 1 wins, 1 losses, 2 ties, adjusted win rate 50.0 %; here each game counts, hence 56.2 %" in out


def test_alpaca_evals_preferences(tmp_path: Path) -> None:
    values = [None, float("nan"), "1", "2.0", 0, "0", 0.0, 1.25, 2, True, "", "x", 3, -1, float("inf"), [2]]
    rows = [{"instruction": f"q{i}", "preference": v} for i, v in enumerate(values)]
    rows += [{"instruction": f"q7{space}", "preference": 2} for space in ("", "  ", "\n")]
    found = read_verdicts(_write(tmp_path / "a.jsonl", rows))
    assert [j.win for j in found.judged] == [0, 1, 0.5, 0.5, 0.5, 0.25, 1, 1, 1, 1]
    assert len({j.cluster for j in found.judged}) == 7  # one instruction, spaced otherwise
    assert (found.failed_votes, found.failures) == (9, [1, 2, 10, 11, 12, 13, 14, 15, 16])


def test_counting_is_quick_enough(tmp_path: Path) -> None:
    rows = [{"instruction": f"q{i}", "preference": 1.9 if i % 3 else 1.1, "output_1": "x" * (i % 50), "output_2": "y" * (i % 41)}
            for i in range(805)]  # fmt: skip
    found = count(read_verdicts(_write(tmp_path / "x.jsonl", rows)))
    assert found.verdict.outcome == "better"
    assert found.at_equal_length is not None
    assert found.at_equal_length.low < found.at_equal_length.estimate < found.at_equal_length.high


@pytest.mark.parametrize(
    ("base", "tuned", "said"),
    [
        (200, 39, "responses are 5.0 times as short (200 to 39 characters)"),
        (99, 299, "responses are 3.0 times as long (99 to 299 characters)"),
        (100, 60, ""),
        (100, 190, ""),
    ],
)
def test_a_verdict_says_that_responses_have_another_length(base: int, tuned: int, said: str, tmp_path: Path) -> None:
    """A judge that looks at form alone calls responses of eight words better than those of forty: the sentence says what else they are."""
    rows = [{"cluster": str(i), "tuned_wins": float(i % 4 > 0), "lengths": [base, tuned]} for i in range(40)]
    found = count(read_verdicts(_write(tmp_path / "v.jsonl", rows)))
    assert found.verdict.outcome == "better"
    assert found.verdict.sentence.endswith(said or "prompts)")
    # that one response of many is very long says nothing of the others
    rows = [{"cluster": str(i), "tuned_wins": float(i % 4 > 0), "lengths": [100, 100 + 9000 * (i == 0)]} for i in range(40)]
    assert "times" not in count(read_verdicts(_write(tmp_path / "v.jsonl", rows))).verdict.sentence
