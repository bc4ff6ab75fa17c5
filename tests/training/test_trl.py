"""Scripts written for TRL: the same losses step by step, data in all of its forms, its hooks, or an error."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset, IterableDataset, load_dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainingArguments

import prefine
from conftest import lab_pairs
from prefine.errors import ConfigError, DataError
from prefine.training.blocks import best_fit
from prefine.training.prepared import DataWarning

TEMPLATE = (
    "{% for m in messages %}<user> {{ m['role'] }} {% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }} <end>"
    "{% endgeneration %} {% else %}{{ m['content'] }} <end> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<user> assistant {% endif %}"
)
"""With the marks by which TRL finds the assistant's turns."""
QUIET = "ignore::prefine.training.prepared.DataWarning"


def said(*contents: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(contents)]


TALKS = [
    said("my printer is hot", "clean the fan", "my phone is slow", "clear the cache"),
    said("help the router is loud", "sorry about that . restart the router"),
    said("my mouse is slow", "replace the battery on the mouse"),
    said("my printer is loud", "clean the fan on the printer . please rate this chat ."),
]
TEXTS = [f"{' '.join(m['content'] for m in talk)}" for talk in TALKS]
PAIRS = [row | {side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")} for row in lab_pairs(8)]
MARGINS = [float(i % 3) for i in range(8)]
ROWS: dict[str, list[dict[str, Any]]] = {
    "messages": [{"messages": talk} for talk in TALKS],
    "sharegpt": [{"conversations": [{"from": {"user": "human"}.get(m["role"], "gpt"), "value": m["content"]} for m in t]} for t in TALKS],
    "text": [{"text": text} for text in TEXTS],
    "content": [{"content": text, "other": 1} for text in TEXTS],
    "completion": [{"prompt": t[:-1], "completion": t[-1:]} for t in TALKS],
    "plain": [{"prompt": "my printer is hot . ", "completion": t[-1]["content"]} for t in TALKS],
    "pairs": PAIRS,
    "margins": [row | {"margin": m} for row, m in zip(PAIRS, MARGINS, strict=True)],
    "scores": [row | {"score_chosen": 5.0, "score_rejected": 1.0} for row in PAIRS],
    "ids": [{"input_ids": list(range(10 + i, 20 + 2 * i)), "completion_mask": [0] * 4 + [1] * (6 + i)} for i in range(4)],
}
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("SFT", "messages", {}),
    ("SFT", "messages", {"assistant_only_loss": True}),
    ("SFT", "messages", {"loss_type": "dft"}),
    ("SFT", "messages", {"max_length": 12}),
    ("SFT", "messages", {"packing": True, "max_length": 48}),
    ("SFT", "messages", {"packing": True, "max_length": 24, "packing_strategy": "bfd_split"}),
    ("SFT", "messages", {"packing": True, "max_length": 16, "packing_strategy": "wrapped"}),
    ("SFT", "sharegpt", {}),
    ("SFT", "text", {}),
    ("SFT", "text", {"max_length": 8}),
    ("SFT", "content", {"dataset_text_field": "content"}),
    ("SFT", "completion", {}),
    ("SFT", "completion", {"completion_only_loss": False}),
    ("SFT", "plain", {}),
    ("SFT", "ids", {}),
    ("SFT", "ids", {"completion_only_loss": True}),
    ("DPO", "pairs", {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}),
    ("Reward", "pairs", {"learning_rate": 1e-3}),
    ("Reward", "margins", {"learning_rate": 1e-3}),
    ("Reward", "scores", {"learning_rate": 1e-3}),
    ("Reward", "pairs", {"learning_rate": 1e-3, "max_length": 26, "center_rewards_coefficient": 0.1}),
]


@pytest.fixture(scope="module")
def model(lab_model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("trl") / "model"
    AutoModelForCausalLM.from_pretrained(lab_model, dtype=torch.float32).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(lab_model)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return str(folder)


def trained(package: Any, method: str, model: str, rows: Any, folder: Path, **settings: Any) -> Any:
    """A trainer of a package that trained three steps."""
    fixed = {"max_steps": 3, "per_device_train_batch_size": 2, "logging_steps": 1, "report_to": "none", "use_cpu": True, "bf16": False}
    fixed |= {"save_strategy": "no", "disable_tqdm": True, "model_init_kwargs": {"dtype": "float32"}, "gradient_checkpointing": False}
    args = getattr(package, f"{method}Config")(output_dir=str(folder), **{**fixed, **settings})
    data = Dataset.from_list(rows) if isinstance(rows, list) else rows
    trainer = getattr(package, f"{method}Trainer")(model=model, args=args, train_dataset=data)
    trainer.train()
    return trainer


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("method", "rows", "settings"), CASES, ids=lambda v: json.dumps(v).replace(" ", "")[:60])
def test_losses_are_trls(method: str, rows: str, settings: dict[str, Any], model: str, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")

    ours = losses(trained(prefine, method, model, ROWS[rows], tmp_path / "a", **settings))
    theirs = losses(trained(trl, method, model, ROWS[rows], tmp_path / "b", **settings))
    assert ours == pytest.approx(theirs, abs=2e-5)


# ---- data


@pytest.mark.filterwarnings(QUIET)
@pytest.mark.parametrize(("method", "rows"), [("DPO", "pairs"), ("SFT", "messages"), ("Reward", "margins")])
def test_streams_train_as_data_sets_do_and_resume(method: str, rows: str, model: str, tmp_path: Path) -> None:
    """A stream has no shuffle of its own, so the data set is given in that order; a resumed run goes the same way."""
    stream = Dataset.from_list(ROWS[rows]).to_iterable_dataset()
    whole = trained(prefine, method, model, stream, tmp_path / "a", save_strategy="steps", save_steps=2, max_steps=5)
    again = prefine.__getattr__(f"{method}Config")(
        output_dir=str(tmp_path / "a"),
        max_steps=5,
        per_device_train_batch_size=2,
        logging_steps=1,
        gradient_checkpointing=False,
        disable_tqdm=True,
        save_strategy="no",
    )
    resumed = getattr(prefine, f"{method}Trainer")(model, args=again, train_dataset=stream)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a/checkpoint-4"))
    assert losses(resumed)[-1:] == pytest.approx(losses(whole)[4:], abs=1e-6)
    passed = 2 * 5 / len(ROWS[rows])
    assert passed > 1  # past the stream's end, where it begins anew
    with pytest.raises(ConfigError, match="max_steps"):
        trained(prefine, method, model, stream, tmp_path / "c", max_steps=-1)
    with pytest.raises(ConfigError, match="dataloader_num_workers"):
        trained(prefine, method, model, stream, tmp_path / "c", dataloader_num_workers=2)


def test_what_is_left_out_is_said(model: str, tmp_path: Path) -> None:
    rows = [*PAIRS, PAIRS[0] | {"rejected": PAIRS[0]["chosen"]}, PAIRS[1] | {"chosen": [{"role": "assistant", "content": ""}]}]
    with pytest.warns(DataWarning, match="8 kept; 1 dropped: chosen equals rejected; 1 dropped: response is empty"):
        trainer = trained(prefine, "DPO", model, rows, tmp_path)
    dropped = trainer.data_report["train_dataset"]["dropped"]
    assert dropped == {"chosen equals rejected": {"count": 1, "rows": [9]}, "response is empty": {"count": 1, "rows": [10]}}
    stream = Dataset.from_list(rows).to_iterable_dataset()
    with pytest.warns(DataWarning, match="1 dropped: chosen equals rejected"):
        trained(prefine, "DPO", model, stream, tmp_path, max_steps=6)
    with pytest.raises(DataError, match=r"no row is left.*chosen equals rejected"):
        trained(prefine, "DPO", model, rows[8:9], tmp_path)
    with pytest.raises(DataError, match="only text is trained on"):
        trained(prefine, "DPO", model, [row | {"images": ["x.png"]} for row in PAIRS], tmp_path)
    with pytest.raises(DataError, match="is empty"):
        trained(prefine, "SFT", model, Dataset.from_dict({"text": []}), tmp_path)


@pytest.mark.parametrize("method", ["DPO", "SFT", "Reward"])
def test_evaluation_of_raw_data(method: str, model: str, tmp_path: Path) -> None:
    rows = ROWS["completion"] if method == "SFT" else PAIRS
    trainer = trained(prefine, method, model, rows, tmp_path)
    data = Dataset.from_list(rows)
    alone = trainer.evaluate(data)["eval_loss"]
    both = trainer.evaluate({"a": data, "b": data.to_iterable_dataset()})
    assert both["eval_a_loss"] == pytest.approx(alone, rel=1e-6)
    assert both["eval_b_loss"] == pytest.approx(alone, rel=1e-6)
    own = {"DPO": "rewards/margins", "SFT": "mean_token_accuracy", "Reward": "accuracy"}[method]
    assert both[f"eval_a_{own}"] == pytest.approx(both[f"eval_b_{own}"])
    assert not any(name.startswith("eval_rewards") for name in both)
    found = trainer.predict(data)
    assert found.metrics["test_loss"] == pytest.approx(alone, rel=1e-6)
    logged = [entry for entry in trainer.state.log_history if "eval_a_loss" in entry]
    assert f"eval_a_{own}" in logged[-1]
    if method != "SFT":
        assert found.predictions.shape == (len(rows), 2)
        assert float((found.predictions[:, 0] > found.predictions[:, 1]).mean()) == pytest.approx(
            trainer.evaluate(data)["eval_rewards/accuracies"]
        )


@pytest.mark.filterwarnings("ignore")
def test_what_counts_is_decided_by_the_training_rows(model: str, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")

    found = []
    for package in (prefine, trl):
        trainer = trained(package, "SFT", model, ROWS["text"], tmp_path)
        found.append([trainer.evaluate(Dataset.from_list(ROWS[rows]))["eval_loss"] for rows in ("completion", "plain", "messages")])
    assert found[0] == pytest.approx(found[1], abs=2e-5)


def test_metrics_see_logits_as_language_models_give_them(model: str, tmp_path: Path) -> None:
    """Against an ordinary forward: cross-entropy of predictions and labels, and the accuracy that is logged."""
    seen: list[Any] = []

    def metrics(found: Any) -> dict[str, float]:
        seen.append(found)
        return {"mine": 0.5}

    args = prefine.SFTConfig(output_dir=str(tmp_path), max_steps=1, per_device_eval_batch_size=4, disable_tqdm=True, save_strategy="no")
    data = Dataset.from_list(ROWS["messages"])
    trainer = prefine.SFTTrainer(model, args, train_dataset=data, eval_dataset=data, compute_metrics=metrics)
    out = trainer.evaluate()
    assert out["eval_mine"] == 0.5
    logits, labels = torch.from_numpy(seen[0].predictions), torch.from_numpy(seen[0].label_ids)
    flat = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
    assert float(flat) == pytest.approx(out["eval_loss"], rel=1e-5)
    which = labels[:, 1:] != -100
    hits = logits[:, :-1].argmax(-1)[which] == labels[:, 1:][which]
    assert float(hits.float().mean()) == pytest.approx(out["eval_mean_token_accuracy"], rel=1e-5)
    group = trainer.train_dataset[0]
    ids = torch.tensor(group["input_ids"])[None]
    plain = trainer.model(input_ids=ids).logits[0].log_softmax(-1)
    assert torch.allclose(plain[:-1], logits[0, : len(ids[0]) - 1], atol=1e-4)
    small = prefine.SFTTrainer(
        model, args, train_dataset=data, eval_dataset=data, compute_metrics=metrics,
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
    )  # fmt: skip
    small.evaluate()
    assert np.array_equal(seen[1].predictions, logits.argmax(-1).numpy())


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_blocks_fit_and_hold_everything(lengths: list[int]) -> None:
    bins = best_fit(lengths, 20)
    assert sorted(i for places in bins for i in places) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in places) <= 20 for places in bins)
    # Two bins that are both at most half full would have been one.
    assert sum(sum(lengths[i] for i in places) <= 10 for places in bins) <= 1


# ---- arguments and hooks


class OwnLoss(prefine.DPOTrainer):
    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError


@pytest.mark.parametrize(
    ("settings", "arguments", "told"),
    [
        ({}, {"data_collator": list}, "data_collator would be ignored"),
        ({}, {"compute_loss_func": max}, "compute_loss_func would be ignored"),
        ({}, {"quantization_config": {"load_in_4bit": True}}, "the model is loaded already"),
        ({"model_init_kwargs": {"dtype": "float32"}}, {}, "the model is loaded already"),
        ({"completion_only_loss": True}, {}, "prompt and completion"),
        ({"eos_token": "<nothing>"}, {}, "not found in the vocabulary"),
        ({"chat_template_path": "none.jinja"}, {}, "no such file"),
        ({"router_aux_loss_coef": 0.1}, {}, "no mixture of experts"),
        ({}, {"args": 5}, "expected a SFTConfig"),
        ({}, {"train_dataset": None}, "`train_dataset` is required"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], arguments: dict[str, Any], told: str, model: str, tmp_path: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(model)
    given = {"args": prefine.SFTConfig(output_dir=str(tmp_path), **settings), "train_dataset": Dataset.from_list(ROWS["messages"])}
    with pytest.raises((ConfigError, DataError, FileNotFoundError), match=told):
        prefine.SFTTrainer(loaded, processing_class=AutoTokenizer.from_pretrained(model), **{**given, **arguments})


def test_a_loss_of_a_subclass_is_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"OwnLoss.compute_loss would never be called.*batch_backward"):
        OwnLoss(model, args=prefine.DPOConfig(output_dir=str(tmp_path)), train_dataset=PAIRS)
    with pytest.raises(ConfigError, match="kto_pair"):
        prefine.DPOConfig(output_dir=str(tmp_path), loss_type="kto")


def test_plain_arguments_and_their_order(model: str, tmp_path: Path) -> None:
    args = TrainingArguments(
        str(tmp_path), max_steps=1, use_cpu=True, report_to="none", hub_token="t", disable_tqdm=True, save_strategy="no"
    )
    sft = prefine.SFTTrainer(model, args, None, Dataset.from_list(ROWS["text"]))
    assert (sft.args.max_steps, sft.args.hub_token, type(sft.args).__name__) == (1, "t", "SFTConfig")
    dpo = prefine.DPOTrainer(model, None, prefine.DPOConfig(output_dir=str(tmp_path)), None, PAIRS, PAIRS[:2])
    assert len(dpo.eval_dataset) == 2
    assert dpo.ref_model is not None
    assert dpo.model.model_tags == ["prefine", "dpo"]
    tokenizer = AutoTokenizer.from_pretrained(model)
    ppo_args = prefine.PPOConfig(output_dir=str(tmp_path), response_length=4, value_role="policy", total_episodes=8, disable_tqdm=True)
    ppo = prefine.PPOTrainer(ppo_args, tokenizer, AutoModelForCausalLM.from_pretrained(model), None, lambda p, a: [0.0] * len(a), ["my"])
    assert ppo.model.policy is ppo.model
    assert ppo.model.state_dict().keys() == AutoModelForCausalLM.from_pretrained(model).state_dict().keys()


def test_other_optimizers(model: str, tmp_path: Path) -> None:
    args = prefine.SFTConfig(output_dir=str(tmp_path), max_steps=1, disable_tqdm=True, save_strategy="no")
    trainer = prefine.SFTTrainer(
        model, args, train_dataset=Dataset.from_list(ROWS["text"]), optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.5})
    )
    trainer.train()
    assert type(getattr(trainer.optimizer, "optimizer", trainer.optimizer)) is torch.optim.SGD


def test_the_card_says_what_was_done_and_no_more(model: str, tmp_path: Path) -> None:
    trainer = trained(prefine, "DPO", model, PAIRS, tmp_path)
    trainer.create_model_card("mine", "someone/pairs", "extra")
    text = (tmp_path / "README.md").read_text()
    assert "someone/pairs" in text
    assert "- extra" in text
    assert "8 examples, 0 rows dropped" in text
    assert "not evaluated" in text
    with pytest.raises(ConfigError, match="would be ignored"):
        trainer.create_model_card(language="en")


def test_push_to_hub_takes_the_data_sets_name(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As TRL's scripts call it; the upload alone is a stand-in."""
    import transformers.trainer

    sent: list[dict[str, Any]] = []

    class Hub:
        def upload_folder(self, **what: Any) -> str:
            sent.append(what)
            return "done"

    trainer = trained(prefine, "DPO", model, PAIRS, tmp_path)
    monkeypatch.setattr(transformers.trainer, "hf_api", Hub)
    trainer.hub_model_id = "someone/mine"
    assert trainer.push_to_hub(dataset_name="someone/pairs") == "done"
    assert sent[0]["folder_path"] == str(tmp_path)
    assert {"README.md", "model.safetensors", "tokenizer.json"} <= {path.name for path in tmp_path.iterdir()}
    assert "someone/pairs" in (tmp_path / "README.md").read_text()


def test_end_token_and_template_by_option(model: str, tmp_path: Path) -> None:
    template = tmp_path / "own.jinja"
    template.write_text("{% for m in messages %}help {{ m['content'] }} <end> {% endfor %}")
    trainer = trained(prefine, "SFT", model, ROWS["messages"], tmp_path, chat_template_path=str(template), eos_token="<pad>")
    assert trainer.processing_class.decode(trainer.train_dataset[0]["input_ids"]).startswith("help my printer is hot <end> help clean")
    assert trainer.processing_class.eos_token == "<pad>"
    assert trainer.model.config.eos_token_id == trainer.processing_class.eos_token_id


def test_rows_of_ids_are_read_anew_each_epoch(model: str, tmp_path: Path) -> None:
    calls: list[int] = []

    def transform(batch: dict[str, Any]) -> dict[str, Any]:
        calls.append(1)
        return {"input_ids": [list(range(10, 18)) for _ in batch["i"]], "labels": [[-100] * 4 + list(range(14, 18)) for _ in batch["i"]]}

    data = Dataset.from_dict({"i": list(range(4))}).with_transform(transform)
    trainer = trained(prefine, "SFT", model, data, tmp_path, dataset_kwargs={"skip_prepare_dataset": True}, max_steps=4)
    assert len(calls) >= 8
    assert trainer.train_dataset[0].num_completion_tokens == 7
    with pytest.raises(ConfigError, match="with_transform"):
        trained(prefine, "SFT", model, data, tmp_path)


class OwnPreparation(prefine.SFTTrainer):
    def _prepare_dataset(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError


def test_hooks_that_would_never_be_called_are_refused(model: str, tmp_path: Path) -> None:
    data = Dataset.from_list(ROWS["text"])
    args = prefine.SFTConfig(output_dir=str(tmp_path), max_steps=1, disable_tqdm=True, save_strategy="no")
    with pytest.raises(ConfigError, match="_prepare_dataset would never be called"):
        OwnPreparation(model, args, train_dataset=data)
    for name, value in (("compute_loss", max), ("compute_loss_func", max), ("data_collator", list)):
        trainer = prefine.SFTTrainer(model, args, train_dataset=data)
        setattr(trainer, name, value)
        with pytest.raises(ConfigError, match=name):
            trainer.train()


def test_columns_are_read_as_trl_reads_them(model: str, tmp_path: Path) -> None:
    """A text column is the text, whatever stands beside it; what is read into a prompt that TRL would not read is said."""
    alpaca = [{"instruction": "my printer is hot", "input": "", "output": "clean the fan", "text": "help the printer is hot . clean"}]
    sft = trained(prefine, "SFT", model, alpaca, tmp_path)
    assert sft.processing_class.decode(sft.train_dataset[0]["input_ids"]) == "help the printer is hot . clean <end>"
    with pytest.raises(ConfigError, match="no column 'body'"):
        trained(prefine, "SFT", model, alpaca, tmp_path, dataset_text_field="body")
    with pytest.warns(DataWarning, match=r"read as part of the prompt: the column system \(8\)"):
        trained(prefine, "DPO", model, [row | {"system": "help"} for row in PAIRS], tmp_path)
    with pytest.warns(DataWarning, match="human"):
        trained(prefine, "SFT", model, ROWS["sharegpt"], tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_dropout_is_as_in_trl(model: str, tmp_path: Path) -> None:
    from peft import LoraConfig

    peft = LoraConfig(r=4, lora_dropout=0.5, target_modules="all-linear", task_type="CAUSAL_LM")
    dpo = prefine.DPOTrainer(model, None, prefine.DPOConfig(output_dir=str(tmp_path)), None, PAIRS, peft_config=peft)
    assert {m.p for m in dpo.model.modules() if isinstance(m, torch.nn.Dropout)} <= {0.0}
    sft = prefine.SFTTrainer(model, prefine.SFTConfig(output_dir=str(tmp_path)), train_dataset=PAIRS, peft_config=peft)
    assert {m.p for m in sft.model.modules() if isinstance(m, torch.nn.Dropout)} == {0.5}


# ---- rewards


def ends(prompts: Any, completions: Any, completion_ids: Any, answer: Any, trainer_state: Any, **columns: Any) -> list[float | None]:
    """Of TRL's kind: the row's own column stands beside each of its completions."""
    assert len(prompts) == len(completions) == len(completion_ids) == len(answer) == len(columns["number"])
    assert all(c[0]["role"] == "assistant" and p[-1]["content"] == f"my {a}" for p, c, a in zip(prompts, completions, answer, strict=True))
    assert trainer_state.global_step >= 0
    return [None if a == "mouse" else float(len(i)) for i, a in zip(completion_ids, answer, strict=True)]


async def asynchronous(prompts: Any, completions: Any, **kwargs: Any) -> list[float]:
    return [float(len(c[0]["content"])) for c in completions]


def test_reward_functions_of_trls_kind(model: str, tmp_path: Path) -> None:
    rows = [{"prompt": said(f"my {w}"), "answer": w, "number": i} for i, w in enumerate(("printer", "mouse", "phone", "router"))]
    args = prefine.OnlineDPOConfig(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, max_new_tokens=6, reward_weights=[1.0, 0.5], top_k=50,
        repetition_penalty=1.1, beta=[0.1, 0.2], disable_tqdm=True, save_strategy="no", logging_steps=1,
    )  # fmt: skip
    trainer = prefine.OnlineDPOTrainer(
        model, None, [ends, asynchronous], args, train_dataset=Dataset.from_list(rows), eval_dataset={"a": Dataset.from_list(rows[:2])}
    )
    trainer.train()
    found = trainer.evaluate()
    assert found["eval_a_objective/scores"] > 0
    assert trainer.evaluate() == pytest.approx({**found, "eval_a_runtime": trainer.state.log_history[-1]["eval_a_runtime"]})
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all(entry["objective/failed_rewards"] == 0 for entry in logged)  # None of one reward leaves the other
    assert trainer.beta == 0.2
    assert trainer.reward_weights.tolist() == [1.0, 0.5]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("task", [None, "SEQ_CLS"])
def test_a_reward_adapter_keeps_its_head(task: str | None, model: str, tmp_path: Path) -> None:
    """Where the head is new and not trained, nothing else has it."""
    from peft import LoraConfig

    from prefine.scoring.reward_scorer import load_reward_model

    args = prefine.RewardConfig(output_dir=str(tmp_path), max_steps=1, disable_tqdm=True, save_strategy="no")
    peft = LoraConfig(r=4, target_modules="all-linear", task_type=task)
    trainer = prefine.RewardTrainer(model, args, train_dataset=PAIRS, peft_config=peft)
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    groups = list(trainer.train_dataset)
    before = trainer.scorer.completion_rewards(groups)
    again = load_reward_model(str(tmp_path / "saved"))
    ids = [torch.tensor(np.concatenate((g.prompt_ids, c)))[None].long() for g in groups for c in g.completion_ids]
    after = [float(again.eval()(input_ids=i).logits[0, 0]) for i in ids]
    assert before.tolist() == pytest.approx(after, abs=1e-4)


def test_stream_is_a_hub_stream(tmp_path: Path, model: str) -> None:
    """``load_dataset(..., streaming=True)`` begins to train before the data ends."""
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"text": f"clean the fan {'now ' * (i % 3)}"}) + "\n" for i in range(1000)))
    stream = load_dataset("json", data_files=str(file), split="train", streaming=True)
    assert isinstance(stream, IterableDataset)
    trainer = trained(prefine, "SFT", model, stream, tmp_path / "run")
    assert 0 < trainer.data_report["train_dataset"]["encoded"] < 500
    assert all(math.isfinite(x) for x in losses(trainer))


# ---- what a review found


def test_prepared_evaluation_data_is_held_against_the_model(model: str, tmp_path: Path) -> None:
    from prefine.packing.group import PromptGroup, as_ids

    far = [PromptGroup(as_ids([1, 2]), (as_ids([3, 99_999]), as_ids([4])), 7)]
    with pytest.raises(DataError, match="eval_dataset, row 7"):
        prefine.DPOTrainer(model, None, prefine.DPOConfig(output_dir=str(tmp_path)), None, PAIRS, far)


def test_a_failed_reward_fails_under_every_aggregate(model: str, tmp_path: Path) -> None:
    """Not taken for the highest of numbers; a reward without an opinion is none of a sum's concern."""

    def breaks(prompts: Any, completions: Any, **kwargs: Any) -> list[float]:
        if any(len(c) % 2 for c in completions):
            raise RuntimeError("odd")
        return [0.5] * len(completions)

    for aggregate in ("sum", "mean", "min"):
        args = prefine.OnlineDPOConfig(output_dir=str(tmp_path), max_new_tokens=6, reward_aggregate=aggregate, disable_tqdm=True)
        trainer = prefine.OnlineDPOTrainer(
            model, None, [breaks, lambda p, a: [1.0] * len(a)], args, train_dataset=["my printer", "my mouse"]
        )
        prompts = list(trainer.train_dataset) * 4
        with pytest.warns(UserWarning, match="raised RuntimeError: odd"):
            scored = trainer.score(trainer.sample(prompts, 0))
        both = [(a.text, s) for x in scored for a, s in zip(x.answers, x.scores, strict=True)]
        assert all(math.isnan(s) == bool(len(text) % 2) for text, s in both)
        assert {len(text) % 2 for text, _ in both} == {0, 1}


def test_beta_of_each_pass(model: str, tmp_path: Path) -> None:
    seen: list[float] = []

    class Watched(prefine.OnlineDPOTrainer):
        def _loss(self, *args: Any) -> Any:
            seen.append(self.beta)
            return super()._loss(*args)

    args = prefine.OnlineDPOConfig(
        output_dir=str(tmp_path), num_train_epochs=3, per_device_train_batch_size=2, max_new_tokens=4, beta=[0.1, 0.5], disable_tqdm=True,
        save_strategy="no",
    )  # fmt: skip
    given = args.max_steps
    Watched(model, None, lambda p, a: [float(len(t)) for t in a], args, train_dataset=["my printer", "my mouse", "my", "phone"]).train()
    assert seen[:2] == [0.1, 0.1]
    assert set(seen[2:]) == {0.5}
    assert args.max_steps == given  # a config is the user's


def test_an_option_by_two_names(tmp_path: Path) -> None:
    def length(**settings: Any) -> int:
        args = prefine.OnlineDPOConfig(output_dir=str(tmp_path), **settings)
        assert args.max_new_tokens == args.response_length
        return int(args.response_length)

    assert length() == 64
    assert length(max_new_tokens=32) == length(response_length=32) == length(generation_kwargs={"max_new_tokens": 32}) == 32
    with pytest.raises(ConfigError, match="by two names"):
        length(max_new_tokens=16, response_length=32)


@pytest.mark.filterwarnings(QUIET)
def test_every_way_to_read_text_truncates_alike(model: str, tmp_path: Path) -> None:
    rows = [{"input_ids": list(range(10, 20))}, {"input_ids": [5, 6, 7]}]
    for mode, first in (("keep_start", [10, 11, 12, 13]), ("keep_end", [16, 17, 18, 19]), ("drop", [5, 6, 7])):
        made = trained(prefine, "SFT", model, rows, tmp_path, max_length=4, truncation_mode=mode)
        assert made.train_dataset[0]["input_ids"] == first
    for mode, count in (("keep_start", 4), ("keep_end", 4), ("drop", 1)):
        made = trained(
            prefine, "SFT", model, [*ROWS["messages"][:3], {"messages": said("my", "fan")}], tmp_path, max_length=9, truncation_mode=mode
        )
        assert len(made.train_dataset) == count
        assert all(len(group["input_ids"]) <= 9 for group in made.train_dataset)


@pytest.mark.filterwarnings(QUIET)
def test_packing_keeps_masks_limits_and_rows(model: str, tmp_path: Path) -> None:
    masked = [
        {"input_ids": [11, 12, 13, 14], "completion_mask": [0, 0, 1, 1]},
        {"input_ids": [21, 22, 23, 24], "completion_mask": [0, 1, 1, 1]},
    ]
    settings = {"completion_only_loss": True, "packing": True, "packing_strategy": "wrapped", "max_length": 8}
    made = trained(prefine, "SFT", model, masked, tmp_path, **settings)
    assert made.train_dataset[0]["labels"] == [-100, -100, 13, 14, -100, 22, 23, 24]
    split = trained(prefine, "SFT", model, ROWS["text"], tmp_path, packing=True, packing_strategy="bfd_split", max_length=8)
    assert split.data_report["train_dataset"]["encoded"] == len(TEXTS)
    assert not split.data_report["train_dataset"]["dropped"]
    retain = tmp_path / "retain.jsonl"
    retain.write_text("".join(json.dumps({"text": "clean the fan " * 40}) + "\n" for _ in range(3)))
    kept = trained(
        prefine, "SFT", model, ROWS["text"], tmp_path, packing=True, packing_strategy="wrapped", max_length=16, retain=str(retain)
    )
    assert kept.retention is not None
    assert max(len(g["input_ids"]) for g in kept.retention.groups) <= 16
    shuffled = trained(prefine, "SFT", model, [*ROWS["text"], {"text": ""}], tmp_path, shuffle_dataset=True)
    assert shuffled.data_report["train_dataset"]["dropped"] == {"response is empty": {"count": 1, "rows": [5]}}
    assert [g.index for g in shuffled.train_dataset] != [1, 2, 3, 4]


@pytest.mark.parametrize(
    "settings",
    [
        {"dataset_kwargs": {"skip_prepare_dataset": True}, "packing": True},
        {"dataset_kwargs": {"skip_prepare_dataset": True}, "assistant_only_loss": True},
        {"dataset_kwargs": {"other": 1}},
        {"retain_batch_size": 4},
    ],
)
def test_options_that_nothing_reads_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        prefine.SFTConfig(output_dir=str(tmp_path), **settings)


def test_zero_is_given(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ld_alpha would be ignored"):
        prefine.DPOConfig(output_dir=str(tmp_path), loss_type="simpo", ld_alpha=0.0)
    with pytest.raises(ConfigError, match="precompute_ref_log_probs would be ignored"):
        prefine.DPOConfig(output_dir=str(tmp_path), loss_type="orpo", precompute_ref_log_probs=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["prompt_tuning", "prefix_tuning"])
def test_learned_prompts_train_and_say_what_the_reference_is(kind: str, model: str, tmp_path: Path) -> None:
    from peft import PrefixTuningConfig, PromptTuningConfig

    peft = {"prompt_tuning": PromptTuningConfig, "prefix_tuning": PrefixTuningConfig}[kind](task_type="CAUSAL_LM", num_virtual_tokens=4)
    settings = {"max_steps": 2, "learning_rate": 0.1, "disable_tqdm": True, "save_strategy": "no", "gradient_checkpointing": False}
    args = prefine.SFTConfig(output_dir=str(tmp_path), **settings)
    trainer = prefine.SFTTrainer(model, args, train_dataset=Dataset.from_list(ROWS["text"]), peft_config=peft)
    before = {n: p.clone() for n, p in trainer.model.named_parameters() if p.requires_grad}
    trainer.train()
    assert before
    assert all(not torch.equal(p, trainer.model.get_parameter(n)) for n, p in before.items())
    dpo_args = prefine.DPOConfig(output_dir=str(tmp_path), **settings)
    with pytest.warns(UserWarning, match="the reference is the model with the adapter as it starts"):
        dpo = prefine.DPOTrainer(model, None, dpo_args, None, PAIRS, peft_config=peft)
    dpo.train()
    assert dpo.state.log_history[-1]["train_loss"] == pytest.approx(math.log(2), abs=0.2)
