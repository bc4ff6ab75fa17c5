"""Adapters as people use them: each kind trains, is saved as what it computes, is resumed, and merged into the very same model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import prefine as pf
from prefine.api.adapter_options import AdapterOptions
from prefine.cli import main
from prefine.errors import ConfigError
from prefine.lab.model import build_model, build_tokenizer
from prefine.scoring.loading import load_model, load_tokenizer
from prefine.scoring.merging import merge

pytestmark = pytest.mark.filterwarnings("ignore")
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "pissa by power iterations": {"init_lora_weights": "pissa_niter_4"},
    "olora": {"init_lora_weights": "olora"},
    "gaussian": {"init_lora_weights": "gaussian"},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "rslora and pissa": {"use_rslora": True, "init_lora_weights": "pissa"},
    "dora and rslora": {"use_dora": True, "use_rslora": True},
    "dora and dropout": {"use_dora": True, "lora_dropout": 0.1},
    "some modules": {"lora_target": ["q_proj", "down_proj"]},
    "a pattern": {"lora_target": [r".*layers\.1\..*_proj"]},
    "all but some": {"lora_exclude": ["gate_proj"]},
    "the head whole": {"lora_modules_to_save": ["lm_head"]},
    "embeddings whole": {"lora_modules_to_save": ["embed_tokens"]},
    "both whole": {"lora_modules_to_save": ["embed_tokens", "lm_head"]},
    "norms whole": {"lora_modules_to_save": ["norm"]},
    "pissa and embeddings whole": {"init_lora_weights": "pissa", "lora_modules_to_save": ["embed_tokens"]},
}
IDS = torch.arange(40).view(2, 20) + 5


@pytest.fixture(scope="module", params=["tied", "untied"])
def base(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / request.param
    model = build_model(0, hidden=64, layers=2)
    if model.config.tie_word_embeddings != (request.param == "tied"):
        config = model.config
        config.tie_word_embeddings = request.param == "tied"
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == (request.param == "tied")
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS, use_cache=False).logits


def same(found: torch.Tensor, wanted: torch.Tensor, most: float) -> None:
    torch.testing.assert_close(found, wanted, atol=most, rtol=0)


def trained(base: Path, pairs: Path, folder: Path, steps: int = 4, **kind: Any) -> Any:
    """A trainer after a few steps, with a checkpoint after two."""
    config = AdapterOptions(lora_r=4, **kind).peft_config()
    args = pf.DPOConfig(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        save_steps=2,
        disable_tqdm=True,
        gradient_checkpointing=False,
        max_length=128,
    )
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    return pf.DPOTrainer(str(base), args=args, train_dataset=rows, peft_config=config)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_resumed_and_merged_is_what_was_trained(kind: str, base: Path, pairs_file: Path, tmp_path: Path) -> None:
    plain = logits(load_model(str(base)))
    trainer = trained(base, pairs_file, tmp_path / "run", **KINDS[kind])
    policy = trainer.scorer.unwrapped
    same(logits(policy), plain, 2e-5)  # a new adapter changes nothing
    with trainer.reference.active():
        same(logits(trainer.reference.scorer.unwrapped), plain, 2e-5)
    trainer.train()
    tuned = logits(policy)
    assert (tuned - plain).abs().max() > 0.05
    with trainer.reference.active():
        same(logits(trainer.reference.scorer.unwrapped), plain, 2e-5)
    trainer.save_model(str(tmp_path / "model"))
    same(logits(load_model(str(tmp_path / "model"))), tuned, 2e-5)
    same(logits(AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "model"))), tuned, 2e-5)
    merge(tmp_path / "model", tmp_path / "merged")
    same(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), tuned, 5e-5)
    again = trained(base, pairs_file, tmp_path / "again", **KINDS[kind])
    shutil.copytree(tmp_path / "run" / "checkpoint-2", tmp_path / "again" / "checkpoint-2")
    again.train(resume_from_checkpoint=str(tmp_path / "again" / "checkpoint-2"))
    same(logits(again.scorer.unwrapped), tuned, 2e-5)


def test_loraplus_moves_b_faster(base: Path, pairs_file: Path, tmp_path: Path) -> None:
    """One step of Adam moves every weight by its own learning rate: B, which starts at zero, 16 times as far as A."""
    trainer = trained(base, pairs_file, tmp_path, steps=1)
    trainer.args.loraplus_lr_ratio, trainer.args.learning_rate = 16.0, 1e-4
    trainer.train()
    rates = {group["lr"] for group in trainer.optimizer.param_groups}
    assert rates == {1e-4, 16e-4}
    moved = {n: float(p.abs().max()) for n, p in trainer.model.named_parameters() if ".lora_B." in n}
    assert max(moved.values()) == pytest.approx(16e-4, rel=0.01)


def test_loraplus_resumed_is_as_if_it_had_run_on(base: Path, pairs_file: Path, tmp_path: Path) -> None:
    found = []
    for name in ("run", "again"):
        trainer = trained(base, pairs_file, tmp_path / name)
        trainer.args.loraplus_lr_ratio = 4.0
        if name == "again":
            shutil.copytree(tmp_path / "run" / "checkpoint-2", tmp_path / "again" / "checkpoint-2")
        trainer.train(resume_from_checkpoint=str(tmp_path / "again" / "checkpoint-2") if name == "again" else None)
        found.append(logits(trainer.scorer.unwrapped))
    same(found[1], found[0], 1e-6)


def test_loraplus_without_an_adapter_is_refused(base: Path, pairs_file: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["dpo", "--model", base, "--data", pairs_file, "--output-dir", tmp_path / "r", "--loraplus-lr-ratio", 16, "--max-steps", 1]
    assert main([*map(str, words), "--ignore-audit"]) == 2
    assert "--lora-r 16" in capsys.readouterr().err


@pytest.mark.parametrize("start", ["pissa", "olora"])
@pytest.mark.parametrize("method", ["sft", "kto", "reward", "ppo", "online-dpo"])
def test_every_method_saves_such_a_start_as_plain_lora(
    method: str, start: str, base: Path, pairs_file: Path, tmp_path: Path, capsys: Any
) -> None:
    run = tmp_path / "run"
    words = [method, "--model", base, "--data", pairs_file, "--output-dir", run, "--max-steps", 2, "--lora-r", 4]
    words += ["--init-lora-weights", start, "--per-device-train-batch-size", 4]
    if method not in ("ppo", "online-dpo"):
        words += ["--ignore-audit"]
    else:
        (tmp_path / "prompts.txt").write_text("\n".join(f"my kettle {w}" for w in ("is loud", "smells", "blinks", "is hot", "leaks") * 8))
        words[4] = tmp_path / "prompts.txt"
        words += ["--reward-function", "builtins:zip", "--response-length", 4]
        (tmp_path / "rewards.py").write_text("def score(prompt, response):\n    return float(len(response))\n")
        words[words.index("builtins:zip")] = f"{tmp_path / 'rewards.py'}:score"
        if method == "ppo":
            words[words.index("--max-steps") : words.index("--max-steps") + 2] = ["--total-episodes", 16]
    assert main(list(map(str, words))) == 0, capsys.readouterr().err
    config = json.loads((run / "model" / "adapter_config.json").read_text())
    assert (config["init_lora_weights"], config["r"]) == (True, 8)
    if method != "reward":  # whose classifier no language model is
        assert main(["merge", str(run)]) == 0


@pytest.mark.parametrize(
    "more",
    [
        ["--load-in-8bit"],
        ["--load-in-4bit"],  # NF4, quantised twice
        ["--load-in-4bit", "--bnb-4bit-quant-type", "fp4", "--no-use-bnb-nested-quant"],
    ],
)
@pytest.mark.parametrize("kind", [[], ["--use-dora"], ["--use-rslora"]])
def test_quantised_bases_train_and_are_merged(
    more: list[str], kind: list[str], base: Path, pairs_file: Path, tmp_path: Path, capsys: Any
) -> None:
    pytest.importorskip("bitsandbytes")
    run = tmp_path / "run"
    words = ["dpo", "--model", base, "--data", pairs_file, "--output-dir", run, "--max-steps", 2, "--lora-r", 4, "--ignore-audit"]
    code = main([*map(str, words), *more, *kind, "--learning-rate", "1e-3"])
    if kind == ["--use-dora"] and more == ["--load-in-8bit"] and not torch.cuda.is_available():
        assert code == 2
        assert "DoRA on an 8-bit base" in capsys.readouterr().err
        return
    assert code == 0, capsys.readouterr().err
    assert main(["merge", str(run), "--output", str(tmp_path / "merged")]) == 0
    assert f"trained on a {more[0][10]}-bit base" in capsys.readouterr().out
    whole = AutoPeftModelForCausalLM.from_pretrained(str(run / "model"), quantization_config=None)
    adapted = logits(whole)
    same(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), adapted, 5e-5)
    with whole.disable_adapter():
        assert (adapted - logits(whole)).abs().max() > 1e-4  # the adapter does something


def test_an_adapter_of_another_name_is_trained_among_others(base: Path, pairs_file: Path, tmp_path: Path) -> None:
    """The active one is trained, saved where every loader looks, resumed and merged; the other stays as it was."""

    def model() -> Any:
        torch.manual_seed(0)
        found = get_peft_model(load_model(str(base)), LoraConfig(r=4, target_modules=["q_proj", "v_proj"]), adapter_name="mine")
        found.add_adapter("other", LoraConfig(r=2, target_modules=["o_proj"], init_lora_weights=False))
        return found

    def trainer(folder: Path) -> Any:
        args = trained(base, pairs_file, folder).args
        rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
        return pf.DPOTrainer(model(), args=args, train_dataset=rows, processing_class=build_tokenizer())

    one = trainer(tmp_path / "run")
    before = {n: p.clone() for n, p in one.model.named_parameters()}
    one.train()
    policy = one.scorer.unwrapped
    moved = {n for n, p in policy.named_parameters() if not torch.equal(p, before[n])}
    assert moved
    assert all(".mine." in n for n in moved)
    tuned = logits(policy)
    one.save_model(str(tmp_path / "model"))
    assert not (tmp_path / "model" / "mine").exists()
    same(logits(load_model(str(tmp_path / "model"))), tuned, 2e-5)
    merge(tmp_path / "model", tmp_path / "merged")
    same(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), tuned, 5e-5)
    again = trainer(tmp_path / "again")
    shutil.copytree(tmp_path / "run" / "checkpoint-2", tmp_path / "again" / "checkpoint-2")
    again.train(resume_from_checkpoint=str(tmp_path / "again" / "checkpoint-2"))
    same(logits(again.scorer.unwrapped), tuned, 2e-5)


@pytest.mark.parametrize("whole", [True, False])
def test_added_tokens_are_trained_saved_and_merged(whole: bool, pairs_file: Path, tmp_path: Path) -> None:
    """A tokenizer with tokens more than its model, which is resized: trained whole, or as an adapter with its embeddings whole."""
    tokenizer, model = build_tokenizer(), build_model(0, hidden=64, layers=2)
    tokenizer.add_tokens(["<plan>", "</plan>"])
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()]
    rows = [row | {"chosen": f"<plan>{row['chosen']}</plan>"} for row in rows]
    args = trained(tmp_path / "base", pairs_file, tmp_path / "run").args
    kind = None if whole else AdapterOptions(lora_r=4, lora_modules_to_save=["embed_tokens"]).peft_config()
    trainer = pf.DPOTrainer(str(tmp_path / "base"), args=args, train_dataset=rows, peft_config=kind)
    new = tokenizer.convert_tokens_to_ids(["<plan>", "</plan>"])
    policy = trainer.scorer.unwrapped
    start = policy.get_input_embeddings().weight.detach().clone()[new]
    trainer.train()
    now = policy.get_input_embeddings().weight.detach()
    assert (now[new] - start).abs().min(1).values.max() > 1e-4
    ids = torch.cat([IDS, torch.tensor([new, new])], 1)

    def found(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return model.eval()(input_ids=ids, use_cache=False).logits

    tuned = found(policy)
    assert tuned.shape[-1] >= len(tokenizer)
    trainer.save_model(str(tmp_path / "model"))
    same(found(load_model(str(tmp_path / "model"))), tuned, 2e-5)
    assert load_tokenizer(str(tmp_path / "model")).convert_tokens_to_ids(["<plan>", "</plan>"]) == new
    if not whole:
        merge(tmp_path / "model", tmp_path / "merged")
        same(found(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), tuned, 5e-5)


def test_experts_are_adapted_by_parameter(pairs_file: Path, tmp_path: Path) -> None:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    tokenizer = build_tokenizer()
    config = Qwen3MoeConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, moe_intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, head_dim=16, num_experts=4, num_experts_per_tok=2,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen3MoeForCausalLM(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    kind = {"lora_target": ["q_proj"], "lora_target_parameters": ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"]}
    trainer = trained(tmp_path / "base", pairs_file, tmp_path / "run", **kind)
    trainer.train()
    assert any("experts" in n for n, p in trainer.model.named_parameters() if p.requires_grad)
    trainer.save_model(str(tmp_path / "model"))
    tuned = logits(trainer.scorer.unwrapped)
    same(logits(load_model(str(tmp_path / "model"))), tuned, 2e-5)
    merge(tmp_path / "model", tmp_path / "merged")
    same(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged")), tuned, 5e-5)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--use-dora"], "--use-dora would be ignored without --lora-r"),
        (["--load-in-8bit"], "give --lora-r 16"),
        (["--load-in-8bit", "--load-in-4bit", "--lora-r", "4"], "contradict"),
        (["--lora-r", "4", "--bnb-4bit-quant-type", "fp4"], "without --load-in-4bit"),
        (["--lora-r", "4", "--load-in-4bit", "--bnb-4bit-quant-type", "int4"], "nf4 or fp4"),
        (["--lora-r", "4", "--init-lora-weights", "pizza"], "pissa"),
        (["--lora-r", "4", "--init-lora-weights", "pissa", "--use-dora"], "given back exactly"),
        (["--lora-r", "4", "--init-lora-weights", "pissa", "--load-in-4bit"], "given back exactly"),
        (["--lora-r", "4", "--lora-target", "(q_proj"], "no regular expression"),
        (["--lora-r", "4", "--lora-target", "q_porj"], "the adapter does not fit the model"),
        (["--lora-r", "4", "--lora-modules-to-save", "lm_haed"], "lm_haed"),
        (["--lora-r", "4", "--lora-target-parameters", "experts.down"], "experts.down"),
        (["--lora-r", "4", "--init-lora-weights", "pissa", "--load-best-model-at-end", "--eval-strategy", "steps"], "leave one of the two"),
        (["--lora-r", "4", "--dora"], "use_dora"),
        (["--lora-r", "4", "--lora-target", "q_proj", "v_porj"], "--lora-target v_porj is nothing in it; did you mean 'v_proj'?"),
        (["--lora-r", "4", "--lora-exclude", "lm_haed"], "--lora-exclude lm_haed"),
    ],
)
def test_what_cannot_be_is_said(more: list[str], told: str, base: Path, pairs_file: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["dpo", "--model", base, "--data", pairs_file, "--output-dir", tmp_path / "run", "--max-steps", 1, "--ignore-audit"]
    assert main([*map(str, words), *more]) == 2
    assert told in capsys.readouterr().err


def test_other_starts_are_refused_where_they_could_not_be_given_back(base: Path, pairs_file: Path, tmp_path: Path) -> None:
    from prefine.scoring.adapter_start import TakenStart
    from prefine.scoring.loading import add_adapter

    model = load_model(str(base))
    peft_config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights="pissa", rank_pattern={"q_proj": 2}, task_type="CAUSAL_LM")
    with pytest.raises(ConfigError, match="pattern of ranks"):
        TakenStart(add_adapter(model, peft_config))


def test_loraplus_when_trained_again(base: Path, pairs_file: Path, tmp_path: Path) -> None:
    """A second train() makes no new optimizer of its own accord, and B's rate is not multiplied twice."""
    trainer = trained(base, pairs_file, tmp_path, steps=1)
    trainer.args.loraplus_lr_ratio, trainer.args.learning_rate = 16.0, 1e-4
    for _ in range(2):
        trainer.train()
        assert {group["lr"] for group in trainer.optimizer.param_groups} <= {1e-4, 16e-4}
        assert sum(len(group["params"]) for group in trainer.optimizer.param_groups) == sum(
            p.requires_grad for p in trainer.model.parameters()
        )


def test_an_ensemble_begins_each_member_on_the_base_as_it_was(base: Path, pairs_file: Path, tmp_path: Path, capsys: Any) -> None:
    """A member of rank so high that PiSSA takes nearly all of a matrix: on what the one before left there would be hardly anything."""
    from safetensors.torch import load_file

    words = ["reward", "--model", base, "--data", pairs_file, "--output-dir", tmp_path / "run", "--max-steps", 1, "--lora-r", 8]
    words += ["--init-lora-weights", "pissa", "--ensemble", 2, "--learning-rate", "1e-6", "--ignore-audit"]
    assert main(list(map(str, words))) == 0, capsys.readouterr().err
    sizes = []
    for member in ("member-0", "member-1"):
        (path,) = (tmp_path / "run").rglob(f"{member}/adapter_model.safetensors")
        state = load_file(path)
        name = next(n for n in state if n.endswith("q_proj.lora_A.weight"))
        sizes.append(float(state[name][8:].norm()))  # what was taken at the start
    assert sizes[1] == pytest.approx(sizes[0], rel=1e-4)


def test_a_reward_adapter_reads_the_base_as_it_was(base: Path, pairs_file: Path, tmp_path: Path, capsys: Any) -> None:
    """Rewards of the same responses are the same whether the policy's adapter took its start from the base or not."""
    from prefine.training.ppo import PPOTrainer

    words = ["reward", "--model", base, "--data", pairs_file, "--output-dir", tmp_path / "reward", "--max-steps", 3, "--lora-r", 4]
    assert main([*map(str, words), "--learning-rate", "1e-2", "--ignore-audit"]) == 0, capsys.readouterr().err
    found = []
    for start in (None, "pissa"):
        args = pf.PPOConfig(str(tmp_path / "ppo"), total_episodes=8, per_device_train_batch_size=8, response_length=4, disable_tqdm=True)
        config = AdapterOptions(lora_r=4, init_lora_weights=start).peft_config()
        reward = str(tmp_path / "reward" / "model")
        prompts = [{"prompt": [{"role": "user", "content": "my kettle is loud"}]}] * 8
        trainer = PPOTrainer(args, None, str(base), reward_model=reward, train_dataset=prompts, peft_config=config)
        encoder = trainer.encoder
        group = encoder.encode(({"role": "user", "content": "my kettle is loud"},), ["sorry about that ."])
        found.append(trainer.rewards[0].rewards([group], trainer.budget))
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=0)


def test_a_start_that_is_another_one_is_not_resumed(base: Path, pairs_file: Path, tmp_path: Path) -> None:
    """As of random projections on another machine: the weights would jump."""
    from safetensors.torch import load_file, save_file

    from prefine.errors import CheckpointError

    trained(base, pairs_file, tmp_path / "run", init_lora_weights="pissa").train()
    path = tmp_path / "run" / "checkpoint-2" / "adapter_model.safetensors"
    state = load_file(path)
    save_file({n: torch.cat([t[:4], 1.5 * t[4:]]) if n.endswith("lora_A.weight") else t for n, t in state.items()}, path, {"format": "pt"})
    (tmp_path / "run" / "checkpoint-2" / "manifest.json").unlink(missing_ok=True)
    again = trained(base, pairs_file, tmp_path / "run", init_lora_weights="pissa")
    with pytest.raises(CheckpointError):
        again.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))


def test_a_peft_config_is_used_twice(base: Path, pairs_file: Path, tmp_path: Path) -> None:
    config = LoraConfig(r=2, target_modules="all-linear", task_type="SEQ_CLS")
    rows = [json.loads(line) for line in pairs_file.read_text().splitlines()][:8]
    for fold in (0, 1):
        args = pf.RewardConfig(str(tmp_path / str(fold)), max_steps=1, per_device_train_batch_size=4, disable_tqdm=True)
        pf.RewardTrainer(str(base), args=args, train_dataset=rows, peft_config=config)
    assert config.modules_to_save is None


def test_a_run_that_knew_fewer_options_goes_on(base: Path, pairs_file: Path, tmp_path: Path, capsys: Any) -> None:
    import yaml

    words = ["dpo", "--model", base, "--data", pairs_file, "--output-dir", tmp_path / "run", "--max-steps", 2, "--lora-r", 4]
    words = [*map(str, words), "--ignore-audit", "--final-eval", "off"]
    assert main(words) == 0
    path = tmp_path / "run" / "config.yaml"
    known = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({k: v for k, v in known.items() if not k.startswith(("use_", "init_lora", "bnb", "lora_exclude"))}))
    assert main([*words, "--resume"]) == 0, capsys.readouterr().err
    assert main([*words, "--resume", "--use-dora"]) == 2
    assert "use_dora" in capsys.readouterr().err
