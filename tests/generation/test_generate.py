"""Prompts of every kind, answers on disk, engines; MT-Bench from questions to counts."""

from __future__ import annotations

import json
import sys
import types
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from judge_server import serving
from prefine.cli import main
from prefine.errors import ConfigError, DataError
from prefine.evaluation.answers import answer_questions, read_answers
from prefine.evaluation.judge import compare
from prefine.evaluation.questions import Question, read_questions, user_turn, with_references
from prefine.generation.engine import Answer, Failure, Request, Sampling


def written(path: Path, rows: Sequence[Any] | str) -> str:
    path.write_text(rows if isinstance(rows, str) else "".join(json.dumps(r) + "\n" for r in rows))
    return str(path)


def test_prompts_of_every_form(tmp_path: Path) -> None:
    def asked(rows: Sequence[Any] | str, name: str = "p.jsonl", raw: bool = False) -> list[Any]:
        return [q.prompt for q in read_questions(written(tmp_path / name, rows), raw=raw)]

    hello = user_turn("hello")
    assert asked("hello\n\n  world \nhello\n", "p.txt") == [hello, user_turn("world")]
    assert asked("hello\n", "p.txt", raw=True) == ["hello"]
    assert asked([{"prompt": "hello"}]) == [hello]
    assert asked([{"question": "hello", "answer": "4"}]) == [hello]
    assert asked([{"instruction": "hello", "output": "x", "generator": "g", "dataset": "d"}]) == [hello]
    assert asked([{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}]}]) == [
        ({"role": "system", "content": "s"}, {"role": "user", "content": "hello"})
    ]
    assert asked([{"prompt": "hello", "chosen": "a", "rejected": "b"}, {"prompt": "hello", "chosen": "a", "rejected": "c"}]) == ["hello"]
    assert asked([{"prompt": "hello", "completion": "a", "label": True}]) == ["hello"]
    [q] = read_questions(written(tmp_path / "q.jsonl", [{"question_id": 7, "category": "math", "turns": ["one?", "two?"]}]))
    assert (q.key, q.category, q.later_turns) == ("7", "math", ("two?",))
    assert q.asked(["1"]) == (
        {"role": "user", "content": "one?"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "two?"},
    )
    [q] = read_questions(written(tmp_path / "r.jsonl", [{"question": "2+2", "answer": "4"}]))
    assert q.references == ("4",)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("p.jsonl", '{"words": "x"}\n', "words"),
        ("p.jsonl", "", "empty"),
        ("p.txt", "\n\n", "no prompts"),
        ("p.txt", b"\xff\xfe\x00", "UTF-8"),
        ("p.jsonl", '{"turns": []}\n', "'turns'"),
        ("p.jsonl", '{"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]}\n', "user's turn"),
    ],
)
def test_what_is_not_prompts_is_said(name: str, text: str | bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=told):
        read_questions(str(path))


class Scripted:
    """An engine that answers by rule, fails on what it is told, and counts what it was asked."""

    name = "scripted"

    def __init__(self, fails: set[str] = frozenset(), stop_after: int | None = None) -> None:  # type: ignore[assignment]
        self.fails, self.stop_after = fails, stop_after
        self.asked: Counter[str] = Counter()
        self.seeds: dict[str, int] = {}

    def answers(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Answer | Failure]]:
        for place in reversed(range(len(requests))):
            if self.stop_after is not None and sum(self.asked.values()) >= self.stop_after:
                raise KeyboardInterrupt
            words = " / ".join(str(m["content"]) for m in requests[place].prompt)  # type: ignore[union-attr]
            self.asked[words] += 1
            self.seeds[words] = requests[place].seed
            yield place, Failure("told to") if words in self.fails else Answer(f"<{words}>", [1], True, 1)


QUESTIONS = [Question(str(i), user_turn(f"q{i}"), ("more?",) if i % 2 else (), cluster=str(i)) for i in range(6)]


def test_a_cut_run_goes_on_and_failures_are_tried_again(tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    whole = Scripted()
    done, failed = answer_questions(whole, QUESTIONS, Sampling(), 0, tmp_path / "whole.jsonl", "m")
    assert not failed
    assert done[1].answers == ("<q1>", "<q1 / <q1> / more?>")

    cut = Scripted(stop_after=4)
    with pytest.raises(KeyboardInterrupt):
        answer_questions(cut, QUESTIONS, Sampling(), 0, out, "m")
    part = tmp_path / "answers.jsonl.part"
    part.write_text(part.read_text() + '{"key": "0", "tu')  # the writer was killed in a line
    second = Scripted(fails={"q0", "q1 / <q1> / more?"})
    done, failed = answer_questions(second, QUESTIONS, Sampling(), 0, out, "m")
    assert failed == {"0": "told to", "1": "told to"}
    assert not set(cut.asked) & set(second.asked)
    assert [f for f in read_answers(str(out)).failures] == ["0", "1"]
    third = Scripted()
    done, failed = answer_questions(third, QUESTIONS, Sampling(), 0, out, "m")
    assert set(third.asked) == {"q0", "q1 / <q1> / more?"}
    assert not failed
    assert not part.exists()
    assert third.seeds["q0"] == whole.seeds["q0"]  # a prompt's seed is its own, wherever it is asked
    assert {k: v for k, v in json.loads(out.read_text().splitlines()[1]).items() if k == "answers"} == {"answers": list(done[1].answers)}
    with pytest.raises(ConfigError, match="temperature was 0"):
        answer_questions(third, QUESTIONS, Sampling(temperature=1), 0, out, "m")


def test_answers_of_other_tools(tmp_path: Path) -> None:
    alpaca = read_answers(written(tmp_path / "a.jsonl", [{"instruction": "q", "output": "x", "generator": "g", "dataset": "d"}]))
    assert (alpaca.model, alpaca.answered[0].match_key) == ("g", "q")
    bench = [{"question_id": 81, "model_id": "m", "choices": [{"index": 0, "turns": ["a", "b"]}]}]
    asked = [Question("81", user_turn("one"), ("two",), "writing", "81")]
    with_words = read_answers(written(tmp_path / "b.jsonl", bench), asked)
    assert with_words.answered[0].question.category == "writing"
    comparisons, unmatched = compare(with_words, with_words)
    assert [(c.turn, c.base[-1]) for c in comparisons] == [(1, "a"), (2, "b")]
    assert unmatched == 0
    for rows, told in (
        ([{"x": 1}], "columns found"),
        ([{"instruction": "q", "output": "x", "generator": g} for g in "ab"], "one file a model"),
        ([{"instruction": "q", "output": None}], "no row has a response"),
        ([{"question_id": 1, "choices": []}], "not a readable response"),
    ):
        with pytest.raises(DataError, match=told):
            read_answers(written(tmp_path / "c.jsonl", rows))


def test_generate_by_the_command_is_the_same_in_any_batch(lab_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = written(tmp_path / "p.txt", "my mouse drops calls\nhelp the mouse\nwhy is it that my vacuum has no sound\n")
    texts = []
    for batch in ("1", "3"):
        out = tmp_path / f"{batch}.jsonl"
        words = ["generate", "--model", str(lab_model), "--prompts", prompts, "--output", str(out), "--batch-size", batch]
        assert main([*words, "--temperature", "1", "--max-new-tokens", "8"]) == 0
        texts.append([json.loads(line)["answers"] for line in out.read_text().splitlines()])
    assert texts[0] == texts[1]
    assert "3 of 3 prompts answered" in capsys.readouterr().out
    assert main([*words, "--temperature", "1", "--max-new-tokens", "9"]) == 2
    assert "max_new_tokens was 8 and is now 9" in capsys.readouterr().err
    for wrong, told in (
        (["--temprature", "1"], "did you mean"),
        (["--engine", "vlm"], "did you mean 'vllm'"),
        (["--engine", "vllm"], "pip install 'prefine[vllm]'"),
        (["--no-adapter"], "no adapter"),
        (["--top-p", "0"], "top_p"),
        (["--prompts", "nowhere.txt"], "no such file"),
    ):
        assert main([*words, "--output", str(tmp_path / "x.jsonl"), *wrong]) == 2
        assert told in capsys.readouterr().err
    # a prompt that leaves no room is a counted failure
    long = written(tmp_path / "long.txt", "mouse " * 3000 + "\nmy mouse drops calls\n")
    assert (
        main(["generate", "--model", str(lab_model), "--prompts", long, "--output", str(tmp_path / "l.jsonl"), "--max-new-tokens", "4"])
        == 0
    )
    assert "exceed the model's" in capsys.readouterr().out


def test_a_server_as_engine(tmp_path: Path) -> None:
    prompts = written(tmp_path / "p.txt", "one\ntwo\n")
    with serving(lambda body: "said " + body["messages"][-1]["content"]) as server:
        server.faults = {"one": 500}
        out = tmp_path / "a.jsonl"
        words = ["generate", "--model", "m", "--server", server.url, "--prompts", prompts, "--output", str(out)]
        assert main(words) == 0
        asked = sum(server.asked.values())
        assert [json.loads(line)["answers"] for line in out.read_text().splitlines()] == [["said one"], ["said two"]]
        assert main(words) == 0
        assert sum(server.asked.values()) == asked  # all there: nothing is asked again


def test_vllm_is_asked_by_ids_with_a_seed_and_an_adapter(lab_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM is not installed here: a stand-in with its published call signatures."""
    from prefine.generation.vllm_engine import VllmEngine
    from prefine.scoring.loading import load_tokenizer

    calls: list[Any] = []

    class LLM:
        def __init__(self, model: str, enable_lora: bool) -> None:
            calls.append((model, enable_lora))

        def generate(self, prompts: Any, settings: Any, lora_request: Any) -> Any:
            calls.append((prompts, settings, lora_request))
            out = types.SimpleNamespace(text=" hi ", token_ids=(5, 1), finish_reason="stop")
            return [types.SimpleNamespace(outputs=[out]) for _ in prompts]

    fake = types.ModuleType("vllm")
    fake.LLM, fake.SamplingParams = LLM, lambda **k: k  # type: ignore[attr-defined]
    lora, request = types.ModuleType("vllm.lora"), types.ModuleType("vllm.lora.request")
    request.LoRARequest = lambda *a: a  # type: ignore[attr-defined]
    for name, module in (("vllm", fake), ("vllm.lora", lora), ("vllm.lora.request", request)):
        monkeypatch.setitem(sys.modules, name, module)
    engine = VllmEngine("base", load_tokenizer(str(lab_model)), "adapter")
    found = dict(engine.answers([Request(user_turn("my mouse drops calls"), 3)], Sampling(9, 0.5)))
    assert found == {0: Answer(engine.encoder.tokenizer.decode([5, 1], skip_special_tokens=True).strip(), [5, 1], True, 2)}
    assert calls[0] == ("base", True)
    prompts, settings, adapter = calls[1]
    assert prompts[0]["prompt_token_ids"]
    assert settings == [{"max_tokens": 9, "temperature": 0.5, "top_p": 1.0, "seed": 3, "stop_token_ids": [4]}]
    assert adapter == ("tuned", 1, "adapter")


def test_mt_bench_from_questions_to_counts(lab_model: Path, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All 80 questions, both turns, through generate, the fake judge and a served one, by category and turn."""
    questions, references = shared_data / "mt_bench_questions.jsonl", shared_data / "mt_bench_reference_gpt4.jsonl"
    files = []
    for name, temperature in (("base", "0"), ("tuned", "1")):
        files.append(str(tmp_path / f"{name}.jsonl"))
        words = ["generate", "--model", str(lab_model), "--prompts", str(questions), "--references", str(references), "--output", files[-1]]
        assert main([*words, "--max-new-tokens", "6", "--temperature", temperature, "--batch-size", "80"]) == 0
    assert "80 of 80 prompts answered" in capsys.readouterr().out
    rows = [json.loads(line) for line in Path(files[0]).read_text().splitlines()]
    assert all(len(r["answers"]) == 2 for r in rows)
    known = read_questions(str(questions))
    assert sum(bool(q.references) for q in with_references(known, str(references))) == 30  # math, reasoning, coding
    out = tmp_path / "fake"
    assert main(["judge", *files, "--judge", "fake", "--output-dir", str(out)]) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["wins"] + summary["losses"] + summary["draws"] == 80 * 2 * 2
    assert summary["win_rate"]["clusters"] == 80
    assert len(summary["categories"]) == 16  # eight categories, two turns
    assert all(c["clusters"] == 10 for c in summary["categories"].values())

    def rate(body: dict[str, Any]) -> str:
        text = body["messages"][-1]["content"]
        return "[[8]]" if "Reference answer" in text else "[[5]]"

    with serving(rate) as server:
        words = ["judge", files[0], "--judge", "openai", "--judge-model", "m", "--server", server.url, "--mode", "single"]
        assert main([*words, "--output-dir", str(tmp_path / "single")]) == 0
        summary = json.loads((tmp_path / "single" / "summary.json").read_text())
    [ratings] = summary["ratings"].values()
    assert {name: ratings[name]["estimate"] for name in ("math", "coding", "reasoning", "writing", "turn 1", "turn 2")} == {
        **dict.fromkeys(("math", "coding", "reasoning"), 8.0),
        "writing": 5.0,
        **dict.fromkeys(("turn 1", "turn 2"), (30 * 8 + 50 * 5) / 80),
    }


def test_a_penalty_sees_no_padding() -> None:
    """An answer does not depend on what it was batched with, with a penalty and cuts too."""
    from prefine.generation.generate import generate
    from prefine.lab.model import build_model, build_tokenizer
    from prefine.packing.group import as_ids

    model, tokenizer = build_model(0, hidden=32, layers=1), build_tokenizer()
    sampling = Sampling(12, 1.0, top_p=0.95, top_k=40, min_p=0.001, repetition_penalty=3.0)
    short, long = as_ids([5, 6, 7]), as_ids(list(range(20, 60)))
    alone = dict(generate(model, tokenizer, [short], sampling, [3]))[0]
    beside = dict(generate(model, tokenizer, [long, short], sampling, [1, 3]))[1]
    assert alone.ids == beside.ids
    assert alone.ids != dict(generate(model, tokenizer, [short], Sampling(12, 1.0), [3]))[0].ids
    one = dict(generate(model, tokenizer, [short] * 8, Sampling(4, 1.0, top_k=1), list(range(8))))
    assert len({tuple(a.ids) for a in one.values()}) == 1


def test_a_batch_stays_full_while_prompts_are_left() -> None:
    """96 responses of 1 to 40 tokens, most of them short: six whole batches of 16 would take as many steps as six longest ones."""
    from prefine.generation.generate import generate
    from prefine.lab.model import build_model, build_tokenizer
    from prefine.packing.group import as_ids

    model, tokenizer = build_model(0, hidden=32, layers=1), build_tokenizer()
    model.generation_config.eos_token_id = list(range(40))
    prompts, sampling = [as_ids([50, 51, 52 + i % 30]) for i in range(96)], Sampling(40, 1.0)
    steps: list[int] = []
    with model.get_input_embeddings().register_forward_hook(lambda module, args, out: steps.append(out.shape[1])):
        found = dict(generate(model, tokenizer, prompts, sampling, range(96), 16))
    tokens = sum(len(a.ids) for a in found.values())
    in_batches = sum(max(len(found[i].ids) for i in range(at, at + 16)) for at in range(0, 96, 16))
    # Four of 16 may have ended before others come; the last ones end alone, after 40 steps at most.
    assert steps.count(1) <= tokens / 12 + 40 < in_batches


def test_memory_that_runs_out_midway_costs_only_what_had_not_ended() -> None:
    """Rows that have ended are kept; the others begin anew in smaller batches, and come out the same."""
    import torch

    from prefine.generation.generate import generate
    from prefine.lab.model import build_model, build_tokenizer
    from prefine.packing.group import as_ids

    model, tokenizer = build_model(0, hidden=32, layers=1), build_tokenizer()
    model.generation_config.eos_token_id = list(range(100))
    prompts, sampling = [as_ids([150, 151, 152 + i % 3]) for i in range(24)], Sampling(40, 1.0)
    whole = dict(generate(model, tokenizer, prompts, sampling, range(24)))
    passed: list[tuple[int, int]] = []
    failed: list[int] = []

    def full(module: Any, args: Any, out: Any) -> None:
        passed.append(out.shape[:2])
        if not failed and len(passed) > 3 and 4 < out.shape[0] < 24:
            failed.append(out.shape[0])
            raise torch.OutOfMemoryError("CUDA out of memory")

    with model.get_input_embeddings().register_forward_hook(full), pytest.warns(UserWarning, match="out of memory"):
        again = list(generate(model, tokenizer, prompts, sampling, range(24)))
    assert failed
    assert sorted(place for place, _ in again) == list(range(24))
    assert {place: a.ids for place, a in again} == {place: a.ids for place, a in whole.items()}
    [first] = [i for i, shape in enumerate(passed) if shape[0] == failed[0]][-1:]
    assert all(rows <= failed[0] // 2 + 1 for rows, _ in passed[first + 1 :])
