"""The DPO trainer: TRL's trajectory, split-invariance, out of memory, resume, references, retention."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from conftest import lab_pairs
from prefine import DPOConfig, DPOTrainer
from prefine.checkpoints import MANIFEST, faults
from prefine.errors import CheckpointError, ConfigError, ModelError
from prefine.packing.budget import TokenBudget
from prefine.runs import RunDirectory
from prefine.scoring.scorer import Scorer

PAIRS = lab_pairs(64)


def config(folder: Path, **changes: Any) -> DPOConfig:
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-3,
        "max_steps": 6,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 3,
    }
    return DPOConfig(output_dir=str(folder), **{**settings, **changes})


def losses(trainer: Any, key: str = "loss") -> list[float]:
    return [entry[key] for entry in trainer.state.log_history if key in entry]


def trained(model: Path | Any, folder: Path, rows: Any = None, peft: Any = None, **changes: Any) -> DPOTrainer:
    tokenizer = changes.pop("tokenizer", None)
    trainer = DPOTrainer(str(model) if isinstance(model, Path) else model, None, config(folder, **changes), train_dataset=rows or PAIRS,
                         processing_class=tokenizer, peft_config=peft)  # fmt: skip
    trainer.train()
    return trainer


@pytest.mark.filterwarnings("ignore")
def test_fifty_steps_equal_trl(lab_model: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    rows = [r | {"chosen": _turn(r["chosen"]), "rejected": _turn(r["rejected"])} for r in PAIRS]
    common = {"max_steps": 50, "logging_steps": 1, "per_device_train_batch_size": 8, "learning_rate": 1e-3, "seed": 3,
              "save_strategy": "no", "disable_tqdm": True, "report_to": "none", "gradient_checkpointing": False}  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(lab_model)
    theirs = trl.DPOTrainer(
        AutoModelForCausalLM.from_pretrained(lab_model, dtype=torch.float32),
        args=trl.DPOConfig(output_dir=str(tmp_path / "trl"), bf16=False, use_cpu=True, **common),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    theirs.train()
    ours = DPOTrainer(str(lab_model), args=DPOConfig(output_dir=str(tmp_path / "ours"), **common), train_dataset=Dataset.from_list(rows))
    ours.train()
    assert len(losses(ours)) == 50
    assert losses(ours) == pytest.approx(losses(theirs), abs=1e-4)
    for key in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected",
                "entropy", "logits/chosen", "logits/rejected", "mean_token_accuracy", "num_tokens"):  # fmt: skip
        assert losses(ours, key) == pytest.approx(losses(theirs, key), rel=2e-3, abs=2e-3), key
    assert losses(ours)[-1] < 0.6 < losses(ours)[0]


def _turn(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize("loss", [["sigmoid"], ["aot"], ["kto_pair"], ["sigmoid", "sft"], ["aot_unpaired", "sigmoid"]])
def test_the_split_does_not_change_the_trajectory(lab_model: Path, tmp_path: Path, loss: list[str]) -> None:
    whole = trained(lab_model, tmp_path / "a", loss_type=loss)
    split = trained(lab_model, tmp_path / "b", loss_type=loss, token_budget="60")
    accumulated = trained(lab_model, tmp_path / "c", loss_type=loss, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert losses(split) == pytest.approx(losses(whole), rel=1e-4)
    if loss == ["sigmoid"]:  # the others are defined on the batch, so half batches are another loss
        assert losses(accumulated) == pytest.approx(losses(whole), rel=1e-4)


def test_starts_at_ln_2_and_says_what_sharing_saved(lab_model: Path, tmp_path: Path) -> None:
    first = trained(lab_model, tmp_path, max_steps=2).state.log_history[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert 0.1 < first["tokens_saved_by_sharing"] < 0.5
    assert first["tokens_per_second"] > 0
    assert first["peak_memory_bytes"] > 1e6


@pytest.mark.filterwarnings("ignore:out of memory")
@pytest.mark.parametrize("loss", [["sigmoid"], ["aot"]])
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_out_of_memory_goes_on_with_the_same_result(
    lab_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, loss: list[str]
) -> None:
    settings = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4, "loss_type": loss}
    plain = trained(lab_model, tmp_path / "a", **settings)
    limit, raised = 100, []
    true_read = Scorer.read

    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            raised.append("backward")
            raise torch.OutOfMemoryError("CUDA out of memory")

    def read(self: Scorer, pack: Any, work: Any) -> Any:
        first, *more = true_read(self, pack, work)
        if pack.num_tokens > limit:
            if where == "forward":
                raised.append("forward")
                raise torch.OutOfMemoryError("CUDA out of memory")
            if torch.is_grad_enabled():
                return Fails.apply(first), *more
        return first, *more

    monkeypatch.setattr(Scorer, "read", read)
    tight = trained(lab_model, tmp_path / "b", **settings)
    assert raised
    assert tight.budget.tokens <= limit
    assert losses(tight) == pytest.approx(losses(plain), rel=1e-4)


def test_out_of_memory_with_one_prompt_is_an_error(lab_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(self: Scorer, pack: Any, work: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer = DPOTrainer(str(lab_model), args=config(tmp_path), train_dataset=PAIRS)
    monkeypatch.setattr(Scorer, "read", read)
    with pytest.warns(UserWarning, match="out of memory"), pytest.raises(ModelError, match="single prompt"):
        trainer.train()


def test_lora_reference_is_the_adapter_off(lab_model: Path, tmp_path: Path) -> None:
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = trained(lab_model, tmp_path, peft=lora, learning_rate=1e-2)
    assert trainer.reference is not None
    assert trainer.reference.is_policy
    assert losses(trainer)[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses(trainer)[-1] < losses(trainer)[0]
    trainer.save_model(str(tmp_path / "adapter"))
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()


def test_training_an_adapter_further_starts_from_it(lab_model: Path, tmp_path: Path) -> None:
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    trained(lab_model, tmp_path / "a", peft=lora, learning_rate=1e-2).save_model(str(tmp_path / "adapter"))
    shutil.copytree(lab_model, tmp_path / "tokenizer")
    again = trained(tmp_path / "adapter", tmp_path / "b")
    assert losses(again)[0] == pytest.approx(math.log(2), abs=1e-5)  # not the bare base
    again.save_model(str(tmp_path / "second"))
    assert not (tmp_path / "second" / "reference").exists()


@pytest.mark.filterwarnings("ignore::prefine.training.prepared.DataWarning")
def test_precomputed_reference_is_the_same_and_cached_by_content(lab_model: Path, tmp_path: Path) -> None:
    live = trained(lab_model, tmp_path / "a")
    cache = tmp_path / "cache"
    settings = {"precompute_ref_log_probs": True, "reference_cache_dir": str(cache)}
    first = trained(lab_model, tmp_path / "b", **settings)
    assert losses(first) == pytest.approx(losses(live), rel=1e-5)
    trained(lab_model, tmp_path / "c", **settings, learning_rate=2e-3)
    assert len(list(cache.iterdir())) == 1  # a new learning rate reuses it
    trained(lab_model, tmp_path / "d", **settings, max_length=22)
    assert len(list(cache.iterdir())) == 2  # another truncation does not


def test_in_memory_weights_are_the_reference(lab_model: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(lab_model, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    trainer = DPOTrainer(model, args=config(tmp_path, max_steps=1), train_dataset=PAIRS)  # tokenizer from the folder
    trainer.train()
    assert losses(trainer)[0] == pytest.approx(math.log(2), abs=1e-6)


def test_a_given_reference_that_is_not_the_start_is_warned_of(lab_model: Path, tmp_path: Path) -> None:
    other = AutoModelForCausalLM.from_pretrained(lab_model, dtype=torch.float32)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    trainer = DPOTrainer(str(lab_model), other, config(tmp_path, max_steps=1), train_dataset=PAIRS)
    with pytest.warns(UserWarning, match="not the policy's start"):
        trainer.train()


def test_resume_continues_the_trajectory(lab_model: Path, tmp_path: Path, pairs_file: Path) -> None:
    changes = {"save_strategy": "steps", "save_steps": 2, "retain": str(_facts(tmp_path)), "max_steps": 6}
    whole = trained(lab_model, tmp_path / "run" / "checkpoints", **changes)
    run = RunDirectory(tmp_path / "run")
    assert run.last_checkpoint() == tmp_path / "run" / "checkpoints" / "checkpoint-6"
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-6")
    (tmp_path / "run" / "checkpoints" / "checkpoint-4" / MANIFEST).unlink()  # killed while it was written
    again = DPOTrainer(str(lab_model), args=config(tmp_path / "run" / "checkpoints", **changes), train_dataset=PAIRS)
    again.train(resume_from_checkpoint=str(run.last_checkpoint()))
    assert [e["step"] for e in again.state.log_history if "loss" in e] == [1, 2, 3, 4, 5, 6]
    assert losses(again) == pytest.approx(losses(whole), rel=1e-6)


@pytest.mark.parametrize("steps", [1, 2])
def test_the_reference_follows_the_policy(lab_model: Path, tmp_path: Path, steps: int) -> None:
    start = AutoModelForCausalLM.from_pretrained(lab_model, dtype=torch.float32).state_dict()
    trainer = trained(lab_model, tmp_path, max_steps=2, sync_ref_model=True, ref_model_sync_steps=steps, ref_model_mixup_alpha=0.25)
    assert trainer.reference is not None
    policy, reference = trainer.scorer.unwrapped.state_dict(), trainer.reference.scorer.unwrapped.state_dict()
    name = "model.norm.weight"
    if steps == 2:  # once, at the end
        assert torch.allclose(reference[name], 0.25 * policy[name] + 0.75 * start[name])
    assert not torch.equal(reference[name], start[name])
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    with pytest.raises(ConfigError, match="weights of its own"):
        trained(lab_model, tmp_path / "lora", peft=lora, sync_ref_model=True)
    with pytest.raises(ConfigError, match="would be ignored"):
        config(tmp_path, ref_model_sync_steps=4)
    with pytest.raises(ConfigError, match="not built alike"):
        DPOTrainer(str(lab_model), str(lab_model), config(tmp_path, sync_ref_model=True), train_dataset=PAIRS, peft_config=lora)


def test_a_moved_reference_survives_a_resume(lab_model: Path, tmp_path: Path) -> None:
    changes = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "sync_ref_model": True, "ref_model_sync_steps": 1}
    whole = trained(lab_model, tmp_path / "run" / "checkpoints", **changes)
    again = DPOTrainer(str(lab_model), args=config(tmp_path / "run" / "checkpoints", **changes), train_dataset=PAIRS)
    again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoints" / "checkpoint-2"))
    assert losses(again) == pytest.approx(losses(whole), rel=1e-6)
    assert losses(again, "num_tokens") == losses(whole, "num_tokens")


def test_a_trainer_verifies_what_it_resumes_from(lab_model: Path, tmp_path: Path) -> None:
    """As a script resumes, with a reference that moves and room for one checkpoint beside the best."""
    changes = {
        "save_strategy": "steps",
        "save_steps": 2,
        "save_total_limit": 2,
        "max_steps": 6,
        "sync_ref_model": True,
        "ref_model_sync_steps": 1,
    }
    whole = trained(lab_model, tmp_path, **changes)
    assert sorted(p.name for p in tmp_path.glob("*-*")) == ["checkpoint-4", "checkpoint-6"]
    moved = tmp_path / "checkpoint-6" / "reference.pt"
    content = bytearray(moved.read_bytes())
    content[-200] ^= 1
    moved.write_bytes(content)
    again = DPOTrainer(str(lab_model), args=config(tmp_path, **changes), train_dataset=PAIRS)
    with pytest.raises(CheckpointError, match=r"reference\.pt was altered"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    with pytest.warns(UserWarning, match=r"checkpoint-6 is passed over: reference\.pt was altered"):
        again.train(resume_from_checkpoint=True)
    assert losses(again) == pytest.approx(losses(whole), rel=1e-6)
    assert faults(tmp_path / "checkpoint-6") == []  # written anew
    done = DPOTrainer(str(lab_model), args=config(tmp_path, **changes), train_dataset=PAIRS)
    done.train(resume_from_checkpoint=True)
    assert done.state.global_step == 6
    ours, theirs = done.scorer.unwrapped.state_dict(), again.scorer.unwrapped.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_best_checkpoint_is_known_by_its_place(lab_model: Path, tmp_path: Path) -> None:
    more = {
        "eval_strategy": "steps",
        "eval_steps": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
        "save_total_limit": 1,
    }
    args = config(tmp_path, save_strategy="steps", save_steps=2, max_steps=6, **more)
    trainer = DPOTrainer(str(lab_model), args=args, train_dataset=PAIRS[:48], eval_dataset=PAIRS[48:])
    trainer.train()
    best = tmp_path / f"checkpoint-{trainer.state.best_global_step}"
    assert trainer.state.best_model_checkpoint == str(best)
    assert json.loads((best / "trainer_state.json").read_text())["best_model_checkpoint"] == str(best)
    assert faults(best) == []


def test_routers_are_balanced_as_plain_forwards_would(tmp_path: Path) -> None:
    from transformers import MixtralConfig, MixtralForCausalLM
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    from prefine.lab.model import build_model, build_tokenizer

    torch.manual_seed(0)
    model = MixtralForCausalLM(MixtralConfig(vocab_size=len(build_tokenizer()), hidden_size=32, intermediate_size=32, num_hidden_layers=2,
                               num_attention_heads=2, num_key_value_heads=2, num_local_experts=4, router_aux_loss_coef=0.5))  # fmt: skip
    trainer = DPOTrainer(model, args=config(tmp_path, max_steps=1, per_device_train_batch_size=1), train_dataset=PAIRS[:1],
                         processing_class=build_tokenizer())  # fmt: skip
    (group,) = trainer.train_dataset
    prompt = len(group.prompt_ids)
    by_layer: list[list[torch.Tensor]] = [[], []]
    for which, completion in enumerate(group.completion_ids):
        ids = torch.tensor([*group.prompt_ids, *completion[:-1]])[None]
        with torch.no_grad():
            for layer, logits in enumerate(model(ids, output_router_logits=True).router_logits):
                by_layer[layer].append(logits.view(-1, 4)[prompt if which else 0 :])  # the shared prompt stands once
    expected = load_balancing_loss_func(tuple(torch.cat(x) for x in by_layer), 4, model.config.num_experts_per_tok)
    trainer.train()
    assert losses(trainer, "aux_loss")[0] == pytest.approx(float(expected), rel=1e-5)
    assert losses(trainer)[0] == pytest.approx(math.log(2) + 0.5 * float(expected), rel=1e-5)
    with pytest.raises(ConfigError, match="no mixture of experts"):
        trained(build_model(0, hidden=32, layers=2), tmp_path, tokenizer=build_tokenizer(), router_aux_loss_coef=0.1)


def test_offloaded_activations_give_the_same_gradients(lab_model: Path) -> None:
    from prefine.training.offload import OffloadActivations

    model = AutoModelForCausalLM.from_pretrained(lab_model, dtype=torch.float32)
    ids = torch.arange(10)[None] + 20
    model(ids, labels=ids).loss.backward()
    plain = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    with OffloadActivations(model):
        loss = model(ids, labels=ids).loss
    loss.backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(plain, model.parameters(), strict=True) if p.grad is not None)


def test_a_reference_with_another_tokenizer_is_refused(lab_model: Path, tmp_path: Path) -> None:
    shutil.copytree(lab_model, tmp_path / "other")
    path = tmp_path / "other" / "tokenizer.json"
    path.write_text(path.read_text().replace('"printer"', '"plotter"'))
    with pytest.raises(ModelError, match=r"differs from the policy's in 2 of .*'plotter', 'printer'"):
        DPOTrainer(str(lab_model), str(tmp_path / "other"), config(tmp_path), train_dataset=PAIRS)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "other" / name).unlink(missing_ok=True)
    DPOTrainer(str(lab_model), str(tmp_path / "other"), config(tmp_path), train_dataset=PAIRS)  # saved without one: not checked


def _facts(folder: Path, answers: bool = True) -> Path:
    path = folder / "facts.jsonl"
    rows = [
        {"prompt": [{"role": "user", "content": f"what is {i} plus 1"}]} | ({"answer": str(i + 1)} if answers else {}) for i in range(9)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.mark.parametrize("answers", [True, False])
def test_retention_pulls_the_other_data(lab_model: Path, tmp_path: Path, answers: bool) -> None:
    trainer = trained(lab_model, tmp_path, retain=str(_facts(tmp_path, answers)), retain_weight=1.0 if answers else 30.0, max_steps=12)
    series = losses(trainer, "retention/loss")
    if answers:
        assert series[-1] < series[0]
    else:
        assert series[0] == pytest.approx(0, abs=1e-6)  # KL to the reference at the start
        free = trained(lab_model, tmp_path / "free", retain=str(_facts(tmp_path, answers)), retain_weight=1e-9, max_steps=12)
        assert losses(free, "retention/loss")[-1] > 2 * series[-1]


@pytest.mark.parametrize("changes", [{"ld_alpha": 0.5}, {"use_weighting": True}, {"loss_type": "simpo"}, {"loss_type": "orpo"}])
def test_variants_train(lab_model: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    series = losses(trained(lab_model, tmp_path, max_steps=15, **changes))
    assert sum(series[-3:]) < sum(series[:3])


def test_evaluation_metrics(lab_model: Path, tmp_path: Path) -> None:
    trainer = DPOTrainer(str(lab_model), args=config(tmp_path), train_dataset=PAIRS, eval_dataset=PAIRS[:20])
    found = trainer.evaluate()
    assert found["eval_loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert any("eval_rewards/margins" in e for e in trainer.state.log_history)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss_type": "sigmod"}, "did you mean 'sigmoid'"),
        ({"truncation_mode": "keep_ends"}, "keep_end"),
        ({"token_budget": "lots"}, "token_budget"),
        ({"max_length": 0}, "max_length"),
        ({"loss_type": "ipo", "label_smoothing": 0.1}, "would ignore"),
    ],
)
def test_bad_options_before_anything_is_loaded(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(tmp_path, **changes)


def test_budget_splits_in_order_and_halves() -> None:
    import numpy as np

    from prefine.packing.group import PromptGroup, as_ids

    groups = [PromptGroup(as_ids(np.arange(n)), (as_ids([1]), as_ids([2, 3]))) for n in (5, 9, 30, 2, 2)]
    budget = TokenBudget(16)  # sizes 6, 10, 31, 3, 3
    assert [[len(g.prompt_ids) for g in part] for part in budget.split(groups)] == [[5, 9], [30], [2, 2]]
    assert budget.halve(1000)
    assert budget.tokens == 8
    assert not TokenBudget(1).halve(1)


def test_trl_options_that_change_nothing_are_said_to(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="precompute_ref_batch_size: of no effect"):
        config(tmp_path, precompute_ref_batch_size=4)


def test_adapters_on_a_bfloat16_base_train_and_score(lab_model: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(lab_model, dtype=torch.bfloat16)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = DPOTrainer(model, args=config(tmp_path, bf16=True, learning_rate=1e-2), train_dataset=PAIRS, peft_config=lora)
    trainer.train()
    assert losses(trainer)[0] == pytest.approx(math.log(2), abs=1e-3)
    assert losses(trainer)[-1] < losses(trainer)[0]
    trained_parameters = {p.dtype for p in model.parameters() if p.requires_grad}
    assert trained_parameters == {torch.float32}
    assert torch.isfinite(trainer.scorer.completion_logps(list(trainer.train_dataset)[:2])).all()  # outside autocast


def test_reference_and_proof_under_mixed_precision(lab_model: Path, tmp_path: Path) -> None:
    """A copy of the weights scores as the policy does, so that the first margin is 0; what was trained proves itself again."""
    from prefine.scoring.proof import prove_layout

    trainer = trained(lab_model, tmp_path, max_steps=1, bf16=True, use_cpu=True)
    first = next(e for e in trainer.state.log_history if "rewards/margins" in e)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert first["logps/chosen"] != pytest.approx(losses(trained(lab_model, tmp_path, max_steps=1), "logps/chosen")[0], abs=1e-6)
    assert prove_layout(trainer.model, 64).layout == "shared"


def test_lora_dropout_is_kept_where_it_is_asked_for(lab_model: Path, tmp_path: Path, pairs_file: Path) -> None:
    """By the command; from Python ``disable_dropout`` switches all off, as in TRL, and says so."""
    from peft import LoraConfig

    from prefine.cli import main

    lora = LoraConfig(r=4, lora_dropout=0.25, target_modules="all-linear", task_type="CAUSAL_LM")
    with pytest.warns(UserWarning, match="lora_dropout is switched off"):
        trained(lab_model, tmp_path, peft=lora, max_steps=1)
    seen: list[set[float]] = []
    once = DPOTrainer.train

    def watched(self: DPOTrainer, *args: Any, **kwargs: Any) -> Any:
        seen.append({m.p for m in self.model.modules() if isinstance(m, torch.nn.Dropout)})
        return once(self, *args, **kwargs)

    command = ["dpo", "--model", str(lab_model), "--data", str(pairs_file), "--lora-r", "4", "--lora-dropout", "0.25", "--max-steps", "1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DPOTrainer, "train", watched)
        assert main([*command, "--output-dir", str(tmp_path / "run")]) == 0
    assert seen == [{0.25}]
