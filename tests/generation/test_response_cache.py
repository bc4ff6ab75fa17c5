"""Responses are kept: a second judge costs the judging alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from prefine.cli import main
from prefine.generation.engine import Request, Sampling
from prefine.generation.generate import TransformersEngine
from prefine.generation.response_cache import CachedEngine, ResponseCache, identity


def test_what_decides_a_response_decides_its_key(lab_model: Path, tmp_path: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(lab_model), AutoTokenizer.from_pretrained(lab_model)
    first = identity(model, tokenizer)
    assert identity(AutoModelForCausalLM.from_pretrained(lab_model), tokenizer) == first
    asked: list[int] = []
    own = TransformersEngine(model, tokenizer)

    class Counting:
        name = "counting"

        def answers(self, requests: Any, sampling: Any) -> Any:
            asked.append(len(requests))
            return own.answers(requests, sampling)

    def ask(seed: int, known: str, sampling: Sampling) -> list[str]:
        engine = CachedEngine(Counting(), ResponseCache(tmp_path / "r.sqlite"), known)
        requests = [Request("my mouse", seed), Request("my vacuum", seed)]
        found = dict(engine.answers(requests, sampling))
        return [found[i].text for i in range(2)]  # type: ignore[union-attr]

    warm = Sampling(5, 1.0)
    said = ask(1, first, warm)
    assert ask(1, first, warm) == said
    assert asked == [2]
    for seed, known, sampling in ((2, first, warm), (1, "another model", warm), (1, first, Sampling(6, 1.0))):
        ask(seed, known, sampling)
    assert asked == [2, 2, 2, 2]
    greedy = ask(1, first, Sampling(5))
    assert ask(9, first, Sampling(5)) == greedy  # no seed decides a greedy response
    assert asked == [2, 2, 2, 2, 2]


def test_an_adapter_that_is_off_is_its_base(lab_model: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    tokenizer = AutoTokenizer.from_pretrained(lab_model)
    base = identity(AutoModelForCausalLM.from_pretrained(lab_model), tokenizer)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(lab_model), LoraConfig(r=2, target_modules="all-linear"))
    before = identity(model, tokenizer)
    with torch.no_grad():
        next(p for n, p in model.named_parameters() if "lora_B" in n).add_(1)
    assert identity(model, tokenizer) != before
    assert identity(model, tokenizer, with_adapter=False) == base


@pytest.mark.filterwarnings("ignore")
def test_a_second_judge_generates_nothing(
    lab_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words = ["dpo", "--model", str(lab_model), "--data", str(pairs_file), "--lora-r", "4", "--max-steps", "2", "--output-dir", str(run)]
    assert main([*words, "--final-eval", "off"]) == 0
    (tmp_path / "score.py").write_text(
        "def longer(prompt, answer):\n    return len(answer)\ndef shorter(prompt, answer):\n    return -len(answer)\n"
    )
    generated: list[int] = []
    answers = TransformersEngine.answers

    def spy(self: Any, requests: Any, sampling: Any) -> Any:
        generated.append(len(requests))
        return answers(self, requests, sampling)

    monkeypatch.setattr(TransformersEngine, "answers", spy)
    judge = ["eval", str(run), "--max-new-tokens", "6", "--judge", "python", "--function"]
    assert main([*judge, f"{tmp_path / 'score.py'}:longer"]) == 0
    assert sum(generated) > 0
    generated.clear()
    assert main([*judge, f"{tmp_path / 'score.py'}:shorter"]) == 0
    assert generated == []
    assert "look 2 at this run" in capsys.readouterr().out
    assert "Looks" in (run / "report.html").read_text()
    looks = [json.loads(line) for line in (run / "eval" / "looks.jsonl").read_text().splitlines()]
    assert len(looks) == 2
    assert main([*judge, f"{tmp_path / 'score.py'}:shorter"]) == 0  # the same again is no new look
    assert len((run / "eval" / "looks.jsonl").read_text().splitlines()) == 2
