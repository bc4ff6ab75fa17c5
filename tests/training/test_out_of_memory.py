"""Memory that runs out anywhere in a run: the same result, a number learned for the next run, or one sentence."""

from __future__ import annotations

import copy
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from conftest import lab_pairs
from prefine import (
    DPOConfig,
    DPOTrainer,
    OnlineDPOConfig,
    OnlineDPOTrainer,
    PPOConfig,
    PPOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)
from prefine.cli import main
from prefine.errors import DataError, ModelError
from prefine.generation.engine import Sampling
from prefine.generation.generate import generate
from prefine.lab.model import build_tokenizer
from prefine.packing.budget import TokenBudget
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup, as_ids
from prefine.packing.learned_tokens import learned_tokens, memory_key, remember_tokens
from prefine.packing.out_of_memory import is_out_of_memory, smaller_on_oom
from prefine.scoring.merging import merge
from prefine.scoring.scorer import Scorer
from prefine.training.optimizer_step import survive_out_of_memory
from starved import Starved, places

pytestmark = pytest.mark.filterwarnings("ignore:out of memory", "ignore:use_margins", "ignore:the tokenizer has no pad")
ROWS = lab_pairs(40)
PROMPTS = [r["prompt"] for r in ROWS]
UNTOLD = ("per_second", "memory", "runtime")
"""Logged, and no part of the result."""


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    # Adam divides by a gradient's size, which makes rounding large where a gradient is all rounding; this epsilon does not.
    common: dict[str, Any] = {
        **{"output_dir": str(folder), "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "seed": 3, "max_steps": 3},
        **{"learning_rate": 1e-2, "adam_epsilon": 1e-2, "eval_strategy": "steps", "eval_steps": 2, "logging_steps": 1},
        **{"save_strategy": "no", "disable_tqdm": True, "report_to": "none"},
    }
    return common | changes


def dpo(model: Path, folder: Path, **changes: Any) -> Any:
    return DPOTrainer(str(model), None, DPOConfig(**settings(folder, **changes)), train_dataset=ROWS[:32], eval_dataset=ROWS[32:])


def sft(model: Path, folder: Path) -> Any:
    return SFTTrainer(str(model), SFTConfig(**settings(folder)), train_dataset=ROWS[:32], eval_dataset=ROWS[32:])


def reward(model: Path, folder: Path) -> Any:
    return RewardTrainer(str(model), RewardConfig(**settings(folder)), train_dataset=ROWS[:32], eval_dataset=ROWS[32:])


def classifier(model: Path, folder: Path) -> Any:
    return copy.deepcopy(reward(model, folder).model).eval()


def ppo(model: Path, folder: Path) -> Any:
    args = PPOConfig(**settings(folder, response_length=6, num_mini_batches=2, num_ppo_epochs=1, max_steps=4))
    return PPOTrainer(args, build_tokenizer(), str(model), None, classifier(model, folder), PROMPTS[:32], eval_dataset=PROMPTS[32:])


def online_dpo(model: Path, folder: Path) -> Any:
    args = OnlineDPOConfig(**settings(folder, max_new_tokens=6))
    asked = [{"prompt": p} for p in PROMPTS]
    return OnlineDPOTrainer(str(model), None, classifier(model, folder), args, None, asked[:32], asked[32:], build_tokenizer())


METHODS: dict[str, Callable[..., Any]] = {"dpo": dpo, "sft": sft, "reward": reward, "ppo": ppo, "online_dpo": online_dpo}


def forget() -> None:
    (Path(os.environ["PREFINE_CACHE"]) / "token_budgets.json").unlink(missing_ok=True)


def ran(name: str, model: Path, folder: Path, starved: Starved) -> Any:
    forget()
    trainer = METHODS[name](model, folder)
    with starved:
        trainer.train()
    return trainer


def told(trainer: Any) -> list[dict[str, float]]:
    """What was logged, but for how long it took."""
    return [{k: v for k, v in entry.items() if not any(w in k for w in UNTOLD)} for entry in trainer.state.log_history]


def check_same(trainer: Any, plain: Any) -> None:
    for found, expected in zip(told(trainer), told(plain), strict=True):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for name, weight in plain.model.state_dict().items():
        assert torch.allclose(trainer.model.state_dict()[name], weight, rtol=0, atol=1e-6), name


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.long
def test_a_run_out_of_memory_anywhere_is_the_same_run(name: str, lab_model: Path, tmp_path: Path) -> None:
    """Weights and every logged mean, those of rollouts and evaluations too, whichever operation fails."""
    plain = ran(name, lab_model, tmp_path, Starved())
    for place in places(lambda s: ran(name, lab_model, tmp_path, s), 4, seed=len(name)):
        starved = Starved(place)
        check_same(ran(name, lab_model, tmp_path, starved), plain)
        assert starved.failed, place


def test_failures_one_after_the_other(lab_model: Path, tmp_path: Path) -> None:
    plain = ran("dpo", lab_model, tmp_path, Starved())
    starved = Starved(400, 700, 1200, 2600)
    check_same(ran("dpo", lab_model, tmp_path, starved), plain)
    assert len(starved.failed) == 4


@pytest.mark.parametrize(
    "words", ["CUBLAS_STATUS_ALLOC_FAILED", "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"]
)
def test_a_run_survives_other_words_for_it(words: str, lab_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "OutOfMemoryError", RuntimeError)
    starved = Starved(500, words=words)
    check_same(ran("dpo", lab_model, tmp_path, starved), ran("dpo", lab_model, tmp_path, Starved()))
    assert starved.failed


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9.05 GB, max allowed: 9.07 GB)"), True),
        (RuntimeError("HIP out of memory. Tried to allocate 20.00 MiB"), True),
        (RuntimeError("HIP error: hipErrorOutOfMemory"), True),
        (RuntimeError("XPU out of memory. Tried to allocate 1.00 GiB"), True),
        (RuntimeError("level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
        (ModelError("out of memory with a single prompt"), False),
        (DataError("out of memory"), False),
    ],
)
def test_what_running_out_of_memory_is_called(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_the_error_that_another_was_raised_from_counts() -> None:
    error = OSError("loading failed")
    assert not is_out_of_memory(error)
    error.__cause__ = torch.OutOfMemoryError("CUDA out of memory")
    assert is_out_of_memory(error)


def test_a_failed_trys_tensors_are_gone_before_the_next() -> None:
    class Tensor:
        alive = 0

        def __init__(self) -> None:
            Tensor.alive += 1

        def __del__(self) -> None:
            Tensor.alive -= 1

    seen, size = [], [4]

    def work() -> int:
        seen.append(Tensor.alive)
        held = [Tensor() for _ in range(size[0])]
        if len(held) > 1:
            raise MemoryError
        return len(held)

    assert smaller_on_oom(work, lambda: size.append(size.pop() // 2)) == 1
    assert seen == [0, 0, 0]


# ---- the optimizer's step

KINDS = [
    (torch.optim.AdamW, {"fused": True}),
    (torch.optim.AdamW, {"foreach": True}),
    (torch.optim.AdamW, {"foreach": False}),
    (torch.optim.Adam, {"amsgrad": True}),
    (torch.optim.SGD, {"momentum": 0.9}),
    (torch.optim.RMSprop, {}),
    (torch.optim.Adagrad, {}),
    (torch.optim.NAdam, {}),
    (torch.optim.RAdam, {}),
    (torch.optim.Adamax, {}),
    (torch.optim.Adadelta, {}),
    (torch.optim.ASGD, {}),
    (torch.optim.Adafactor, {}),
]


def stepped(kind: Any, options: dict[str, Any], survives: bool, place: int = 0) -> tuple[list[torch.Tensor], Starved]:
    """Parameters after four steps, with a failure in the steps alone."""
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((16, 9), (80,), (8, 8), (70, 1))]
    optimizer = kind([{"params": parameters[:2], "weight_decay": 0.1}, {"params": parameters[2:]}], lr=0.1, **options)
    if survives:
        survive_out_of_memory(optimizer)
    starved = Starved(place)
    for _ in range(4):
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=generator)
        with starved:
            optimizer.step()
    return parameters, starved


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_no_parameter_moves_twice(kind: Any, options: dict[str, Any]) -> None:
    expected, _ = stepped(kind, options, survives=False)
    same, whole = stepped(kind, options, survives=True)
    assert all(torch.equal(a, b) for a, b in zip(same, expected, strict=True))
    for place in random.Random(0).sample(range(1, whole.count + 1), min(8, whole.count)):
        found, starved = stepped(kind, options, True, place)
        assert starved.failed
        for a, b in zip(found, expected, strict=True):
            assert torch.allclose(a, b, atol=1e-6), starved.failed


def test_a_parameter_that_cannot_be_moved_is_a_sentence() -> None:
    p = torch.nn.Parameter(torch.ones(100))
    optimizer = torch.optim.AdamW([p], foreach=False)
    survive_out_of_memory(optimizer)
    p.grad = torch.ones(100)
    with pytest.raises(ModelError, match=r"step of AdamW with a single parameter of shape \(100,\); .*--resume"), Starved(*range(1, 50)):
        optimizer.step()
    assert torch.equal(p, torch.ones(100))
    assert not optimizer.state


# ---- evaluation, sampling, merging


def test_responses_are_the_same_whichever_operation_fails(lab_model: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(lab_model), build_tokenizer()
    ids = [Encoder(tokenizer).prompt_ids(p) for p in PROMPTS[:12]]

    def sampled(starved: Starved) -> dict[int, Any]:
        forget()
        with starved:
            return dict(generate(model, tokenizer, ids, Sampling(8, 1.0), range(12), 5))

    expected = sampled(Starved())
    for place in places(sampled, 6):
        starved = Starved(place)
        assert {i: a.ids for i, a in sampled(starved).items()} == {i: a.ids for i, a in expected.items()}
        assert starved.failed
    with pytest.raises(ModelError, match=r"a single prompt of \d+ tokens and 8 of its response \('.+'\.\.\.\); lower max_new_tokens"):
        sampled(Starved(*range(1, 5000)))
    assert model.training is False


def numbers(found: Any) -> Any:
    """All numbers of a JSON value, in order."""
    if isinstance(found, dict):
        return [n for key in sorted(found) if not any(w in key for w in (*UNTOLD, "seconds")) for n in numbers(found[key])]
    if isinstance(found, list):
        return [n for item in found for n in numbers(item)]
    return [found] if isinstance(found, int | float) and not isinstance(found, bool) else []


@pytest.fixture(scope="module")
def finished(lab_model: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an adapter, and a reward model beside it."""
    folder = tmp_path_factory.mktemp("finished")
    common = ["--model", str(lab_model), "--data", str(pairs_file), "--max-steps", "2", "--eval-fraction", ".3"]
    assert (
        main(["dpo", *common, "--output-dir", str(folder / "run"), "--lora-r", "4", "--final-eval", "off", "--learning-rate", "1e-2"]) == 0
    )
    assert main(["reward", *common, "--output-dir", str(folder / "reward")]) == 0
    return folder


def fails_somewhere(work: Callable[[], Any], number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What ``work`` gives undisturbed, and where an operation fails at each of several places; each with a cache of its own."""

    def one(starved: Starved) -> Any:
        monkeypatch.setenv("PREFINE_CACHE", str(tmp_path / f"cache-{len(os.listdir(tmp_path))}"))
        Path(os.environ["PREFINE_CACHE"]).mkdir()
        with starved:
            return work()

    out = [one(Starved())]
    for place in places(one, number):
        starved = Starved(place)
        out.append(one(starved))
        assert starved.failed, place
    return out


@pytest.mark.parametrize("judge", ["reward-model", "implicit"])
@pytest.mark.long
def test_an_evaluation_is_the_same(judge: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "text.txt"
    text.write_text(" ".join(r["chosen"] for r in ROWS) * 3)
    with_judge = ["--reward-model", str(finished / "reward")] if judge == "reward-model" else ["--reward-run", str(finished / "run")]

    def evaluated() -> list[float]:
        run = tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(finished / "run", run)
        words = ["--name", "e", "--max-new-tokens", "6", "--max-prompts", "8", "--judge", judge, *with_judge, "--perplexity", str(text)]
        assert main(["eval", str(run), *words]) == 0
        return numbers(json.loads((run / "eval" / "e" / "summary.json").read_text()))

    expected, *found = fails_somewhere(evaluated, 4, monkeypatch, tmp_path)
    assert len(expected) > 50
    for one in found:
        assert one == pytest.approx(expected, rel=1e-4, abs=1e-5, nan_ok=True)


def test_the_audits_policy_and_merging_are_the_same(
    finished: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def audited() -> str:
        assert main(["data", "audit", str(pairs_file), "--model", str(finished / "run" / "model"), "--policy"]) == 0
        return capsys.readouterr().out

    expected, *found = fails_somewhere(audited, 6, monkeypatch, tmp_path)
    assert "off-policy" in expected
    assert all(one == expected for one in found)

    def merged() -> dict[str, torch.Tensor]:
        shutil.rmtree(tmp_path / "merged", ignore_errors=True)
        merge(finished / "run" / "model", tmp_path / "merged")
        return {k: v for file in (tmp_path / "merged").glob("*.safetensors") for k, v in load_file(file).items()}

    monkeypatch.setattr("prefine.scoring.merging.load_model", _quietly("prefine.scoring.loading"))
    whole, *others = fails_somewhere(merged, 8, monkeypatch, tmp_path)
    assert whole
    for one in others:
        assert one.keys() == whole.keys()
        assert all(torch.allclose(one[name], whole[name], atol=1e-6) for name in whole)


def _quietly(module: str) -> Callable[..., Any]:
    """Loading, in which nothing fails: a model that cannot be loaded is a sentence, below."""
    import importlib

    load_model = importlib.import_module(module).load_model

    def load(*args: Any, **kwargs: Any) -> Any:
        with torch.utils._python_dispatch._disable_current_modes():
            return load_model(*args, **kwargs)

    return load


# ---- what is learned


def test_what_was_learned_is_remembered(lab_model: Path, tmp_path: Path) -> None:
    file = Path(os.environ["PREFINE_CACHE"]) / "token_budgets.json"
    plain = ran("dpo", lab_model, tmp_path, Starved())
    assert not file.exists()
    tight = ran("dpo", lab_model, tmp_path, Starved(400))
    assert tight.budget.tokens < plain.budget.tokens
    again = dpo(lab_model, tmp_path)
    assert again.budget.tokens == tight.budget.tokens
    again.train()
    check_same(again, plain)
    assert dpo(lab_model, tmp_path, token_budget=999).budget.tokens == 999
    assert dpo(lab_model, tmp_path, gradient_checkpointing=False).budget.tokens == plain.budget.tokens  # another need, another number
    for damaged in ("", "{", "[1]", '{"x": 1}', json.dumps({k: v for k in json.loads(file.read_text()) for v in [-5]}), "\x00"):
        file.write_text(damaged)
        assert dpo(lab_model, tmp_path).budget.tokens == plain.budget.tokens


def test_the_key_tells_models_apart(lab_model: Path, chat_model: Path) -> None:
    one, other = (AutoModelForCausalLM.from_pretrained(m) for m in (lab_model, chat_model))
    keys = [memory_key(m, work) for m in (one, other, copy.deepcopy(one).bfloat16()) for work in ("train", "score", "sample")]
    assert len(set(keys)) == len(keys)
    remember_tokens(keys[0], 77)
    remember_tokens(keys[1], 55)
    assert [learned_tokens(k) for k in keys[:3]] == [77, 55, None]


def test_a_cache_that_cannot_be_written_to_learns_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PREFINE_CACHE", str(tmp_path / "file" / "below"))
    remember_tokens("key", 5)
    assert learned_tokens("key") is None


# ---- what does not fit


def test_a_row_that_does_not_fit_is_named(lab_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest row alone is too much: after some halving the sentence names it, and what to change."""
    trainer = dpo(lab_model, tmp_path)
    longest = max(trainer.train_dataset, key=lambda g: g.num_tokens())
    read = Scorer.read

    def starve(self: Scorer, pack: Any, work: Any) -> Any:
        if any(g.index == longest.index for g in pack.groups):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return read(self, pack, work)

    monkeypatch.setattr(Scorer, "read", starve)
    with pytest.raises(ModelError, match=rf"row {longest.index} alone, .* {longest.num_tokens()} tokens .*max_length.*LoRA or in 4-bit"):
        trainer.train()


def test_budget_each_gives_every_group_once_in_order() -> None:
    trainer_groups = [g for g in _groups((6, 10, 31, 3, 3, 8, 2, 2, 2))]
    budget, seen = TokenBudget(40), []

    def work(part: list[Any]) -> int:
        if sum(g.num_tokens() for g in part) > 31:
            raise MemoryError
        seen.append([g.index for g in part])
        return len(part)

    found = [(len(part), count) for part, count in budget.each(trainer_groups, True, work)]
    assert [i for part in seen for i in part] == list(range(1, 10))
    assert all(a == b for a, b in found)
    with pytest.raises(ModelError, match="row 3 alone"):
        list(TokenBudget(16).each(trainer_groups, True, lambda part: work(part) if part[0].index != 3 else _fail()))


def _fail() -> int:
    raise MemoryError


def _groups(sizes: tuple[int, ...]) -> list[Any]:
    return [PromptGroup(as_ids([1] * (n - 1)), (as_ids([2, 3]),), i) for i, n in enumerate(sizes, 1)]


@pytest.mark.parametrize("place", [3, 10, 30])
def test_a_model_that_does_not_fit_is_a_sentence(place: int, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.txt").write_text("hello\n")
    words = ["--model", str(finished / "run"), "--prompts", str(tmp_path / "p.txt"), "--output", str(tmp_path / "out.jsonl")]
    with Starved(*range(place, 100_000)):
        code = main(["generate", *words])
    err = capsys.readouterr().err
    assert code == 2
    assert "memory" in err
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if line.startswith("prefine: error: ")]) == 1


def test_where_others_wait_a_run_stops_and_says_with_what_to_go_on(
    lab_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other processes wait within a pass that this one has left: a step cannot be taken back."""
    trainer = dpo(lab_model, tmp_path, token_budget="200")

    def starve(self: Scorer, pack: Any, work: Any) -> Any:
        monkeypatch.setattr(type(trainer.together), "in_step", True)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Scorer, "read", starve)
    with pytest.raises(ModelError, match=r"packs of 200 tokens.*go on from the last checkpoint with --token-budget 100"):
        trainer.train()
