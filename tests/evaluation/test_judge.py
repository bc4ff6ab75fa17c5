"""Judges that ask a server: what is asked, what a reply says, and a server that behaves badly."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judge_server import Misbehaving, serving
from prefine.cli import main
from prefine.evaluation.judge_replies import fill, pair_text, parse_pair, parse_rating, preference_of, single_text
from prefine.evaluation.questions import Question, user_turn


@pytest.mark.parametrize(
    ("text", "win"),
    [
        ("A is clearer. [[A]]", 1.0),
        ("[[B]]", 0.0),
        ("[[C]]", 0.5),
        ("[[tie]]", 0.5),
        ("At first [[A]], but on reflection [[B]].", 0.0),
        ('{"reason": "I thought [[A]]", "verdict": "B"}', 0.0),
        ('{"reason": "cut", "verdict": "A', 1.0),
        ('{"verdict" : "tie"}', 0.5),
        ("<think>[[A]] maybe</think> [[B]]", 0.0),
        ("<think>perhaps [[A]]", None),
        ("[THINK][[A]] maybe[/THINK] [[B]]", 0.0),
        ("[THINK]perhaps [[A]]", None),
        ("A is better than B.", None),
        ("", None),
        ("[[D]]", None),
        ('{"reason": "half', None),
    ],
)
def test_the_last_verdict_counts_and_none_is_not_a_tie(text: str, win: float | None) -> None:
    assert parse_pair(text) == win


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[[7]]", 7.0),
        ("[[3]] no, [[ 8.5 ]]", 8.5),
        ("[[9/10]]", 9.0),
        ('{"rating": 4}', 4.0),
        ('{"reason": "10 reasons", "rating": "6"}', 6.0),
        ("[[0]]", None),
        ("[[11]]", None),
        ("Rating: seven", None),
    ],
)
def test_ratings(text: str, value: float | None) -> None:
    assert parse_rating(text) == value


@given(st.text())
def test_no_reply_breaks_the_parsers(text: str) -> None:
    assert parse_pair(text) in (None, 0.0, 0.5, 1.0)
    rating = parse_rating(text)
    assert rating is None or 1 <= rating <= 10


def test_preference_is_the_letters_share_of_their_probability() -> None:
    # ln 0.6 and ln 0.2: 0.6 / 0.8; " B" is the same letter
    assert preference_of({"A": -0.5108256, " B": -1.6094379, "x": -1.0}) == pytest.approx(0.75)
    assert preference_of({"x": -0.1}) is None
    assert preference_of(None) is None


def test_what_is_put_in_a_template_is_not_read_as_one() -> None:
    assert fill("{question} / {answer} / {other}", {"question": "{answer}", "answer": "{question}"}) == "{answer} / {question} / {other}"


def test_later_turns_show_each_models_own_conversation_and_the_reference() -> None:
    q = Question("1", user_turn("first?"), ("second?",), references=("r one", "r two"))
    text = pair_text(q, ("a1", "a2"), ("b1", "b2"))
    assert text.index("a1") < text.index("a2") < text.index("b1") < text.index("b2")
    assert text.count("second?") == 2
    assert "r two" in text
    assert "r one" not in text
    single = single_text(q, ("a1",))
    assert "first?" in single
    assert "second?" not in single


def answers_file(path: Path, model: str, texts: list[str]) -> str:
    rows = [{"instruction": f"question {i:03d}", "output": text, "generator": model} for i, text in enumerate(texts)]
    path.write_text(json.dumps(rows))
    return str(path)


def sides(body: dict[str, Any]) -> tuple[str, str, str]:
    """Question and both answers, from what the server was asked."""
    text = body["messages"][-1]["content"]
    found = re.search(r"question (\d+).*### Answer A\n(.*)\n\n### Answer B\n(.*)", text, re.DOTALL)
    assert found, text
    return found[1], found[2], found[3]


def honest(body: dict[str, Any]) -> str:
    _, a, b = sides(body)
    return "[[A]]" if a.startswith("good") and not b.startswith("good") else "[[B]]" if b.startswith("good") else "[[C]]"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFINE_CACHE", str(tmp_path / "cache"))


def judge(
    server: Misbehaving, folder: Path, base: list[str], tuned: list[str], *more: str
) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    files = [answers_file(folder / "base.json", "base", base), answers_file(folder / "tuned.json", "tuned", tuned)]
    out = folder / "out"
    words = ["judge", *files, "--judge", "openai", "--judge-model", "m", "--server", server.url, "--output-dir", str(out)]
    code = main([*words, "--timeout", "1", "--concurrency", "4", *more])
    rows = [json.loads(line) for line in (out / "verdicts.jsonl").read_text().split("\n")[:-1]] if (out / "verdicts.jsonl").exists() else []
    return code, rows, json.loads((out / "summary.json").read_text()) if (out / "summary.json").exists() else {}


def test_a_bad_server_gives_right_counts_and_is_paid_once(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """40 questions: tuned wins 0-19, base wins 20-29, 30-34 equal; 35-36 always the first shown, 37-38 prose, 39 both marks."""
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    base = ["bad"] * 20 + ["good"] * 10 + ["same"] * 5 + ["bad"] * 5
    tuned = ["good"] * 20 + ["bad"] * 10 + ["same"] * 5 + ["good"] * 5
    prose: list[str] = []

    def reply(body: dict[str, Any]) -> str:
        number = int(sides(body)[0])
        if number in (35, 36):
            return "The first. [[A]]"
        if number in (37, 38):
            prose.append(body["messages"][-1]["content"])
            return "Both are fine answers in their way."
        if number == 39:
            return f"[[{'A' if honest(body) == '[[B]]' else 'B'}]] ... no: {honest(body)}"
        return honest(body)

    with serving(reply) as server:
        server.refuses = {"response_format"}
        server.faults = {"question 001": 429, "question 002": 500, "question 003": "timeout", "question 004": "half", "question 021": 503}
        code, rows, summary = judge(server, tmp_path, base, tuned)
        assert code == 0
        failed = [r for r in rows if r["tuned_wins"] is None]
        wins = {(int(r["item"][-3:]), r["order"]): r["tuned_wins"] for r in rows}
        for i in range(40):
            expected = {
                **dict.fromkeys(range(20), 1.0),
                **dict.fromkeys(range(20, 30), 0.0),
                **dict.fromkeys(range(30, 35), 0.5),
                39: 1.0,
            }.get(i)
            for order in ("base first", "model first"):
                if i in (35, 36):
                    assert wins[i, order] == float(order == "model first")
                else:
                    assert wins[i, order] == expected, (i, order)
        assert {int(r["item"][-3:]) for r in failed} == {37, 38}
        assert all(r["failure"] == "no verdict in the reply" and len(r["raw"]) == 3 for r in failed)
        assert summary["failures"] == len(failed)
        flips = summary["judge_quality"]["flips"]
        assert flips["estimate"] * flips["count"] == pytest.approx(2)  # 35 and 36 alone
        assert server.most_under_way <= 4
        assert not any("question 03" in text and "same" in text for text in server.asked)  # equal answers are not asked about

        paid, asked = dict(server.paid), sum(server.asked.values())
        assert all(count == 1 for text, count in paid.items() if text not in prose and not re.search("question 00[34]", text))
        again = judge(server, tmp_path, base, tuned)[1]
        assert {t for t in server.paid if server.paid[t] != paid.get(t, 0)} <= set(prose)
        assert sum(server.asked.values()) - asked <= 3 * len(set(prose)) + 4  # and a refused parameter for each under way
        assert [r["tuned_wins"] for r in again] == [r["tuned_wins"] for r in rows]
        assert server.keys == {"Bearer secret-key"}
    for path in (*tmp_path.rglob("*.jsonl"), *tmp_path.rglob("*.json"), *tmp_path.rglob("*.sqlite")):
        assert b"secret-key" not in path.read_bytes(), path
    assert "secret-key" not in capsys.readouterr().out


def test_killed_and_started_again_it_asks_for_the_rest_only(tmp_path: Path) -> None:
    count = 60
    with serving(honest) as server:
        server.delay_seconds = 0.03
        files = [
            answers_file(tmp_path / f"{n}.json", n, [f"{w} {i}" for i in range(count)]) for n, w in (("base", "bad"), ("tuned", "good"))
        ]
        words = ["judge", *files, "--judge", "openai", "--judge-model", "m", "--server", server.url, "--concurrency", "4"]
        words += ["--output-dir", str(tmp_path / "out")]
        process = subprocess.Popen([sys.executable, "-m", "prefine.cli", *words], env=dict(os.environ), stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while sum(server.paid.values()) < 40 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.3)
        before = sum(server.paid.values())
        assert 40 <= before < 2 * count
        assert main(words) == 0
        total = sum(server.paid.values())
        assert set(server.paid) == set(server.asked)
        assert len(server.paid) == 2 * count
        assert total - 2 * count <= 4  # what was under way at the kill
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["wins"] == 2 * count
    assert summary["outcome"] == "better"


def test_dry_run_counts_and_asks_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(honest) as server:
        code, rows, _ = judge(server, tmp_path, ["bad", "same"], ["good", "same"], "--dry-run", "--price-in", "2", "--price-out", "8")
        assert (code, rows) == (0, [])
        assert not server.asked
        out = capsys.readouterr().out
        assert "2 requests (0 more are in the cache)" in out
        assert "at 2 and 8 a million tokens" in out
        judge(server, tmp_path, ["bad", "same"], ["good", "same"])
        capsys.readouterr()
        judge(server, tmp_path, ["bad", "same"], ["good", "same"], "--dry-run")
        assert "0 requests (2 more are in the cache)" in capsys.readouterr().out


def test_logprob_preference_averages_both_orders(tmp_path: Path) -> None:
    # shown first, an answer has 0.7; shown second, the other has it: A wins 0.7 in either order
    with serving(lambda body: "A:0.7") as server:
        code, rows, summary = judge(server, tmp_path, ["x", "y"], ["z", "w"], "--mode", "logprob")
        assert code == 0
        assert [r["tuned_wins"] for r in rows] == pytest.approx([0.3, 0.7, 0.3, 0.7])
        assert summary["win_rate"]["estimate"] == pytest.approx(0.5)
        assert server.bodies[0]["max_tokens"] == 1


def test_a_server_without_logprobs_is_an_error_and_not_a_tie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda body: "A") as server:
        server.refuses = {"logprobs"}
        code, _, _ = judge(server, tmp_path, ["x"], ["z"], "--mode", "logprob")
        assert code == 2
        assert "gave no verdict at all: 2 x refused" in capsys.readouterr().err


def test_ones_own_prompt_and_a_parameter_with_a_new_name(tmp_path: Path) -> None:
    words = tmp_path / "prompt.txt"
    words.write_text("Q: {question}\n\n### Answer A\n{answer_a}\n\n### Answer B\n{answer_b}")
    with serving(honest) as server:
        server.refuses = {"max_tokens"}
        code, rows, _ = judge(server, tmp_path, ["bad"], ["good"], "--judge-prompt", str(words))
        assert code == 0
        assert [r["tuned_wins"] for r in rows] == [1.0, 1.0]
        assert "max_completion_tokens" in server.bodies[-1]
        assert len(server.bodies[-1]["messages"]) == 1


def test_single_ratings_of_one_and_of_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda body: "[[9]]" if "good" in body["messages"][-1]["content"] else '{"rating": 3}') as server:
        code, rows, summary = judge(server, tmp_path, ["bad", "bad"], ["good", "bad"], "--mode", "single")
        assert code == 0
        assert [r["scores"] for r in rows] == [[3.0, 9.0], [3.0, 3.0]]
        assert [r["tuned_wins"] for r in rows] == [1.0, 0.5]
        assert summary["ratings"]["tuned"]["all"]["estimate"] == 6.0
        one = ["judge", str(tmp_path / "tuned.json"), "--judge", "openai", "--judge-model", "m", "--server", server.url, "--mode", "single"]
        capsys.readouterr()
        assert main([*one, "--output-dir", str(tmp_path / "one")]) == 0
        assert "6.00" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--judge", "openai"], "--judge-model"),
        (["--judge", "opanai"], "did you mean 'openai'"),
        (["--judge", "openai", "--judge-model", "m"], "OPENAI_API_KEY"),
        (["--judge", "openai", "--judge-model", "m", "--server", "localhost"], "http://"),
        (["--judge", "openai", "--judge-model", "m", "--server", "http://127.0.0.1:9/v1", "--mode", "singel"], "did you mean 'single'"),
        (["--judge", "openai", "--judge-model", "m", "--server", "http://127.0.0.1:9/v1", "--retries", "0"], "cannot be reached"),
        (["--judge", "reward-model"], "--reward-model"),
        (["--judge", "python", "--function", "nowhere:f"], "nowhere"),
        (["--judge", "human"], "--human"),
        (["--server", "http://127.0.0.1:9/v1"], "belongs to --judge openai"),
        ([], "needs --judge"),
        (["--judge", "fake", "--works", "0.4"], "null rate <= minimum"),
        (["--judge", "fake", "--function", "a:b"], "belongs to --judge python"),
        (["--judge", "fake", "--require", "best"], "'better'"),
    ],
)
def test_mistakes(words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    files = [answers_file(tmp_path / f"{n}.json", n, ["a", n]) for n in ("base", "tuned")]
    assert main(["judge", *files, "--output-dir", str(tmp_path / "out"), *words]) == 2
    assert told in capsys.readouterr().err


def test_python_exact_and_human_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    files = [answers_file(tmp_path / f"{n}.json", n, texts) for n, texts in (("base", ["a", "bbb", "c"]), ("tuned", ["aa", "b", "c"]))]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lengths.py").write_text("def score(prompt, answer):\n    return len(answer)\n")
    out = ["--output-dir", str(tmp_path / "out")]

    def wins() -> list[float | None]:
        return [json.loads(line)["tuned_wins"] for line in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]

    assert main(["judge", *files, *out, "--judge", "python", "--function", "lengths:score"]) == 0
    assert wins() == [1.0, 0.0, 0.5]
    people = tmp_path / "people.jsonl"
    people.write_text("".join(json.dumps({"prompt": f"question {i:03d}", "tuned_wins": w}) + "\n" for i, w in ((0, 1), (1, 1))))
    assert main(["judge", *files, *out, "--judge", "human", "--human", str(people)]) == 0
    assert wins() == [1.0, 1.0, None]
    capsys.readouterr()
    assert main(["judge", *files, *out, "--judge", "python", "--function", "lengths:score", "--human", str(people)]) == 0
    told = capsys.readouterr().out
    assert "judge and people agree on 50.0 %" in told
    assert "Cohen's kappa" in told
    assert main(["judge", *files, *out, "--judge", "exact"]) == 2
    assert "no reference answer" in capsys.readouterr().err


def test_odd_characters_survive_and_a_kill_in_the_first_line_too(tmp_path: Path) -> None:
    odd = "x\u2028y\x85z \ud800"
    with serving(lambda body: "[[A]] \u2028 ok") as server:
        for _ in range(2):  # the second time from the cache
            code, rows, _summary = judge(server, tmp_path, [odd, "a"], ["b", "c"])
            assert code == 0
            assert len(rows) == 4
    from prefine.runs import read_jsonl

    kept = list(read_jsonl(tmp_path / "out" / "generations.jsonl"))
    assert kept[0]["base"] == odd
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_refusal_that_is_not_about_the_form_leaves_the_form_on(tmp_path: Path) -> None:
    with serving(honest) as server:
        server.faults = {"question 000": 400}
        code, _rows, _ = judge(server, tmp_path, ["bad"] * 4, ["good"] * 4, "--concurrency", "1")
        assert code == 0
        without = [b for b in server.bodies if "response_format" not in b]
        assert len(without) == 2  # the refused question, in both orders, was tried without; nothing was learned from it
        assert all("question 000" in b["messages"][-1]["content"] for b in without)


def test_people_who_judged_the_other_way_round_are_turned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [answers_file(tmp_path / f"{n}.json", n, ["x", "y"]) for n in ("base", "tuned")]
    people = tmp_path / "people.json"
    rows = [{"instruction": f"question {i:03d}", "generator_1": "tuned", "generator_2": "base", "preference": 1.0} for i in range(2)]
    people.write_text(json.dumps(rows))
    words = ["judge", *files, "--judge", "human", "--human", str(people), "--output-dir", str(tmp_path / "o")]
    assert main(words) == 0
    assert "2 wins, 0 losses" in capsys.readouterr().out
    people.write_text(json.dumps([r | {"generator_1": "another"} for r in rows]))
    assert main(words) == 2
    assert "people judged base against another" in capsys.readouterr().err


def test_mt_benchs_judgments_are_found_by_their_ids(tmp_path: Path) -> None:
    asked = tmp_path / "q.jsonl"
    asked.write_text(json.dumps({"question_id": 81, "category": "writing", "turns": ["one?", "two?"]}) + "\n")
    files = []
    for name in ("base", "tuned"):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps({"question_id": 81, "model_id": name, "choices": [{"turns": [f"{name} 1", f"{name} 2"]}]}) + "\n")
        files.append(str(path))
    people = tmp_path / "people.jsonl"
    row = {"question_id": 81, "model_1": "base", "model_2": "tuned"}
    turns = [row | {"turn": t, "g1_winner": w, "g2_winner": w} for t, w in ((1, "model_2"), (2, "model_1"))]
    people.write_text("".join(json.dumps(t) + "\n" for t in turns))
    words = ["judge", *files, "--judge", "human", "--human", str(people), "--output-dir", str(tmp_path / "o")]
    assert main(words) == 2  # nothing says what was asked
    assert main([*words, "--questions", str(asked)]) == 0
    found = [json.loads(line) for line in (tmp_path / "o" / "verdicts.jsonl").read_text().splitlines()]
    assert [(r["turn"], r["tuned_wins"]) for r in found] == [(1, 1.0), (1, 1.0), (2, 0.0), (2, 0.0)]


def test_folders_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    base = answers_file(tmp_path / "base.json", "b", ["x"])
    for name in ("llama-3.1", "llama-3.2"):
        assert main(["judge", base, answers_file(tmp_path / f"{name}.json", name, ["yy"]), "--judge", "fake"]) == 0
    assert {p.name for p in (tmp_path / "verdicts").iterdir()} == {"b-vs-llama-3.1", "b-vs-llama-3.2"}
    (tmp_path / "verdicts" / "b-vs-llama-3.1" / "fake" / "generations.jsonl").write_text("broken\nbroken\n")
    words = ["judge", base, str(tmp_path / "llama-3.2.json"), "--judge", "fake", "--output", "deep/er/x.json"]
    assert main(words) == 0  # a neighbour's broken files are no concern
    for folder in ("d1", "d2"):
        (tmp_path / folder).mkdir()
        answers_file(tmp_path / folder / "a.json", "same", [folder])
    assert main(["judge", "d1/a.json", "d2/a.json", "--judge", "fake", "--output-dir", "."]) == 0
    assert json.loads((tmp_path / "summary.json").read_text())["models"] == ["d1/a", "d2/a"]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"prompt": "p", "tuned_wins": 7}, "expected 0 to 1"),
        ({"prompt": "p", "tuned_wins": float("nan")}, "expected 0 to 1"),
        ({"prompt": "p", "tuned_wins": 1, "lengths": [1]}, "two numbers"),
        ({"tuned_wins": 1, "cluster": None}, "nothing names its prompt"),
    ],
)
def test_verdicts_that_are_none(row: dict[str, Any], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert main(["judge", "--verdicts", str(path)]) == 2
    assert told in capsys.readouterr().err


def test_infinite_scores_are_failures_and_not_losses() -> None:
    from prefine.evaluation.judge import ByScore, Comparison, FunctionScorer

    judged = ByScore(FunctionScorer("f", lambda a: float("-inf"))).judge([Comparison(Question("1", "p"), ("a",), ("b",))])
    [(_, vote)] = judged
    assert vote.win is None
    assert "-inf" in vote.failure


def test_a_judge_that_mostly_fails_shows_nothing_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda body: honest(body) if int(sides(body)[0]) < 5 else "Hm.") as server:
        code, _, summary = judge(server, tmp_path, ["bad"] * 10, ["good"] * 10)
    assert code == 0
    assert summary["outcome"] == "inconclusive"
    told = capsys.readouterr().out
    assert "gave no verdict on 50 % of what it was asked" in told
    assert "10 x no verdict in the reply" in told


def test_equal_answers_say_nothing_about_the_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(honest) as server:
        code, rows, summary = judge(server, tmp_path, ["same"] * 4, ["same"] * 4)
        assert not server.asked
    assert code == 0
    assert all(r["asked"] is False for r in rows)
    assert summary["judge_quality"]["first_wins"] is None
    assert "every comparison is a tie" in capsys.readouterr().out


def test_what_is_not_answers_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = answers_file(tmp_path / "a.json", "a", ["x"])
    other = tmp_path / "pairs.jsonl"
    other.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    assert main(["judge", good, str(other), "--judge", "fake"]) == 2
    assert "pairs.jsonl: holds neither responses nor verdicts" in capsys.readouterr().err


def test_a_question_asked_again_is_matched_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def file(name: str, rows: list[tuple[str, str | None]]) -> str:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps([{"instruction": q, "output": a, "generator": name} for q, a in rows]))
        return str(path)

    base = file("base", [("a", None), ("b", "b0"), ("a", "a1"), ("b", "b1"), ("b", "b2"), ("c ", "c0"), ("c", "c1")])
    tuned = file("tuned", [("b", "longer 0"), ("a", "longer 0"), ("b", "longer 1"), ("a", "longer 1"), ("c", "x"), ("c ", "longer")])
    words = ["judge", base, tuned, "--judge", "fake", "--output-dir", str(tmp_path / "o")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert f"{base}: 3 rows ask what an earlier row asks; they are matched in order" in out
    assert f"{tuned}: 2 rows ask what an earlier row asks" in out
    # The first of "a" failed and still is the first; the third of "b" stands alone; "c" goes by its exact words.
    assert "8 wins, 2 losses, 0 ties" in out
    assert "from 10 verdicts on 3 prompts" in out
    assert "2 questions are answered in one file only" in out  # the third "b", and the first "a" of tuned
    rows = [json.loads(line) for line in (tmp_path / "o" / "generations.jsonl").read_text().splitlines()]
    assert [(r["base"], r["tuned"]) for r in rows] == [
        ("b0", "longer 0"),
        ("a1", "longer 1"),
        ("b1", "longer 1"),
        ("c0", "longer"),
        ("c1", "x"),
    ]
    assert len({r["key"] for r in rows}) == 5  # which the page joins verdicts by
    verdicts = [json.loads(line) for line in (tmp_path / "o" / "verdicts.jsonl").read_text().splitlines()]
    assert len({v["item"] for v in verdicts}) == 5
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert (summary["repeated"], summary["unmatched"]) == ([3, 2], 2)


def test_mt_benchs_answers_given_twice_are_matched_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = tmp_path / "q.jsonl"
    asked.write_text(json.dumps({"question_id": 81, "category": "writing", "turns": ["one?", "two?"]}) + "\n")
    files = []
    for name in ("base", "tuned"):
        path = tmp_path / f"{name}.jsonl"
        row = {"question_id": 81, "model_id": name}
        path.write_text("".join(json.dumps(row | {"choices": [{"turns": [name + str(i), name]}]}) + "\n" for i in range(2)))
        files.append(str(path))
    assert main(["judge", *files, "--judge", "fake", "--questions", str(asked), "--output-dir", str(tmp_path / "o")]) == 0
    assert "from 8 verdicts on 1 prompts" in capsys.readouterr().out
