"""Supervised fine-tuning: what each form of data trains on, noise, and an adapter that becomes the reference."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prefine import DPOConfig, SFTConfig, SFTTrainer
from prefine.cli import main
from prefine.errors import ConfigError, DataError
from prefine.lab.model import build_model, build_tokenizer
from prefine.packing.group import PromptGroup, WeightedGroup
from prefine.training.prepared import DataWarning

QWEN_LIKE = (
    "{% set last = messages|length - 1 %}{% for m in messages %}<user> {{ m['role'] }} "
    "{% if m['role'] == 'assistant' and loop.index0 == last %}thanks {% endif %}{{ m['content'] }} <end> {% endfor %}"
    "{% if add_generation_prompt %}<user> assistant {% endif %}"
)
"""Writes a mark before the last answer only, as templates do that leave earlier reasoning out."""


def trainer(tmp_path: Path, rows: Any, tokenizer: Any = None, **more: Any) -> SFTTrainer:
    args = SFTConfig(output_dir=str(tmp_path), max_steps=1, per_device_train_batch_size=4, gradient_checkpointing=False, **more)
    return SFTTrainer(build_model(0), args, train_dataset=rows, processing_class=tokenizer or build_tokenizer())


def words(t: SFTTrainer, group: PromptGroup) -> tuple[str, str]:
    """A group's words, and those that are trained on."""
    ids = group.completion_ids[0]
    counted = group.weights if isinstance(group, WeightedGroup) and group.weights is not None else np.ones(len(ids))
    decode = t.processing_class.decode
    return decode([*group.prompt_ids, *ids]), decode(ids[counted > 0])


def said(*contents: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": c} for i, c in enumerate(contents)]}


@pytest.mark.filterwarnings("ignore::prefine.training.prepared.DataWarning")
def test_last_answer_or_every_answer(tmp_path: Path) -> None:
    rows = [said("my printer is hot", "clean the fan", "my phone is slow", "clear the cache")]
    [messages] = [row["messages"] for row in rows]
    last = [{"prompt": messages[:-1], "completion": messages[-1:]}]
    one = trainer(tmp_path, last)
    assert words(one, one.train_dataset[0])[1] == "clear the cache <end>"
    for all_of_it in (trainer(tmp_path, rows), trainer(tmp_path, last, completion_only_loss=False)):
        whole, counted = words(all_of_it, all_of_it.train_dataset[0])
        assert whole == words(one, one.train_dataset[0])[0]
        assert f"<user> {counted}" == whole  # every token but the first
    with pytest.raises(ConfigError, match="prompt and completion"):
        trainer(tmp_path, rows, completion_only_loss=True)
    every = trainer(tmp_path, rows, assistant_only_loss=True)
    whole, counted = words(every, every.train_dataset[0])
    assert len(every.train_dataset) == 1
    assert counted == "clean the fan <end> clear the cache <end>"
    assert whole == words(one, one.train_dataset[0])[0]
    cut = trainer(tmp_path, rows, assistant_only_loss=True, max_length=11)
    assert words(cut, cut.train_dataset[0])[1] == "clean the fan <end>"
    assert cut.encoder.report.cut["responses"] == 1
    end = trainer(tmp_path, rows, assistant_only_loss=True, max_length=11, truncation_mode="keep_end")
    assert [words(end, g)[1] for g in end.train_dataset] == ["clean the fan <end>", "clear the cache <end>"]


def test_every_answer_where_the_template_rewrites_earlier_ones(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = QWEN_LIKE
    t = trainer(tmp_path, [said("my", "fan", "phone", "cache")], tokenizer, assistant_only_loss=True)
    assert [words(t, g)[1].split()[:2] for g in t.train_dataset] == [["thanks", "fan"], ["thanks", "cache"]]
    assert t.encoder.report.cut["conversations split into turns"] == 1


def test_loss_is_the_mean_over_the_tokens_that_count(tmp_path: Path) -> None:
    """Against transformers' own loss with every other label masked."""
    rows = [said("my printer is hot", "clean the fan", "my phone is slow", "clear the cache"), said("help the router is loud", "sorry")]
    t = trainer(tmp_path, rows, assistant_only_loss=True)
    total, count = 0.0, 0
    for g in t.train_dataset:
        ids = torch.tensor(np.concatenate((g.prompt_ids, g.completion_ids[0])))[None].long()
        labels = ids.clone()
        labels[0, : len(g.prompt_ids)] = -100
        labels[0, len(g.prompt_ids) :][torch.from_numpy(getattr(g, "weights", np.ones(g.num_completion_tokens))) == 0] = -100
        total += float(t.model(input_ids=ids, labels=labels).loss.detach()) * int((labels != -100).sum())
        count += int((labels != -100).sum())
    with torch.no_grad():
        found = float(t.batch_loss(list(t.train_dataset)).loss)
    assert found == pytest.approx(total / count, rel=1e-5)


@pytest.mark.filterwarnings("ignore::prefine.training.prepared.DataWarning")
def test_plain_text_in_windows(tmp_path: Path) -> None:
    text = "clean the fan on the printer . sorry about that ."
    cut = trainer(tmp_path, [{"text": text}], max_length=6)
    assert [words(cut, g)[0] for g in cut.train_dataset] == ["clean the fan on the printer"]
    assert cut.data_report["train_dataset"]["cut"] == {"texts": 1}
    t = trainer(tmp_path, [{"text": text}, {"text": ""}], max_length=6, split_texts=True)
    assert [words(t, g)[0] for g in t.train_dataset] == ["clean the fan on the printer", "printer . sorry about that .", ". <end>"]
    assert [g.num_completion_tokens for g in t.train_dataset] == [5, 5, 1]  # every token but the first, once
    ended = trainer(tmp_path, [{"text": text + " <end>"}])
    assert words(ended, ended.train_dataset[0])[0] == f"{text} <end>"
    assert t.encoder.report.cut["texts split into windows"] == 1
    assert t.encoder.report.dropped == {"response is empty": [2]}


def test_chosen_side_of_pairs(tmp_path: Path) -> None:
    pair = {"prompt": "my printer is hot", "chosen": "clean the fan", "rejected": "restart it"}
    implicit = {"chosen": "\n\nHuman: hot\n\nAssistant: fan", "rejected": "\n\nHuman: hot\n\nAssistant: it"}
    t = trainer(tmp_path, [pair])
    assert [words(t, g) for g in t.train_dataset] == [("my printer is hot clean the fan <end>", "clean the fan <end>")]
    assert words(h := trainer(tmp_path, [implicit]), h.train_dataset[0])[1] == "fan <end>"
    with pytest.raises(ConfigError, match="of preference pairs"):
        trainer(tmp_path, [pair], assistant_only_loss=True)
    alpaca = trainer(tmp_path, [{"instruction": "hot", "output": "fan", "text": "hot fan"}])
    assert words(alpaca, alpaca.train_dataset[0])[1] == "fan <end>"


@pytest.mark.filterwarnings("ignore")
def test_preference_data_by_the_command(lab_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"q": f"my printer is hot {i}", "good": "clean the fan", "bad": "restart it" if i else "clean the fan"} for i in range(6)]
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file in files:
        file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    out = ["--model", str(lab_model), "--max-steps", "1", "--output-dir"]
    named = ["--map", "prompt=q", "--map", "chosen=good", "--map", "rejected=bad"]
    data = ["--data", *map(str, files), "--data-weights", "1", "3", "--eval-data", str(files[0])]
    assert main(["sft", *out, str(tmp_path / "run"), *data, *named]) == 0
    said = capsys.readouterr().out
    assert "pairs, 20 preferred responses, 20 trained on" in said  # five pairs once, and three times five
    kept = json.loads((tmp_path / "run" / "data.json").read_text())
    assert sum(what["count"] for what in kept["dropped"].values()) == 2  # equal sides, a row in each file
    facts = tmp_path / "facts.jsonl"
    facts.write_text('{"prompt": "hot", "completion": "fan"}\n')
    assert main(["sft", *out, str(tmp_path / "x"), "--data", str(facts), "--min-gap", "1"]) == 2
    assert "for preference data" in capsys.readouterr().err


def test_rows_without_an_answer_are_counted(tmp_path: Path) -> None:
    with pytest.warns(DataWarning, match="1 kept; 1 dropped: no response"):
        t = trainer(tmp_path, [said("hot"), said("hot", "fan")])
    assert t.encoder.report.dropped == {"no response": [1]}
    with pytest.raises(DataError, match="no row is left"):
        trainer(tmp_path, [said("hot")])
    with pytest.raises(ConfigError, match="for SFT"):
        DPOConfig(output_dir=str(tmp_path), neftune_noise_alpha=5)


def test_noise_is_scaled_by_each_example(tmp_path: Path) -> None:
    """Two examples in one pack: each one's noise is uniform within alpha / sqrt(its own tokens x hidden size)."""
    rows = [{"prompt": "my printer is hot", "completion": "clean the fan " * 30}, {"prompt": "my phone", "completion": "fan"}]
    t = trainer(tmp_path, rows, neftune_noise_alpha=5.0)
    seen: list[torch.Tensor] = []
    embed = t.model.get_input_embeddings()
    embed.register_forward_hook(lambda module, inputs, output: seen.append(output - module.weight[inputs[0]]))
    groups = list(t.train_dataset)
    t.model.train()
    t.batch_backward(groups, 1.0)
    noise = torch.cat([s[0] for s in seen]).detach()
    lengths = [g.num_tokens() for g in groups]
    for part, length in zip(noise.split(lengths), lengths, strict=True):
        bound = 5 / math.sqrt(length * 96)
        assert 0.9 * bound < float(part.abs().max()) <= bound
    seen.clear()
    t.batch_loss(groups)
    assert not torch.cat([s[0] for s in seen]).any()


@pytest.mark.filterwarnings("ignore")
def test_adapter_is_the_reference_of_what_follows(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    """SFT adapter, then DPO and PPO on it, then a merge: no margin and no KL at step 0; merged logits are base plus adapters."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    facts = tmp_path / "facts.jsonl"
    facts.write_text("".join(json.dumps({"prompt": f"what is {i} plus 1", "completion": str(i + 1)}) + "\n" for i in range(8)))
    lora = ["--lora-r", "4", "--logging-steps", "1", "--per-device-train-batch-size", "8"]
    sft, dpo, ppo, merged = (tmp_path / n for n in ("sft", "dpo", "ppo", "merged"))
    base = ["--model", str(lab_model), "--learning-rate", "2e-2"]
    assert main(["sft", *base, "--data", str(facts), "--output-dir", str(sft), "--max-steps", "20", *lora]) == 0
    after = ["--model", str(sft / "model"), "--learning-rate", "1e-3", *lora[2:]]
    assert main(["dpo", *after, "--lora-r", "4", "--data", str(pairs_file), "--output-dir", str(dpo), "--max-steps", "4"]) == 2
    assert main(["dpo", *after, "--data", str(pairs_file), "--output-dir", str(dpo), "--max-steps", "4"]) == 0

    def logged(run: Path) -> dict[str, float]:
        return next(m for line in (run / "metrics.jsonl").read_text().splitlines() if "loss" in (m := json.loads(line)))

    first = logged(dpo)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-6)
    (tmp_path / "score.py").write_text("def score(prompts, answers):\n    return [float(len(a)) for a in answers]\n")
    reward = ["--reward-function", f"{tmp_path / 'score.py'}:score", "--value-role", "policy", "--response-length", "8"]
    assert main(["ppo", *after, *reward, "--data", str(pairs_file), "--output-dir", str(ppo), "--max-steps", "1"]) == 0
    assert logged(ppo)["objective/kl"] == pytest.approx(0, abs=1e-5)

    assert main(["merge", str(dpo), "--output", str(merged)]) == 0
    ids = torch.tensor([[2, 7, 8, 9, 3, 20, 21]])
    with torch.no_grad():
        before = AutoModelForCausalLM.from_pretrained(lab_model)(ids).logits
        with_sft, both = (
            PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(lab_model), run / "model")(ids).logits for run in (sft, dpo)
        )
        plain = AutoModelForCausalLM.from_pretrained(merged)(ids).logits
    assert float((plain - both).abs().max()) < 1e-4
    assert float((with_sft - before).abs().max()) > 1e-2
    assert float((plain - with_sft).abs().max()) > 1e-3


def test_accumulated_batches_weigh_their_tokens(tmp_path: Path) -> None:
    """Answers of 1 to 13 words: two batches of two, accumulated, are one batch of four."""
    rows = [said("my printer is hot", " ".join(["clean"] * n)) for n in (1, 2, 13, 4, 1, 12, 3, 9)]

    def run(size: int, accumulated: int) -> list[float]:
        args = SFTConfig(
            output_dir=str(tmp_path),
            max_steps=2,
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulated,
            learning_rate=1e-2,
            logging_steps=1,
            gradient_checkpointing=False,
            disable_tqdm=True,
            save_strategy="no",
        )
        made = SFTTrainer(build_model(0), args, train_dataset=rows, processing_class=build_tokenizer())
        made.train()
        return [e[key] for e in made.state.log_history for key in ("loss", "grad_norm") if key in e]

    assert run(2, 2) == pytest.approx(run(4, 1), rel=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_held_out_examples_are_scored(lab_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "facts.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"what is {i} plus 1", "completion": str(i + 1)}) + "\n" for i in range(8)))
    words = ["sft", "--model", str(lab_model), "--data", str(data), "--output-dir", str(tmp_path / "run"), "--max-steps", "1"]
    assert main([*words, "--eval-data", str(data)]) == 0
    assert "held-out loss" in capsys.readouterr().out
    assert main([*words, "--eval-fraction", "0.2", "--output-dir", str(tmp_path / "other")]) == 2
    assert "give --eval-data" in capsys.readouterr().err
