"""Reward models: packs against plain forwards, saving, margins, quality by hand, the command."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from conftest import lab_pairs
from prefine import RewardConfig, RewardTrainer
from prefine.cli import main
from prefine.errors import ConfigError, ModelError
from prefine.evaluation.reward_quality import reward_quality
from prefine.scoring.reward_scorer import load_reward_model


def trainer(model: Any, folder: Path, rows: list[dict[str, Any]], **settings: Any) -> RewardTrainer:
    defaults = {"max_steps": 4, "per_device_train_batch_size": 8, "learning_rate": 3e-3, "logging_steps": 1, "save_strategy": "no"}
    args = RewardConfig(output_dir=str(folder), disable_tqdm=True, gradient_checkpointing=False, **{**defaults, **settings})
    return RewardTrainer(str(model), args, train_dataset=rows)


def plain(model: Any, group: Any) -> list[float]:
    ids = [torch.tensor([[*group.prompt_ids.tolist(), *c.tolist()]]) for c in group.completion_ids]
    with torch.no_grad():
        return [float(model(input_ids=i).logits[0, 0]) for i in ids]


@pytest.mark.parametrize("lora", [False, True])
def test_saved_it_scores_as_before(lora: bool, lab_model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig

    args = RewardConfig(
        output_dir=str(tmp_path), max_steps=4, per_device_train_batch_size=8, learning_rate=1e-2, save_strategy="no", disable_tqdm=True
    )
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None
    made = RewardTrainer(str(lab_model), args, train_dataset=lab_pairs(32), peft_config=config)
    assert made.proof.layout == "shared"
    made.train()
    made.save_model(str(tmp_path / "saved"))
    made.scorer.unwrapped.eval()
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved", num_labels=1).eval()
    for group in made.train_dataset[:4]:
        packed = made.scorer.completion_rewards([group]).tolist()
        assert packed == pytest.approx(plain(again, group), abs=1e-5)
    assert abs(packed[0] - packed[1]) > 1e-3


def test_many_groups_in_a_pack_score_as_each_alone(lab_model: Path, tmp_path: Path) -> None:
    made = trainer(lab_model, tmp_path, lab_pairs(12))
    groups = list(made.train_dataset)
    together = made.scorer.completion_rewards(groups).tolist()
    assert together == pytest.approx([r for g in groups for r in plain(made.scorer.unwrapped, g)], abs=1e-5)


def test_the_split_into_packs_does_not_change_the_run(lab_model: Path, tmp_path: Path) -> None:
    losses = []
    for budget in ("4096", "40"):
        made = trainer(lab_model, tmp_path, lab_pairs(32), token_budget=budget, seed=3)
        made.train()
        losses.append([line["loss"] for line in made.state.log_history if "loss" in line])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_margins_come_from_scores_and_lower_the_lead(lab_model: Path, tmp_path: Path) -> None:
    rows = [r | {"score_chosen": 2.0, "score_rejected": 0.5} for r in lab_pairs(16)]
    with_margins = trainer(lab_model, tmp_path, rows, use_margins=True)
    assert set(with_margins.margins.values()) == {1.5}
    batch = list(with_margins.train_dataset)[:8]
    without = trainer(lab_model, tmp_path, rows)
    assert not without.margins  # scores by themselves are no margin
    pack = with_margins.packs(batch)[0]
    difference = with_margins.scorer.completion_rewards(batch).view(-1, 2)
    expected = torch.nn.functional.softplus(-(difference[:, 0] - difference[:, 1] - 1.5))
    with with_margins.scorer.attending(pack):
        assert torch.allclose(with_margins._losses(pack, "train")[0], expected, atol=1e-5)
    with_margins.mean_number = without.mean_number = len(batch)
    assert float(with_margins.batch_backward(batch, 1.0)) > float(without.batch_backward(batch, 1.0))


@pytest.mark.filterwarnings("ignore")
def test_ranked_answers_have_a_margin_a_pair(lab_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three answers of a prompt, all pairs: each trains with the gap of its own two scores."""
    from prefine.preferences.records import Pair

    prompt = ({"role": "user", "content": "my printer is hot"},)
    words, scores = ("clean the fan", "help the mouse", "my mouse"), (9.0, 4.0, 2.0)
    places = [(0, 1), (0, 2), (1, 2)]
    pairs = [Pair(prompt, words[i], words[j], 1, scores=(scores[i], scores[j])) for i, j in places]
    made = trainer(lab_model, tmp_path, pairs, use_margins=True)
    [pack] = made.packs(list(made.train_dataset))
    margins = made._margins(pack)
    assert margins is not None
    assert margins.tolist() == [5.0, 7.0, 2.0]
    data = tmp_path / "ranked.jsonl"
    row = {"prompt": "my printer is hot", "completions": list(words), "scores": list(scores)}
    data.write_text("".join(json.dumps(row | {"prompt": f"my printer is hot {i}"}) + "\n" for i in range(8)))
    command = ["reward", "--model", str(lab_model), "--data", str(data), "--pairing", "all", "--max-steps", "2"]
    command += [
        "--use-margins",
        "--output-dir",
        str(tmp_path / "run"),
        "--eval-strategy",
        "steps",
        "--eval-steps",
        "1",
        "--eval-fraction",
        "0.3",
    ]
    assert main(command) == 0
    assert "24 pairs with margins" in capsys.readouterr().out
    assert "eval_loss" in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert main([*command[:-1], "0", "--output-dir", str(tmp_path / "none")]) == 2
    assert "nothing is held out" in capsys.readouterr().err


def test_mixed_precision_reaches_the_trunk_and_spares_the_head(lab_model: Path, tmp_path: Path) -> None:
    from peft import LoraConfig

    made = trainer(lab_model, tmp_path, lab_pairs(16), bf16=True, use_cpu=True, max_steps=1)
    made.train()
    groups = list(made.train_dataset)
    pack = made.packs(groups)[0]
    with torch.no_grad(), made.scorer.attending(pack):
        mixed = made.scorer.rewards(pack).tolist()
    whole = [r for g in groups for r in plain(made.scorer.unwrapped, g)][: len(mixed)]
    assert mixed == pytest.approx(whole, abs=0.1)
    assert mixed != pytest.approx(whole, abs=1e-6)
    half = load_reward_model(str(lab_model), torch.bfloat16, new_head=True)
    args = RewardConfig(output_dir=str(tmp_path), max_steps=1, disable_tqdm=True, bf16=True, use_cpu=True, save_strategy="no")
    adapted = RewardTrainer(
        half, args, train_dataset=lab_pairs(16), peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="SEQ_CLS")
    )
    trained = {p.dtype for p in adapted.model.parameters() if p.requires_grad}
    assert trained == {torch.float32}
    adapted.train()


def test_pad_token_apart_from_the_end_token() -> None:
    from prefine.lab.model import build_tokenizer
    from prefine.scoring.loading import pad_apart

    tokenizer = build_tokenizer()
    pad_apart(tokenizer)
    assert tokenizer.pad_token == "<pad>"
    tokenizer.pad_token = tokenizer.eos_token
    pad_apart(tokenizer)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    bare: Any = SimpleNamespace(pad_token_id=0, eos_token_id=0, bos_token_id=0, all_special_ids=[0], added_tokens_decoder={})
    bare.convert_ids_to_tokens = lambda i: "<|endoftext|>"
    with pytest.warns(UserWarning, match="no pad token but its end token"):
        pad_apart(bare)


def test_quality_by_hand() -> None:
    # differences 2, -1, 0 and 3: right, wrong, tie, right
    found = reward_quality([2, 0, 1, 3], [0, 1, 1, 0], [[1, 2], [2, 1], [1, 1], [1, 5]])
    assert found.accuracy.estimate == pytest.approx(2.5 / 4)
    assert found.shorter_chosen is not None
    assert found.shorter_chosen.estimate == 1.0
    assert found.longer_chosen is not None
    assert found.longer_chosen.estimate == 0.0
    tokens, rewards = [1, 2, 1, 1, 2, 1, 1, 5], [2, 0, 1, 3, 0, 1, 1, 0]
    assert found.length_correlation == pytest.approx(np.corrcoef(rewards, tokens)[0, 1])


def test_calibration_of_rewards_that_mean_what_they_say() -> None:
    rng = np.random.default_rng(0)
    gap = rng.normal(0, 2, 20_000)
    first_wins = rng.random(20_000) < 1 / (1 + np.exp(-gap))
    chosen, rejected = np.where(first_wins, gap, 0), np.where(first_wins, 0, gap)
    honest = reward_quality(chosen, rejected, np.ones((20_000, 2)))
    boastful = reward_quality(5 * chosen, 5 * rejected, np.ones((20_000, 2)))
    assert honest.calibration_error < 0.01
    assert boastful.calibration_error > 0.1
    assert [i.estimate for _, _, i in honest.by_gap] == sorted(i.estimate for _, _, i in honest.by_gap)


def test_what_is_no_reward_model_is_refused(lab_model: Path, tmp_path: Path) -> None:
    from test_runs import reward_model

    with pytest.raises(ModelError, match="no reward model but a"):
        load_reward_model(str(lab_model))
    with pytest.raises(ModelError, match="2 labels"):
        load_reward_model(reward_model(tmp_path / "two", 0, labels=2), new_head=True)
    with pytest.raises(ConfigError, match="label_smoothing"):
        RewardConfig(output_dir=str(tmp_path), label_smoothing=0.5)
    with pytest.raises(ConfigError, match="ignored by a reward model"):
        trainer(lab_model, tmp_path, lab_pairs(4), retain="x.jsonl")


@pytest.mark.filterwarnings("ignore")
def test_the_command_on_real_pairs(lab_model: Path, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["reward", "--model", str(lab_model), "--data", str(shared_data / "hh_rlhf_harmless.jsonl.gz"), "--max-steps", "3"]
    run = tmp_path / "run"
    assert main([*words, "--output-dir", str(run), "--max-length", "256", "--truncation-mode", "keep_end"]) == 0
    told = capsys.readouterr().out
    assert "held-out accuracy" in told
    assert "correlation of reward and length" in told
    quality = json.loads((run / "eval/reward/summary.json").read_text())["reward_model"]
    assert 0 <= quality["accuracy"]["estimate"] <= 1
    assert AutoModelForSequenceClassification.from_pretrained(run / "model").config.num_labels == 1
    assert "held-out accuracy" in (run / "report.html").read_text().lower()


@pytest.mark.filterwarnings("ignore")
def test_an_ensemble_on_one_base(lab_model: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four members: all load and differ; nothing but adapters and heads beside the base's weights, which did not move."""
    from prefine.training.reward import bootstrap, train_ensemble

    run = tmp_path / "run"
    words = ["reward", "--model", str(lab_model), "--data", str(pairs_file), "--max-steps", "3", "--learning-rate", "1e-2"]
    assert main([*words, "--lora-r", "2", "--ensemble", "4", "--output-dir", str(run), "--eval-fraction", "0.2"]) == 0
    assert "members differ by" in capsys.readouterr().out
    members = [AutoModelForSequenceClassification.from_pretrained(run / f"model/member-{i}", num_labels=1).eval() for i in range(4)]
    ids = torch.tensor([[2, 10, 11, 3, 20]])
    with torch.no_grad():
        rewards = [float(m(input_ids=ids).logits[0, 0]) for m in members]
    assert len({round(r, 6) for r in rewards}) == 4
    base = load_reward_model(str(lab_model), new_head=True)
    before = {n: p.detach().clone() for n, p in base.model.named_parameters()}
    args = RewardConfig(output_dir=str(tmp_path / "x"), max_steps=2, ensemble=3, save_strategy="no", disable_tqdm=True, learning_rate=1e-2)
    from peft import LoraConfig

    from prefine.packing.encoding import Encoder
    from prefine.preferences.convert import PairSource
    from prefine.scoring.loading import load_tokenizer

    tokenizer = load_tokenizer(str(lab_model))
    groups = list(Encoder(tokenizer).encode_pairs(PairSource(str(pairs_file))))
    config = LoraConfig(r=2, target_modules="all-linear", task_type="SEQ_CLS")
    sizes = []
    for _, made in train_ensemble(lambda: base, args, groups, config, tmp_path / "members", processing_class=tokenizer):
        sizes.append(sum(p.numel() for p in made.scorer.unwrapped.parameters()))
    assert max(sizes) == min(sizes)  # no member's weights stay behind
    assert sizes[0] < 1.3 * sum(p.numel() for p in base.parameters())
    after = dict(base.model.named_parameters())
    assert all(torch.equal(p, after[n]) for n, p in before.items())
    places = bootstrap(groups, 0)
    assert places == bootstrap(groups, 0) != bootstrap(groups, 1)
    with pytest.raises(ConfigError, match="train_ensemble"):
        trainer(lab_model, tmp_path, lab_pairs(4), ensemble=2)


@pytest.mark.filterwarnings("ignore")
def test_an_ensemble_goes_on_where_it_was(
    lab_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped in the second of three members: the first is left alone, the others come out as if nothing had happened."""
    from safetensors.torch import load_file

    words = ["reward", "--model", str(lab_model), "--data", str(pairs_file), "--max-steps", "3", "--lora-r", "2", "--ensemble", "3"]
    words += ["--learning-rate", "1e-2", "--eval-fraction", "0.2"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*words, "--output-dir", str(whole)]) == 0
    real = RewardTrainer.train

    def interrupted(self: RewardTrainer, *args: Any, **kwargs: Any) -> Any:
        if self.args.seed == 43:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(RewardTrainer, "train", interrupted)
        assert main([*words, "--output-dir", str(cut)]) == 130
    first = (cut / "model/member-0/adapter_model.safetensors").stat().st_mtime_ns
    assert main([*words, "--output-dir", str(cut), "--resume"]) == 0
    assert "already trained: member 0" in capsys.readouterr().out
    assert (cut / "model/member-0/adapter_model.safetensors").stat().st_mtime_ns == first
    for member in range(3):
        ours, theirs = (load_file(run / f"model/member-{member}/adapter_model.safetensors") for run in (cut, whole))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (cut / "eval/reward/summary.json").read_text() == (whole / "eval/reward/summary.json").read_text()
