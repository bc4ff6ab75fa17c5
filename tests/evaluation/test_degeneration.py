"""Signs of degeneration, agreement, drift, skills, length control: numbers worked by hand or by another implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefine.errors import ColumnError, ConfigError, DataError, MissingFile
from prefine.evaluation.agreement import agreement
from prefine.evaluation.degeneration import Text, compare_texts, ends_in_loop, repeated_ngrams, words
from prefine.evaluation.drift import Perplexity, implicit_wins, kl_to_base, perplexity, text_windows
from prefine.evaluation.interval import Interval
from prefine.evaluation.length import fit_logistic
from prefine.evaluation.length_controlled import Gamed, length_controlled, read_gamed
from prefine.evaluation.regression import evaluate_tasks, mcnemar, paired_skill, quiet


def test_repeated_ngrams_by_hand() -> None:
    # eight words, five 4-grams, abcd twice
    assert repeated_ngrams("a b c d a b c d") == pytest.approx(1 / 5)
    assert repeated_ngrams("a b c") == 0


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        ("It works. " + "I am sorry. " * 6, True),
        ("yes " * 20, True),
        ("no no no", False),
        ("one two three four five six seven eight nine ten", False),
        ("do do do do do do and then it ends well", False),
        ("", False),
        ("a long start of quite some words " * 1 + "and so on " * 5, True),
    ],
)
def test_loops(text: str, loops: bool) -> None:
    assert ends_in_loop(text) is loops


@given(st.text(max_size=200))
def test_no_text_breaks_the_signs(text: str) -> None:
    assert 0 <= repeated_ngrams(text) <= 1
    ends_in_loop(text)
    words(text)


def texts(answers: list[str], ended: bool = True) -> list[Text]:
    return [Text("please explain in a few words how a dishwasher gets its water and where it goes", a, ended) for a in answers]


def test_signs_are_compared_prompt_by_prompt_and_alarm_when_surely_worse() -> None:
    sound = [f"answer {i} says that number {i * 7} is the right one" for i in range(40)]
    broken = [s if i % 2 else "I do not know. " * 12 for i, s in enumerate(sound)]
    clusters = [str(i) for i in range(40)]
    found = {f.name: f for f in compare_texts(texts(sound), texts(broken, ended=False), clusters)}
    assert (found["loop"].base, found["loop"].tuned) == (0.0, 0.5)
    assert found["loop"].broken
    assert found["not ended"].change.estimate == 1.0
    assert not found["empty"].broken
    assert found["words"].change.estimate == pytest.approx((20 * 12 * 5 - sum(len(words(sound[i])) for i in range(0, 40, 2))) / 40)
    same = compare_texts(texts(sound), texts(sound), clusters)
    assert not any(f.broken for f in same)
    assert all(f.change.estimate == 0 for f in same)


def test_sets_of_answers_by_hand() -> None:
    base, tuned = texts([f"a{i} b{i}" for i in range(12)]), texts(["a b"] * 12)
    found = {f.name: f for f in compare_texts(base, tuned, [str(i) for i in range(12)])}
    assert (found["distinct-2"].base, found["distinct-2"].tuned) == (1.0, pytest.approx(1 / 12))
    assert found["vocabulary entropy"].base == pytest.approx(np.log2(24))
    assert found["vocabulary entropy"].tuned == 1.0
    assert (found["self-similarity"].base, found["self-similarity"].tuned) == (pytest.approx(0.0, abs=1e-6), pytest.approx(1.0))
    assert found["self-similarity"].broken
    assert found["self-similarity"].change.low == pytest.approx(found["self-similarity"].change.high)  # leaving any out changes nothing
    few = {f.name for f in compare_texts(base[:3], tuned[:3], ["1", "2", "3"])}
    assert "distinct-2" not in few  # three prompts say nothing of variety


def test_other_language_is_seen() -> None:
    german = "Die Spülmaschine bekommt ihr Wasser aus der Leitung, und am Ende läuft es durch den Schlauch in den Abfluss hinaus."
    english = "The dishwasher takes its water from the supply line, and in the end it goes through the hose into the drain."
    found = {f.name: f for f in compare_texts(texts([english] * 30), texts([german] * 30), [str(i) for i in range(30)])}
    assert found["other language"].tuned == 1.0
    assert found["other language"].broken


def test_kappa_of_the_textbook_table() -> None:
    # 20 both yes, 5 and 10 apart, 15 both no: observed 0.7, by chance 0.5, kappa 0.4
    first = [1.0] * 25 + [0.0] * 25
    second = [1.0] * 20 + [0.0] * 5 + [1.0] * 10 + [0.0] * 15
    found = agreement(first, second)
    assert found.same.estimate == pytest.approx(0.7)
    assert found.kappa.estimate == pytest.approx(0.4)
    assert found.kappa.low < 0.4 < found.kappa.high
    tied = agreement([0.5, 0.5, 1.0], [0.5, 1.0, 1.0])
    assert tied.same.estimate == pytest.approx(2 / 3)
    assert tied.same_untied is not None
    assert tied.same_untied.count == 1
    with pytest.raises(ValueError, match="same comparisons"):
        agreement([1.0], [])


def test_kappa_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    first, second = rng.choice([0, 0.5, 1], (2, 200))
    assert agreement(first, second).kappa.estimate == pytest.approx(cohen_kappa_score(2 * first, 2 * second))


def test_kl_is_the_ratio_of_sums_and_the_mean() -> None:
    found = kl_to_base(np.array([2.0, 4.0, 0.0]), np.array([1.0, 2.0, 1.0]), ["a", "b", "c"])
    assert found.per_token.estimate == pytest.approx(6 / 4)
    assert found.per_answer.estimate == pytest.approx(2)
    assert found.per_token.low <= 1.5 <= found.per_token.high


def test_implicit_wins_by_hand() -> None:
    # margins: (1 - 0) - (0 - 0) = 1; 0; (0 - 0) - (2 - 1) = -1
    tuned, base = np.array([1, 0, 3, 3, 0, 2.0]), np.array([0, 0, 3, 3, 0, 1.0])
    assert implicit_wins(tuned, base) == [1.0, 0.5, 0.0]


def test_mcnemar_by_hand() -> None:
    # ten lost, two won: 2 (1 + 12 + 66) / 2^12
    before, after = [1.0] * 10 + [0.0] * 2 + [1.0] * 30, [0.0] * 10 + [1.0] * 2 + [1.0] * 30
    assert mcnemar(before, after) == pytest.approx(2 * 79 / 4096)
    assert mcnemar([1, 0], [1, 0]) == 1
    skill = paired_skill("sums", dict(enumerate(before)), dict(enumerate(after)), 0.01)
    assert (skill.before, skill.after, skill.state) == (pytest.approx(40 / 42), pytest.approx(32 / 42), "broken")


@pytest.mark.long
def test_tasks_of_ones_own_by_lm_eval(lab_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (tmp_path / "sums.jsonl").write_text("".join(json.dumps({"q": f"is {i} even", "label": i % 2}) + "\n" for i in range(20)))
    task = tmp_path / "sums.yaml"
    task.write_text(
        f"task: my_sums\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/sums.jsonl}}}}\ntest_split: test\n"
        'output_type: multiple_choice\ndoc_to_text: "{{q}}"\ndoc_to_choice: ["yes", "no"]\ndoc_to_target: label\n'
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    model, tokenizer = AutoModelForCausalLM.from_pretrained(lab_model), AutoTokenizer.from_pretrained(lab_model)
    with quiet():
        scores = evaluate_tasks(model, tokenizer, [str(task)], None, limit=10)["my_sums"]
    assert len(scores) == 10
    assert set(scores.values()) <= {0.0, 1.0}
    with pytest.raises(ConfigError, match="no such file"):
        evaluate_tasks(model, tokenizer, [str(tmp_path / "no.yaml")], None)
    with pytest.raises(ConfigError, match="did you mean"), quiet():
        evaluate_tasks(model, tokenizer, ["gsm8kk"], None)


def test_perplexity_of_a_text(lab_model: Path, tmp_path: Path) -> None:
    import torch

    from prefine.evaluation.model_pair import ModelPair
    from prefine.lab.model import build_model, build_tokenizer

    path = tmp_path / "text.txt"
    path.write_text("sorry about that . restart it on the mouse . " * 60)
    tokenizer = build_tokenizer()
    base, tuned = build_model(0, hidden=32, layers=2), build_model(1, hidden=32, layers=2)
    windows = text_windows(str(path), tokenizer, 100)
    found = perplexity(str(path), windows, *_scorers(ModelPair.of(tokenizer, base, tuned)))
    total, count = 0.0, 0
    for window in windows:  # an independent loop: plain forwards
        ids = torch.tensor([[*window.prompt_ids.tolist(), *window.completion_ids[0].tolist()]])
        with torch.no_grad():
            logps = base(ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])
        total, count = total - float(logps.sum()), count + len(logps)
    assert found.before == pytest.approx(np.exp(total / count), rel=1e-4)
    assert found.change.estimate == pytest.approx(np.log(found.after / found.before), abs=1e-5)
    (tmp_path / "short.txt").write_text("sorry")
    with pytest.raises(DataError, match="at least"):
        text_windows(str(tmp_path / "short.txt"), tokenizer)
    with pytest.raises(MissingFile):
        text_windows(str(tmp_path / "none.txt"), tokenizer)


def test_a_perplexity_that_may_have_fallen_is_not_said_to_have_risen() -> None:
    """Of four blocks Student's t says p = 0.002, and the interval that is shown reaches from a fall to a rise: no claim."""
    change = Interval(0.034, -0.049, 0.066, 8, 4)
    assert not Perplexity("t.txt", 15.0, 15.5, change, 0.0017).suspect.matters
    assert Perplexity("t.txt", 15.0, 15.5, Interval(0.034, 0.02, 0.066, 8, 4), 0.0017).suspect.matters
    assert not Perplexity("t.txt", 15.0, 15.1, Interval(0.006, 0.001, 0.01, 8, 4), 0.0017).suspect.matters


def _scorers(sides: Any) -> tuple[Any, Any, Any]:
    return sides.policy, sides.reference, sides.budget


def simulated(count: int, theta: float, phi: float, psi: float) -> tuple[list[dict[str, Any]], Gamed, np.ndarray]:
    rng = np.random.default_rng(1)
    hard, lengths = rng.normal(size=count), rng.integers(-400, 400, count)
    scaled = np.tanh(lengths / lengths.std(ddof=1))
    p = 1 / (1 + np.exp(-(theta + phi * scaled + psi * hard)))
    rows = [
        {"instruction": f"q{i}", "output_1": "x" * (500 + int(lengths[i])), "output_2": "y" * 500, "preference": 1 + float(p[i])}
        for i in range(count)
    ]
    gamed_lengths = rng.normal(size=2 * count)
    gamed = np.column_stack((np.tanh(gamed_lengths), np.tile(hard, 2), np.zeros(2 * count)))
    wins = 1 / (1 + np.exp(-(gamed[:, 0] * phi + gamed[:, 1] * psi)))
    difficulty = {str(i): float(h) for i, h in enumerate(hard)}
    return rows, Gamed(difficulty, gamed, wins), hard


def test_length_controlled_rate_finds_what_was_simulated() -> None:
    rows, gamed, hard = simulated(300, 0.4, 1.5, 0.8)
    found = length_controlled(rows, gamed)
    truth = float((1 / (1 + np.exp(-(0.4 + 0.8 * hard)))).mean())  # P at no difference of length
    raw = float(np.mean([r["preference"] - 1 for r in rows]))
    assert found.estimate == pytest.approx(truth, abs=0.01)
    assert abs(raw - truth) < 0.2
    assert found.low < truth < found.high


def test_length_controlled_rate_agrees_with_a_fit_without_penalty() -> None:
    rows, gamed, hard = simulated(200, -0.3, 1.0, 0.5)
    lengths = np.array([len(r["output_1"]) - len(r["output_2"]) for r in rows], float)
    own = np.column_stack((np.tanh(lengths / lengths.std(ddof=1)), hard, np.ones(200)))
    # ten copies of a row weigh what one row at a tenth of the weight weighs against the others
    design = np.concatenate((np.repeat(own, 10, 0), gamed.features))
    wins = np.concatenate((np.repeat([r["preference"] - 1 for r in rows], 10), gamed.wins))
    _, psi, theta = fit_logistic(design, wins)
    expected = float((1 / (1 + np.exp(-(theta + psi * hard)))).mean())
    assert length_controlled(rows, gamed).estimate == pytest.approx(expected, abs=0.005)


def test_length_control_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "gamed.csv"
    path.write_text("index,preference\n0,0.5\n")
    with pytest.raises(ColumnError, match="instruction_difficulty"):
        read_gamed(str(path))
    path.write_text("index,instruction_difficulty,preference,std_delta_len,not_gamed_baseline\n0,0.1,0.5,1.0,False\n1,0.2,0.4,-1.0,False\n")
    gamed = read_gamed(str(path))
    assert gamed.difficulty == {"0": 0.1, "1": 0.2}
    assert gamed.features[0] == pytest.approx([np.tanh(1.0), 0.1, 0.0])
    row = {"instruction": "q", "preference": 1.5}
    with pytest.raises(DataError, match="output_1"):
        length_controlled([row], gamed)
    row |= {"output_1": "a", "output_2": "b"}
    with pytest.raises(DataError, match="no difficulty"):
        length_controlled([row] * 3, gamed)
