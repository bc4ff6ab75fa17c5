"""From data to a verdict through the public calls, and the same numbers as the command's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import prefine as pf
from prefine.cli import main


def longer(prompt: str, response: str) -> float:
    return float(len(response))


SETTINGS: dict[str, Any] = {
    **{"max_steps": 4, "logging_steps": 1, "learning_rate": 1e-3, "per_device_train_batch_size": 8, "eval_fraction": 0.25, "seed": 3},
    **{"report_to": "none"},
}


@pytest.fixture(scope="module")
def run(lab_model: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> pf.Run:
    return pf.dpo(model=str(lab_model), data=str(pairs_file), output_dir=str(tmp_path_factory.mktemp("api") / "run"), **SETTINGS)


@pytest.mark.filterwarnings("ignore")
def test_the_call_equals_the_command(run: pf.Run, lab_model: Path, pairs_file: Path, tmp_path: Path, capsys: Any) -> None:
    words = [w for k, v in SETTINGS.items() for w in (f"--{k.replace('_', '-')}", str(v))]
    assert main(["dpo", "--model", str(lab_model), "--data", str(pairs_file), "--output-dir", str(tmp_path / "c"), *words]) == 0
    other = pf.Run(tmp_path / "c")
    names = ["loss", "rewards/margins", "logps/chosen"]
    assert run.metrics[names].dropna().to_numpy().tolist() == other.metrics[names].dropna().to_numpy().tolist()
    mine, theirs = run.evaluations["final"], other.evaluations["final"]
    assert mine["learning"] == theirs["learning"]
    assert mine["outcome"] == theirs["outcome"]
    theirs_config = other.config | {"output_dir": run.config["output_dir"]}
    assert run.config == theirs_config


@pytest.mark.filterwarnings("ignore")
def test_what_a_run_tells(run: pf.Run, tmp_path: Path) -> None:
    assert list(run.metrics["step"])[:4] == [1, 2, 3, 4]
    assert run.config["learning_rate"] == 1e-3
    assert "dpo" in repr(run)
    model, tokenizer = run.load_model()
    assert tokenizer.decode(model.generate(**tokenizer("hello", return_tensors="pt"), max_new_tokens=2)[0])
    folder = run.merge(tmp_path / "merged")
    assert (folder / "model.safetensors").exists()
    first = (run.path / "config.yaml").read_text().splitlines()[0]
    assert first.startswith("# repeat: prefine dpo --model")
    assert run.report() == run.path / "report.html"


@pytest.mark.filterwarnings("ignore")
def test_judges_as_objects_and_functions(run: pf.Run) -> None:
    found = run.evaluate(judge=longer, max_new_tokens=6, name="longer")
    assert 0 <= found.win_rate.low <= found.win_rate.estimate <= found.win_rate.high <= 1  # type: ignore[union-attr]
    assert found.outcome in ("better", "worse", "inconclusive", "better, but", "too few prompts")
    again = run.evaluate(judge=pf.FunctionJudge(longer), max_new_tokens=6, name="again")
    assert again.win_rate == found.win_rate
    table = run.responses("longer")
    assert {"prompt", "base", "tuned", "win"} <= set(table.columns)
    assert "longer" in run.evaluations
    assert found._repr_html_()
    with pytest.raises(pf.PrefineError, match="no evaluation 'longr'"):
        run.responses("longr")


def in_lists(prompts: list[str], responses: list[str]) -> list[float]:
    return [float(len(r)) for r in responses]


def as_trl(prompts: Any, completions: Any, **columns: Any) -> list[float]:
    assert all(isinstance(p, list) for p in prompts)  # messages, as TRL gives them
    return [float(len(c[0]["content"])) for c in completions]


async def later(prompt: str, response: str) -> float:
    return float(len(response))


@pytest.mark.parametrize("function", [longer, in_lists, as_trl, later])
def test_functions_of_every_kind_judge_files_alike(function: Any, tmp_path: Path) -> None:
    for name, texts in (("base", ["a", "bbb", "c"]), ("tuned", ["aa", "b", "c"])):
        rows = [{"instruction": f"q{i}", "output": text, "generator": name} for i, text in enumerate(texts)]
        (tmp_path / f"{name}.json").write_text(json.dumps(rows))
    found = pf.judge(tmp_path / "base.json", tmp_path / "tuned.json", judge=function, output_dir=tmp_path / "out")
    assert (found.summary["wins"], found.summary["losses"], found.summary["draws"]) == (1, 1, 1)


def test_judges_that_differ_have_other_names(tmp_path: Path) -> None:
    from prefine.api.judges import JudgeChoice, build_judge, qualification_file

    class Counts:
        def __init__(self, word: str) -> None:
            self.word = word

        def __call__(self, prompt: str, response: str) -> float:
            return response.count(self.word)

    def counting(word: str) -> Any:
        return lambda prompt, response: response.count(word)

    judges = [lambda p, r: r.count("good"), lambda p, r: r.count("bad"), Counts("a"), Counts("b"), counting("a"), counting("b")]
    choices = [JudgeChoice(j) for j in judges]
    built = [build_judge(c, ("a", "b")) for c in choices]
    assert len({j.name for j in built if j}) == len(judges)
    assert len({qualification_file(j, c) for j, c in zip(built, choices, strict=True) if j}) == len(judges)
    again = build_judge(JudgeChoice(counting("a")), ("a", "b"))
    assert again is not None
    assert again.name == built[4].name  # type: ignore[union-attr]
    own = JudgeChoice(pf.FakeJudge())
    assert qualification_file(pf.FakeJudge(), own) is None


@pytest.mark.parametrize("judge", [5, ["openai"], {"a": "b"}, pf.FakeJudge, "own", "openi"])
def test_what_is_no_judge_is_told(judge: Any, tmp_path: Path) -> None:
    for name in ("base", "tuned"):
        (tmp_path / f"{name}.json").write_text(json.dumps([{"instruction": "q", "output": name, "generator": name}]))
    with pytest.raises(pf.PrefineError, match="judge"):
        pf.judge(tmp_path / "base.json", tmp_path / "tuned.json", judge=judge)


def test_a_function_that_raises_is_told(tmp_path: Path) -> None:
    def broken(prompt: str, response: str) -> float:
        raise KeyError("no such column")

    for name in ("base", "tuned"):
        (tmp_path / f"{name}.json").write_text(json.dumps([{"instruction": "q", "output": name, "generator": name}]))
    with pytest.raises(pf.PrefineError, match="KeyError: 'no such column'"):
        pf.judge(tmp_path / "base.json", tmp_path / "tuned.json", judge=broken, output_dir=tmp_path / "out")


@pytest.mark.filterwarnings("ignore")
def test_models_in_memory_whoever_trained_them(lab_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(lab_model)
    base, tuned = (AutoModelForCausalLM.from_pretrained(lab_model) for _ in range(2))
    prompts = [f"my kettle is {word}" for word in ("frozen", "loud", "hot", "slow")]
    same = pf.evaluate(base, tuned, prompts, tokenizer=tokenizer, judge=longer, max_new_tokens=5)
    assert same.win_rate.estimate == 0.5  # type: ignore[union-attr]
    assert same.summary["draws"] == 4
    with torch.no_grad():
        tuned.lm_head.weight.copy_(torch.randn_like(tuned.lm_head.weight))
    other = pf.evaluate(base, tuned, prompts, tokenizer=tokenizer, judge=longer, max_new_tokens=5)
    assert other.summary["draws"] < 4
    named = pf.evaluate(base, tuned, prompts, judge=longer, max_new_tokens=5)  # by the tuned model's own name
    assert named.summary["draws"] == other.summary["draws"]
    for model in (base, tuned):
        model.config._name_or_path = ""
        model.name_or_path = ""
    with pytest.raises(TypeError, match="tokenizer"):
        pf.evaluate(base, tuned, prompts, judge=longer)


@pytest.mark.filterwarnings("ignore")
def test_models_in_memory_are_left_as_they_were(lab_model: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(lab_model)
    base, tuned = (AutoModelForCausalLM.from_pretrained(lab_model).train() for _ in range(2))
    base.lm_head.weight.requires_grad_(False)
    pf.evaluate(base, tuned, ["my kettle is loud", "my lamp is hot"], tokenizer=tokenizer, judge=longer, max_new_tokens=3)
    assert base.training
    assert tuned.training
    assert [n for n, p in base.named_parameters() if not p.requires_grad] == ["model.embed_tokens.weight"]  # the head is tied to it
    assert all(p.requires_grad for p in tuned.parameters())


@pytest.mark.filterwarnings("ignore")
def test_data_of_every_kind_trains_the_same(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    from transformers.utils import logging

    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    data = pf.load_preferences(pairs_file)
    kinds = [pairs_file, [pairs_file], (str(pairs_file),), rows, data, [data], data.to_dataset(), data.to_pandas()]
    before = logging.get_verbosity()
    losses = []
    for place, given in enumerate(kinds):
        run = pf.dpo(lab_model, given, tmp_path / str(place), **SETTINGS | {"max_steps": 2, "final_eval": "off"})
        losses.append(run.metrics["loss"].dropna().tolist())
        repeat = (run.path / "config.yaml").read_text().splitlines()[0]
        assert "Preferences" not in repeat
        assert "Dataset" not in repeat
    assert all(found == losses[0] for found in losses)
    assert logging.get_verbosity() == before
    renamed = [{"question": r["prompt"], "chosen": r["chosen"], "rejected": r["rejected"]} for r in rows[:48]]
    named = pf.load_preferences(renamed, map={"prompt": "question"})
    short = SETTINGS | {"max_steps": 1, "final_eval": "off", "eval_fraction": None}
    run = pf.dpo(lab_model, named, tmp_path / "named", eval_data=data, **short)
    assert run.data["pairs"] == 48
    with pytest.raises(pf.PrefineError, match="all of its prompts are trained on"):
        pf.dpo(lab_model, data, tmp_path / "same", eval_data=data, **short)
    with pytest.raises(pf.PrefineError, match="map would be ignored"):
        pf.dpo(lab_model, named, tmp_path / "more", map={"prompt": "question"})


def test_a_call_that_fails_leaves_nothing(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    with pytest.raises(pf.PrefineError):
        pf.dpo(lab_model, pairs_file, tmp_path / "runs" / "r", retain="nowhere.jsonl", max_steps=1)
    assert not (tmp_path / "runs").exists()


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_in_memory_against_the_base_in_it(lab_model: Path) -> None:
    """Only what differs is compared: the base must answer with the adapter off."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(lab_model)
    tuned = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False))
    tokenizer = AutoTokenizer.from_pretrained(lab_model)
    found = pf.evaluate(base, tuned, ["my kettle is loud", "my phone is hot"], tokenizer=tokenizer, judge=longer, max_new_tokens=8)
    assert found.samples[0][1] != found.samples[0][2]


def test_three_mistakes(tmp_path: Path, lab_model: Path, pairs_file: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        pf.dpo(model=str(lab_model), data="nowhere.jsonl", output_dir=tmp_path / "r")
    with pytest.raises(FileNotFoundError, match="not a run directory"):
        pf.Run(tmp_path)
    for name in ("base", "tuned"):
        (tmp_path / f"{name}.json").write_text(json.dumps([{"instruction": "q", "output": name, "generator": name}]))
    with pytest.raises(pf.PrefineError, match="needs --judge"):
        pf.judge(tmp_path / "base.json", tmp_path / "tuned.json")


@pytest.mark.filterwarnings("ignore")
def test_prompts_in_memory(lab_model: Path, tmp_path: Path) -> None:
    prompts = ["my kettle is loud", [{"role": "user", "content": "my lamp is hot"}]]
    found = pf.generate(lab_model, prompts, tmp_path / "r.jsonl", max_new_tokens=3)
    assert found.answered == 2
    made = pf.make_pairs(lab_model, prompts, tmp_path / "p.jsonl", judge=longer, max_new_tokens=6)
    assert made.file == tmp_path / "p.jsonl"


@pytest.mark.filterwarnings("ignore")
def test_what_loading_takes_is_used_up(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    short = SETTINGS | {"max_steps": 1}
    run = pf.dpo(lab_model, pairs_file, tmp_path / "r", model_init_kwargs={"attn_implementation": "eager"}, **short)
    assert run.config["model_init_kwargs"] == {"attn_implementation": "eager"}
