"""PPO, its value-free kin and online DPO: bandits, the closed form, one base, resumption, bad input."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig

from conftest import lab_pairs
from prefine import OnlineDPOConfig, OnlineDPOTrainer, PPOConfig, PPOTrainer, RewardConfig, RewardTrainer
from prefine.cli import main
from prefine.errors import ConfigError, DataError, ModelError
from prefine.lab.model import build_model, build_tokenizer
from prefine.losses.policy_gradient import combine_rewards
from prefine.training.online_dpo import best_against_worst
from prefine.training.sampler import Sampled
from vllm_double import fake_vllm, vllm_serving


def ppo(model: Any, reward: Any, args: PPOConfig, prompts: Any, tokenizer: Any = None, **more: Any) -> PPOTrainer:
    return PPOTrainer(args, tokenizer, model, None, reward, prompts, **more)


PROMPT = ({"role": "user", "content": "what is 1 plus 2"},)


def config(folder: Path, kind: Any = PPOConfig, **settings: Any) -> Any:
    defaults: dict[str, Any] = {
        **{"per_device_train_batch_size": 16, "response_length": 1, "learning_rate": 3e-3, "lr_scheduler_type": "constant"},
        **{"temperature": 1.0, "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True, "gradient_checkpointing": False},
    }
    if kind is PPOConfig:
        defaults |= {"num_ppo_epochs": 2, "kl_coef": 0.0}
        defaults |= {"value_role": "policy"} if settings.get("advantage_estimator", "gae") == "gae" else {}
    return kind(output_dir=str(folder), **{**defaults, **settings})


def tiny() -> Any:
    return build_model(0, hidden=32, layers=1)


def next_token(model: Any, tokenizer: Any, arms: Sequence[str]) -> np.ndarray:
    """The policy's probabilities of single-word answers."""
    ids = tokenizer(tokenizer.apply_chat_template(list(PROMPT), tokenize=False, add_generation_prompt=True), add_special_tokens=False)
    with torch.no_grad():
        p = model.eval()(torch.tensor([ids["input_ids"]])).logits[0, -1].double().softmax(-1)
    return p[[tokenizer.convert_tokens_to_ids(a) for a in arms]].numpy()


ARMS = {2: ("3", "7"), 10: tuple(str(i) for i in range(10))}


@pytest.mark.parametrize("arms", [2, 10])
@pytest.mark.parametrize(("estimator", "samples"), [("gae", 1), ("rloo", 16), ("grpo", 16), ("reinforce++", 1)])
@pytest.mark.long
def test_each_estimator_finds_the_best_arm(estimator: str, samples: int, arms: int, tmp_path: Path) -> None:
    """The last arm pays 1, the others up to a half, all other words nothing."""
    pay = {word: 1.0 if i == arms - 1 else (i + 1) / (2 * arms) for i, word in enumerate(ARMS[arms])}
    model, tokenizer = tiny(), build_tokenizer()
    args = config(
        tmp_path,
        advantage_estimator=estimator,
        num_samples=samples,
        per_device_train_batch_size=128 // samples,
        total_episodes=128 * 40,
        learning_rate=2e-3,
        logging_steps=1000,
    )
    ppo(model, lambda prompts, answers: [pay.get(a, 0.0) for a in answers], args, [PROMPT], tokenizer).train()
    p = next_token(model, tokenizer, ARMS[arms])
    assert p.argmax() == arms - 1
    assert p[-1] > 0.5


def closed_form(reference: np.ndarray, reward: np.ndarray, beta: float) -> np.ndarray:
    """pi* ~ pi_ref exp(r / beta), over all tokens (arXiv 2305.18290, eq. 4)."""
    weights = reference * np.exp(reward / beta)
    out: np.ndarray = weights / weights.sum()
    return out


def distance(model: Any, optimum: np.ndarray, tokenizer: Any) -> float:
    """Total variation between the policy and what it should be."""
    words = [tokenizer.convert_ids_to_tokens(i) for i in range(len(tokenizer))]
    return float(0.5 * np.abs(next_token(model, tokenizer, words) - optimum).sum())


def task(beta: float, best: float) -> tuple[Any, Any, dict[str, float], np.ndarray, float]:
    """A model, its tokenizer, what ten arms pay (all other words nothing), the optimum, and how far it is at the start."""
    model, tokenizer = tiny(), build_tokenizer()
    words = [tokenizer.convert_ids_to_tokens(i) for i in range(len(tokenizer))]
    pay = {word: best * (i + 1) / 10 for i, word in enumerate(ARMS[10])}
    optimum = closed_form(next_token(model, tokenizer, words), np.array([pay.get(w, 0.0) for w in words]), beta)
    return model, tokenizer, pay, optimum, distance(model, optimum, tokenizer)


@pytest.mark.parametrize("in_loss", [False, True])
@pytest.mark.long
def test_ppo_reaches_the_kl_regularised_optimum(in_loss: bool, tmp_path: Path) -> None:
    """Total variation to the closed form below 0.05, a tenth of what it was."""
    model, tokenizer, pay, optimum, start = task(0.25, 1.0)
    args = config(
        tmp_path,
        advantage_estimator="rloo",
        num_samples=64,
        per_device_train_batch_size=16,
        total_episodes=1024 * 80,
        num_ppo_epochs=1,
        learning_rate=2e-3,
        lr_scheduler_type="linear",
        kl_coef=0.25,
        kl_in_loss=in_loss,
        kl_estimator="k2" if in_loss else "k1",
        sampling_batch_size=1024,
        logging_steps=1000,
    )
    ppo(model, lambda prompts, answers: [pay.get(a, 0.0) for a in answers], args, [PROMPT], tokenizer).train()
    assert start > 0.4
    assert distance(model, optimum, tokenizer) < 0.05


def bradley_terry(pay: dict[str, float], seed: int) -> Any:
    """Pay with Gumbel noise: of two answers the first has the higher with probability sigmoid(difference of pay)."""
    rng = np.random.default_rng(seed)
    return lambda prompts, answers: [pay.get(a, 0.0) + float(rng.gumbel()) for a in answers]


@pytest.mark.long
def test_online_dpo_reaches_the_same_optimum(tmp_path: Path) -> None:
    """Labels drawn by Bradley-Terry from the pay: then DPO's optimum is the closed form with r / beta; TV below 0.1."""
    model, tokenizer, pay, optimum, start = task(1.0, 4.0)
    settings = {"max_steps": 150, "num_samples": 2, "per_device_train_batch_size": 512, "beta": 1.0, "sampling_batch_size": 1024}
    args = config(tmp_path, OnlineDPOConfig, learning_rate=2e-3, lr_scheduler_type="linear", logging_steps=1000, **settings)
    OnlineDPOTrainer(model, None, bradley_terry(pay, 0), args, train_dataset=[PROMPT], processing_class=tokenizer).train()
    assert start > 0.4
    assert distance(model, optimum, tokenizer) < 0.1


@pytest.mark.long
def test_dpo_on_enough_pairs_reaches_the_same_optimum(tmp_path: Path) -> None:
    from prefine import DPOConfig, DPOTrainer
    from prefine.generation.engine import Sampling
    from prefine.generation.generate import generate
    from prefine.packing.encoding import Encoder
    from prefine.packing.group import PromptGroup, as_ids

    model, tokenizer, pay, optimum, start = task(1.0, 4.0)
    count = 30_000
    prompt = Encoder(tokenizer).prompt_ids(PROMPT)
    found = dict(generate(model, tokenizer, [prompt] * (2 * count), Sampling(1, 1.0), range(2 * count), 4096))
    scores = bradley_terry(pay, 1)([], [found[i].text for i in range(2 * count)])
    groups = []
    for i in range(0, 2 * count, 2):
        best, worst = (i, i + 1) if scores[i] > scores[i + 1] else (i + 1, i)
        if found[best].ids != found[worst].ids:
            groups.append(PromptGroup(prompt, (as_ids(found[best].ids), as_ids(found[worst].ids)), i))
    args = DPOConfig(
        output_dir=str(tmp_path),
        num_train_epochs=3,
        per_device_train_batch_size=512,
        learning_rate=3e-3,
        beta=1.0,
        precompute_ref_log_probs=True,
        **{"logging_steps": 1000, "save_strategy": "no", "disable_tqdm": True, "gradient_checkpointing": False},
    )
    DPOTrainer(model, args=args, train_dataset=groups, processing_class=tokenizer).train()
    assert start > 0.4
    assert distance(model, optimum, tokenizer) < 0.1


def small_reward(folder: Path, base: Path, lora: bool) -> Path:
    from peft import LoraConfig

    peft = LoraConfig(r=4, target_modules="all-linear", task_type="SEQ_CLS") if lora else None
    args = RewardConfig(
        output_dir=str(folder / "rm"), max_steps=2, per_device_train_batch_size=8, learning_rate=1e-2, save_strategy="no", disable_tqdm=True
    )
    trainer = RewardTrainer(str(base), args, train_dataset=lab_pairs(16), peft_config=peft)
    trainer.train()
    trainer.save_model(str(folder / "reward"))
    return folder / "reward"


def test_with_lora_all_roles_share_one_base(lab_model: Path, tmp_path: Path) -> None:
    """Policy, reference, reward and value: parameters resident at most 1.15 times the base's, and a step works."""
    from peft import LoraConfig

    from prefine.scoring.reward_scorer import load_reward_model
    from prefine.scoring.roles import own_role

    reward = small_reward(tmp_path, lab_model, lora=True)
    base = build_model(0, hidden=128, layers=4)
    base.save_pretrained(tmp_path / "big")
    build_tokenizer().save_pretrained(tmp_path / "big")
    big_reward = small_reward(tmp_path / "b", tmp_path / "big", lora=True)
    args = config(
        tmp_path, value_role="reward", response_length=6, per_device_train_batch_size=4, total_episodes=8, missing_eos_penalty=1.0
    )
    peft = LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    trainer = ppo(str(tmp_path / "big"), str(big_reward), args, [PROMPT] * 8, peft_config=peft)
    [role] = trainer.rewards
    assert role.adapter == "reward0"  # type: ignore[union-attr]
    assert trainer.value is not None
    assert trainer.value.adapter == "value"
    groups = [g for g, _ in trainer.sample(trainer.drawn_prompts(0, 4), 0)]
    alone = own_role(load_reward_model(str(big_reward)))
    together = role.rewards(groups, trainer.budget).tolist()  # type: ignore[union-attr]
    assert together == pytest.approx(alone.rewards(groups, trainer.budget).tolist(), abs=1e-5)
    before = {n: p.detach().clone() for n, p in trainer.scorer.unwrapped.named_parameters()}
    trainer.train()
    moved = {n for n, p in trainer.scorer.unwrapped.named_parameters() if not torch.equal(p, before[n])}
    assert {n.split(".")[-2] for n in moved} == {"default", "value"}  # neither base nor reward
    heads = [*trainer.value.head.parameters(), *role.head.parameters()]  # type: ignore[union-attr]
    resident = {p.untyped_storage().data_ptr(): p.numel() for p in (*trainer.scorer.unwrapped.parameters(), *heads)}
    weights = {p.data_ptr(): p.numel() for p in base.parameters()}
    assert sum(resident.values()) <= 1.15 * sum(weights.values()) + 3 * sum(
        p.numel() for n, p in trainer.scorer.unwrapped.named_parameters() if ".value." in n
    )
    trainer.save_model(str(tmp_path / "out"))
    assert (tmp_path / "out" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "out" / "value").exists()
    assert reward.exists()


def test_the_sampler_agrees_with_the_trainer_and_is_watched(lab_model: Path, tmp_path: Path) -> None:
    def trainer(temperature: float) -> PPOTrainer:
        args = config(tmp_path, response_length=8, total_episodes=16, temperature=temperature)
        return ppo(str(lab_model), lambda p, a: [float(len(t)) for t in a], args, [PROMPT] * 4)

    for temperature in (1.0, 0.7):
        made = trainer(temperature)
        made.train()
        logs = [m for m in made.state.log_history if "objective/sampler_gap" in m]
        assert logs[0]["objective/sampler_gap"] < 1e-5
        assert logs[0]["val/ratio"] == pytest.approx(1.0, abs=1e-5)
    broken = trainer(1.0)
    broken.scorer.scaling = type(broken.scorer.scaling)(2.0)  # the trainer now scores another distribution
    with pytest.raises(ModelError, match="sampler and trainer disagree"):
        broken.train()


def test_whitened_rewards(lab_model: Path, tmp_path: Path) -> None:
    """Answers of one token, undiscounted: a return is the reward."""
    scores: list[float] = []

    def reward(prompts: Sequence[str], answers: Sequence[str]) -> list[float]:
        scores.extend(10.0 * len(a) + 3 for a in answers)
        return scores

    args = config(tmp_path, response_length=1, total_episodes=16, whiten_rewards=True, lam=1.0)
    trainer = ppo(str(lab_model), reward, args, [PROMPT] * 4)
    returns = np.concatenate([e.returns for e in trainer.rollout(0)])
    z = np.array(scores)
    assert z.std() > 5
    assert returns.tolist() == pytest.approx(((z - z.mean()) / z.std() + z.mean()).tolist(), rel=1e-5)


def test_what_is_retained_is_scored_at_temperature_1(lab_model: Path, tmp_path: Path) -> None:
    facts = tmp_path / "facts.jsonl"
    facts.write_text("".join(json.dumps({"prompt": f"what is {i} plus 1", "answer": str(i + 1)}) + "\n" for i in range(9)))

    def retained(temperature: float) -> float:
        args = config(tmp_path, response_length=8, total_episodes=16, temperature=temperature, retain=str(facts))
        trainer = ppo(str(lab_model), lambda p, a: [float(len(t)) for t in a], args, [PROMPT] * 4)
        tempered = trainer.scorer.scaling
        trainer.train()
        assert trainer.scorer.scaling == tempered
        return next(float(m["retention/loss"]) for m in trainer.state.log_history if "retention/loss" in m)

    assert retained(0.5) == pytest.approx(retained(1.0), rel=1e-5)


def test_bad_rewards_are_counted_or_clear_errors(lab_model: Path, tmp_path: Path) -> None:
    from test_runs import reward_model

    def trainer(reward: Any, **settings: Any) -> PPOTrainer:
        return ppo(str(lab_model), reward, config(tmp_path, response_length=4, total_episodes=16, **settings), [PROMPT] * 4)

    def raises_on_some(prompts: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        if any(len(a) % 2 for a in answers):
            raise RuntimeError("odd")
        return [float("nan") if len(a) % 4 else 1.0 for a in answers]

    events: list[dict[str, Any]] = []
    made = trainer(raises_on_some)
    made.on_event = lambda kind, **what: events.append({"event": kind, **what})
    with pytest.warns(UserWarning, match=r"raises_on_some raised RuntimeError: odd .*test_ppo.py, line \d+"):
        made.train()
    failed = next(e for e in events if e["event"] == "failed_rewards")
    assert 0 < failed["count"] < failed["of"]
    assert any(e["event"] == "samples" for e in events)
    with pytest.raises(ModelError, match="not one sampled response has a score"):
        trainer(lambda p, a: [None] * len(a)).train()
    with pytest.raises(ConfigError, match="expected one each"):
        trainer(lambda p, a: [1.0]).train()
    with pytest.raises(ModelError, match="2 labels"):
        trainer(reward_model(tmp_path / "two", 0, labels=2))
    with pytest.raises(ConfigError, match="no reward"):
        trainer(None)
    with pytest.raises(ModelError, match="nothing to learn"):
        trainer(lambda p, a: [0.0] * len(a), min_reward=1.0).train()
    with pytest.raises(DataError, match="no prompt is left"):
        ppo(str(lab_model), lambda p, a: [0.0], config(tmp_path, max_length=16), [({"role": "user", "content": "mouse " * 50},)])
    for settings, told in (
        ({"advantage_estimator": "rloo"}, "at least 2"),
        ({"advantage_estimator": "gea"}, "did you mean 'gae'"),
        ({"temperature": 0.0}, "temperature"),
        ({"num_mini_batches": 3}, "expected a divisor"),
        ({"stop_token_id": 5}, "would be ignored"),
        ({"dataloader_num_workers": 2}, "would be ignored"),
        ({"best_of": True}, "at least 2"),
        ({"kl_estimator": "k9"}, "k1, k2, k3"),
        ({"drop_equal": True}, "would be ignored"),
        ({"kl_horizon": 5}, "without target_kl"),
        ({"vllm_gpu_memory_utilization": 0.5}, "by rollout_engine transformers"),
        ({"gamma": 0.9, "advantage_estimator": "grpo", "num_samples": 2}, "would be ignored"),
        ({"lam": 0.9, "advantage_estimator": "reinforce++"}, "no value model"),
        ({"whiten_rewards": True, "advantage_estimator": "rloo", "num_samples": 2}, "would be ignored"),
        ({"target_kl": 0.5}, "above 0"),
        ({"kl_in_loss": True}, "would penalise nothing"),
    ):
        with pytest.raises(ConfigError, match=told):
            config(tmp_path, **settings)


def test_several_rewards_become_one(lab_model: Path, tmp_path: Path) -> None:
    """Lengths and ten times lengths plus 7: on one scale they agree, so every aggregate is the standardised length."""

    def totals(**settings: Any) -> list[float]:
        args = config(tmp_path, response_length=6, total_episodes=16, **settings)
        rewards = [lambda p, a: [float(len(t)) for t in a], lambda p, a: [10.0 * len(t) + 7 for t in a]]
        made = ppo(str(lab_model), rewards, args, [PROMPT] * 4)
        sampled = made.score(made.sample(made.drawn_prompts(0, 16), 0))
        lengths = np.array([len(x.answers[0].text) for x in sampled], float)
        expected = lengths + 10 * lengths + 7 if not settings else (lengths - lengths.mean()) / lengths.std()
        assert [x.scores[0] for x in sampled] == pytest.approx(expected.tolist(), abs=1e-6)
        return expected.tolist()

    assert totals() != totals(reward_aggregate="min")
    totals(reward_aggregate="mean-std")
    totals(reward_aggregate="mean-std", reward_std_weight=3.0)
    totals(reward_aggregate="mean")
    scores_RM = torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    assert combine_rewards(scores_RM, [1.0, 1.0], "mean-std", [], 3.0).tolist() == [2.0 - 3 * 1.0, 5.0]
    args = config(tmp_path, response_length=6, total_episodes=16, reward_aggregate="min")
    same = ppo(str(lab_model), [lambda p, a: [float(len(t)) for t in a]] * 2, args, [PROMPT] * 4, reward_weights=[1.0, 3.0])
    sampled = same.score(same.sample(same.drawn_prompts(0, 16), 0))
    z = np.array([len(x.answers[0].text) for x in sampled], float)
    z = (z - z.mean()) / z.std()
    assert [x.scores[0] for x in sampled] == pytest.approx(np.minimum(z, 3 * z).tolist(), abs=1e-6)  # weights count, after the scale
    with pytest.raises(ConfigError, match="did you mean 'min'"):
        config(tmp_path, reward_aggregate="mn")


def test_filters_leave_samples_out(lab_model: Path, tmp_path: Path) -> None:
    def kept(scores: tuple[float, ...], **settings: Any) -> list[bool]:
        args = config(tmp_path, num_samples=len(scores), **settings)
        made = ppo(str(lab_model), lambda p, a: [0.0] * len(a), args, [PROMPT])
        return made._keep(Sampled(made.train_dataset[0], (), scores))

    nan = math.nan
    assert kept((1.0, 3.0, nan, 2.0)) == [True, True, False, True]
    assert kept((1.0, 3.0, nan, 2.0), min_reward=2.0) == [False, True, False, True]
    assert kept((1.0, 3.0, nan, 2.0), best_of=True) == [False, True, False, False]
    assert kept((1.0, nan), advantage_estimator="rloo") == [False, False]
    assert kept((1.0, 1.0), advantage_estimator="rloo", drop_equal=True) == [False, False]


def test_best_against_worst_by_hand(lab_model: Path) -> None:
    from prefine.packing.group import PromptGroup, as_ids

    group = PromptGroup(as_ids([1, 2]), tuple(as_ids([i, 4]) for i in (5, 6, 7, 5)))
    pair = best_against_worst(Sampled(group, (), (0.1, 0.9, math.nan, -1.0)))
    assert pair is not None
    assert [c[0] for c in pair.completion_ids] == [6, 5]
    assert best_against_worst(Sampled(group, (), (0.1, 0.2, math.nan, math.nan)), min_gap=0.5) is None
    assert best_against_worst(Sampled(group, (), (0.25, 0.75, math.nan, math.nan)), min_gap=0.5) is not None
    assert best_against_worst(Sampled(group, (), (0.5, 0.5, math.nan, math.nan))) is None
    assert best_against_worst(Sampled(group, (), (0.1, math.nan, math.nan, 0.9))) is None  # the same words
    assert best_against_worst(Sampled(group, (), (math.nan,) * 4)) is None


SCRIPT = """
import sys, time
sys.path[:0] = [{tests!r}, {tests!r} + "/training"]
import torch
torch.set_num_threads(1)
from pathlib import Path
from test_ppo import PROMPT, config, tiny
from prefine import PPOTrainer
from prefine.lab.model import build_tokenizer
from prefine.runs import RunDirectory
from prefine.training.record import RecordRun

def reward(prompts, answers):
    time.sleep(float(sys.argv[2]))
    return [float(len(a)) for a in answers]

if __name__ == "__main__":
    run = RunDirectory(Path(sys.argv[1]))
    run.path.mkdir(exist_ok=True)
    args = config(run.checkpoints, response_length=5, total_episodes=16 * 8, save_strategy="steps", save_steps=3, num_mini_batches=2,
                  per_device_train_batch_size=16, num_samples=1, target_kl=0.5, kl_coef=0.1)
    trainer = PPOTrainer(args, build_tokenizer(), tiny(), None, reward, [PROMPT] * 5, callbacks=[RecordRun(run)])
    trainer.train(resume_from_checkpoint=str(run.last_checkpoint()) if run.last_checkpoint() else None)
"""


@pytest.mark.long
def test_killed_and_resumed_it_goes_the_same_way(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT.format(tests=str(Path(__file__).parents[1]))))

    def losses(run: Path) -> list[float]:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [m["loss"] for m in lines if "loss" in m]

    subprocess.run([sys.executable, str(script), str(tmp_path / "whole"), "0"], check=True, capture_output=True)
    whole = losses(tmp_path / "whole")
    assert len(whole) == 8 * 4
    cut = tmp_path / "cut"
    process = subprocess.Popen([sys.executable, str(script), str(cut), "0.3"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(cut.glob("checkpoints/*/prefine_manifest.json"))) < 2:
        time.sleep(0.02)
    time.sleep(0.35)  # into the next rollout, or its updates
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 0 < len(losses(cut)) < len(whole)
    subprocess.run([sys.executable, str(script), str(cut), "0"], check=True, capture_output=True)
    assert losses(cut) == pytest.approx(whole, abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_the_commands_from_pairs_to_a_judged_policy(
    lab_model: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefine.cli import main

    (tmp_path / "prompts.txt").write_text("my mouse drops calls\nhelp the mouse forgets settings\nwhy is it that my vacuum has no sound\n")
    small = ["--max-steps", "4", "--logging-steps", "1", "--output-dir"]
    assert main(["reward", "--model", str(lab_model), "--data", str(pairs_file), *small, str(tmp_path / "rm"), "--lora-r", "4"]) == 0
    reward = str(tmp_path / "rm" / "model")
    prompts = ["--data", str(tmp_path / "prompts.txt"), "--eval-fraction", "0.34"]
    common = ["--model", str(lab_model), *prompts, "--response-length", "6", "--per-device-train-batch-size", "2"]
    for command, more in (("ppo", ["--num-ppo-epochs", "2"]), ("online-dpo", ["--num-samples", "4"])):
        run = tmp_path / command
        assert main([command, *common, *more, "--reward-model", reward, "--lora-r", "4", *small, str(run)]) == 0
        told = capsys.readouterr().out
        assert "2 learned from, 1 held out" in told
        assert "the reward it was trained on" in told
        assert (run / "model" / "adapter_model.safetensors").exists()
        assert not (run / "model" / "reward0").exists()
        assert any("samples" in line for line in (run / "events.jsonl").read_text().splitlines())
        assert main(["eval", str(run), "--judge", "reward-model", "--reward-model", reward, "--max-new-tokens", "4"]) == 0
        assert main([command, *common, *more, "--output-dir", str(tmp_path / "none")]) == 2
        assert "no reward" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lengths.py").write_text("def score(prompt, answer):\n    return len(answer)\n")
    words = [
        "pairs",
        "--model",
        str(lab_model),
        "--prompts",
        str(tmp_path / "prompts.txt"),
        "--max-new-tokens",
        "8",
        "--output",
        "own.jsonl",
        "--keep-cut",
    ]
    judge = ["--judge", "python", "--function", "lengths:score"]
    assert main([*words, *judge]) == 0
    rows = [json.loads(line) for line in (tmp_path / "own.jsonl").read_text().splitlines()]
    assert rows
    assert all(r["score_chosen"] - r["score_rejected"] > 0 for r in rows)
    assert all(len(r["chosen"][0]["content"]) == r["score_chosen"] for r in rows)
    assert main(["data", "show", "own.jsonl"]) == 0
    assert main([*words, *judge, "--min-gap", "1000"]) == 1
    assert main([*words, "--judge", "fake"]) == 2
    assert main([*words, *judge, "--temperature", "0"]) == 2


def test_reward_model_with_a_tokenizer_of_its_own(lab_model: Path, tmp_path: Path) -> None:
    """Scored by its own tokenizer and template: as the judge scores the same words by plain padded forwards."""
    from transformers import AutoModelForSequenceClassification

    from prefine.evaluation.answers import Answered
    from prefine.evaluation.questions import Question
    from prefine.evaluation.reward_scorer import RewardModel

    other = build_tokenizer()
    state = json.loads(other.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    words = [w for w in vocabulary if not w.startswith("<")]
    state["model"]["vocab"] |= dict(zip(words, [vocabulary[w] for w in reversed(words)], strict=True))
    other._tokenizer = type(other.backend_tokenizer).from_str(json.dumps(state))
    other.chat_template = other.chat_template.replace("<user>", "<user> sorry")
    folder = tmp_path / "rm"
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(lab_model, num_labels=1).save_pretrained(folder)
    other.save_pretrained(folder)
    made = ppo(str(lab_model), str(folder), config(tmp_path, response_length=6, total_episodes=8, value_role="policy"), [PROMPT] * 4)
    sampled = made.score(made.sample(made.drawn_prompts(0, 8), 0))
    asked = [Answered(Question("q", PROMPT), (x.answers[0].text,), (True,)) for x in sampled]
    expected = {place: score.value for place, score in RewardModel(str(folder)).score(asked)}
    assert [x.scores[0] for x in sampled] == pytest.approx([expected[i] for i in range(len(sampled))], abs=1e-5)
    assert len({round(x.scores[0], 4) for x in sampled}) > 1
    with pytest.raises(ModelError, match="another tokenizer"):
        ppo(str(lab_model), str(folder), config(tmp_path, total_episodes=8, value_role="reward"), [PROMPT] * 4)


def test_what_a_template_writes_after_the_end_token_is_read_too(lab_model: Path, tmp_path: Path) -> None:
    """As a new line in ChatML: a reward model is trained on it, so rollouts and judge must read it there; not after cut answers."""
    from transformers import AutoModelForSequenceClassification

    from prefine.evaluation.answers import Answered
    from prefine.evaluation.questions import Question
    from prefine.evaluation.reward_scorer import RewardModel, TrainedReward

    tokenizer = build_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("<end>", "<end> <pad>")
    folder = tmp_path / "rm"
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(lab_model, num_labels=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    args = config(tmp_path, response_length=20, total_episodes=64, value_role="policy", missing_eos_penalty=0.5)
    made = ppo(str(lab_model), str(folder), args, [PROMPT] * 4, tokenizer)
    sampled = made.score(made.sample(made.drawn_prompts(0, 64), 0))
    answers = [x.answers[0] for x in sampled]
    assert {a.ended for a in answers} == {True, False}
    asked = [Answered(Question("q", PROMPT), (a.text,), (a.ended,)) for a in answers]
    judged = {place: score.value for place, score in RewardModel(str(folder)).score(asked)}
    told = dict(TrainedReward(made.rewards, made.combine, made.encoder, made.budget, 0.5).score(asked))
    # Special tokens that a random model says are not in an answer's words.
    same = [i for i, a in enumerate(answers) if tokenizer(a.text)["input_ids"] == a.ids[: len(a.ids) - a.ended]]
    assert {answers[i].ended for i in same} == {True, False}
    assert made._template_tail.tolist() == [tokenizer.pad_token_id]
    for i in same:
        assert told[i].value == pytest.approx(sampled[i].scores[0], abs=1e-5)
        if answers[i].ended:
            assert judged[i] == pytest.approx(sampled[i].scores[0], abs=1e-5)


def test_a_template_of_its_own_is_used(lab_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    from prefine.scoring.roles import TextRole

    other = build_tokenizer()
    other.chat_template = other.chat_template.replace("<user>", "<user> sorry")
    AutoModelForSequenceClassification.from_pretrained(lab_model, num_labels=1).save_pretrained(tmp_path / "rm")
    other.save_pretrained(tmp_path / "rm")
    made = ppo(str(lab_model), str(tmp_path / "rm"), config(tmp_path, total_episodes=8, value_role="policy"), [PROMPT] * 4)
    assert isinstance(made.rewards[0], TextRole)


def test_a_checkpoint_where_passes_were_stopped_knows_it(lab_model: Path, tmp_path: Path) -> None:
    args = config(
        tmp_path,
        response_length=4,
        total_episodes=32,
        num_ppo_epochs=4,
        stop_kl=1e-9,
        save_strategy="steps",
        save_steps=1,
        learning_rate=1e-2,
    )
    made = ppo(str(lab_model), lambda p, a: [float(len(t)) for t in a], args, [PROMPT] * 4)
    made.train()
    rollouts = {p.parent.name: torch.load(p, weights_only=True)["rollouts"] for p in tmp_path.glob("checkpoint-*/sampling.pt")}
    assert rollouts == {"checkpoint-2": 1, "checkpoint-4": 2}  # at the second pass the policy has moved: two passes of four each


@pytest.mark.filterwarnings("ignore")
def test_judge_as_a_reward(lab_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A judge's options in a file: here a function that fails on some answers, which are counted."""
    (tmp_path / "own.py").write_text("def rate(prompt, answer):\n    return len(answer) / 0 if answer.startswith('t') else len(answer)\n")
    judge, prompts = tmp_path / "judge.yaml", tmp_path / "prompts.txt"
    judge.write_text(f"judge: python\nfunction: {tmp_path / 'own.py'}:rate\n")
    prompts.write_text("\n".join(f"my printer is hot {i}" for i in range(8)))
    words = ["ppo", "--model", str(lab_model), "--data", str(prompts), "--output-dir", str(tmp_path / "run"), "--value-role", "policy"]
    words += ["--reward-judge", str(judge), "--response-length", "6", "--max-steps", "2", "--logging-steps", "1"]
    assert main(words) == 0
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert logged[0]["objective/scores"] > 1
    for text, told in (("def rate(:\n", "SyntaxError"), ("def other():\n    pass\n", "no attribute 'rate'")):
        (tmp_path / "own.py").write_text(text)
        assert main([*words[:6], str(tmp_path / "other"), *words[7:]]) == 2
        assert told in capsys.readouterr().err
    judge.write_text("judge: human\n")
    assert main([*words[:6], str(tmp_path / "other"), *words[7:]]) == 2
    judge.write_text("judg: python\n")
    assert main([*words[:6], str(tmp_path / "other"), *words[7:]]) == 2
    assert "did you mean 'judge'" in capsys.readouterr().err


def by_vllm(lab_model: Path, folder: Path, peft: Any, **settings: Any) -> PPOTrainer:
    settings = {"rollout_engine": "vllm", "response_length": 6, "total_episodes": 24, "learning_rate": 5e-2} | settings
    args = config(folder, per_device_train_batch_size=8, **settings)
    return ppo(str(lab_model), lambda p, a: [float(len(t)) for t in a], args, [PROMPT] * 4, peft_config=peft)


@pytest.mark.parametrize("stale", [False, True])
def test_rollouts_by_vllm_take_each_adapter_over(stale: bool, lab_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM is not installed here. A stand-in with its published signatures draws from base and adapter as they lie on disk."""
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    with pytest.raises(ConfigError, match=r"pip install 'prefine\[vllm\]'"):
        by_vllm(lab_model, tmp_path, adapter).train()
    told = fake_vllm(monkeypatch, build_tokenizer(), stale)
    made = by_vllm(lab_model, tmp_path, adapter)
    if stale:  # a sampler that goes on with the first adapter is found out
        with pytest.raises(ModelError, match="sampler and trainer disagree"):
            made.train()
        return
    made.train()
    gaps = [m["objective/sampler_gap"] for m in made.state.log_history if "objective/sampler_gap" in m]
    assert len(gaps) == 3
    assert max(gaps) < 1e-4
    rollouts = [line for i in (1, 2, 3) for line in ("reset", f"generate policy-{i} {i}")]
    assert told == ["start sleeping=False gpus=1", *rollouts]
    with pytest.raises(ConfigError, match="train one"):
        by_vllm(lab_model, tmp_path, None).train()


def test_vllm_sleeps_between_rollouts(lab_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = fake_vllm(monkeypatch, build_tokenizer())
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    by_vllm(lab_model, tmp_path, adapter, vllm_enable_sleep_mode=True, vllm_tensor_parallel_size=2).train()
    assert told[0] == "start sleeping=True gpus=2"
    assert told[1:4] == ["reset", "generate policy-1 1", "sleep 1"]
    assert told[4:8] == ["wake", "reset", "generate policy-2 2", "sleep 1"]


def test_rollouts_by_a_vllm_server(lab_model: Path, tmp_path: Path) -> None:
    """Adapters that it need not keep are taken out; a second run's are others, under names of its own, and it learns the same."""
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    with vllm_serving(str(lab_model), build_tokenizer()) as server:
        settings = {"vllm_mode": "server", "vllm_server_base_url": server.url}
        made = [by_vllm(lab_model, tmp_path / str(run), adapter, **settings) for run in range(2)]
        for trainer in made:
            trainer.train()
            gaps = [m["objective/sampler_gap"] for m in trainer.state.log_history if "objective/sampler_gap" in m]
            assert len(gaps) == 3
            assert max(gaps) < 1e-4
        losses = [[m["loss"] for m in t.state.log_history if "loss" in m] for t in made]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-6)
        assert server.asked == 2 * 24
        names = [line.split() for line in server.told]
        assert [what for what, _ in names[:5]] == ["load", "load", "unload", "load", "unload"]
        assert names[2][1] == names[0][1]
        assert len({name for what, name in names if what == "load"}) == 6
        server.broken = True
        with pytest.raises(ModelError, match="gives no token ids"):
            by_vllm(lab_model, tmp_path / "broken", adapter, **settings).train()
        server.broken, server.takes_adapters = False, False
        with pytest.raises(ConfigError, match="takes no adapters while it runs"):
            by_vllm(lab_model, tmp_path / "closed", adapter, **settings).train()
    with pytest.raises(ConfigError, match="no vLLM server answers there"):
        by_vllm(lab_model, tmp_path / "gone", adapter, **settings).train()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"rollout_engine": "vlm"}, "did you mean 'vllm'"),
        ({"rollout_engine": "vllm", "vllm_mode": "serve"}, "did you mean 'server'"),
        ({"rollout_engine": "vllm", "vllm_server_port": 1}, "by vllm_mode colocate"),
        ({"rollout_engine": "vllm", "vllm_mode": "server", "vllm_enable_sleep_mode": True}, "by vllm_mode server"),
        ({"vllm_server_base_url": "http://x"}, "by rollout_engine transformers"),
    ],
)
def test_what_vllm_would_not_read_is_refused(settings: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        config(tmp_path, **settings)


@pytest.mark.parametrize("estimator", ["grpo", "dr_grpo", "dapo", "gspo", "gae"])
def test_the_split_into_packs_changes_no_gradient(estimator: str, lab_model: Path, tmp_path: Path) -> None:
    """One pack, or one a prompt: every aggregation counts over the whole minibatch."""
    samples = 1 if estimator == "gae" else 4
    settings = {"advantage_estimator": estimator, "num_samples": samples, "response_length": 6, "per_device_train_batch_size": 4}
    settings |= {"mask_truncated_completions": False}  # an untrained model hardly ends a response
    made = ppo(str(lab_model), lambda p, a: [float(len(t)) for t in a], config(tmp_path, total_episodes=16, **settings), [PROMPT] * 4)
    batch = made.rollout(0)
    assert batch
    found = []
    for tokens in (100_000, 24):
        made.budget.tokens = tokens
        made.model.zero_grad()
        moved = [replace(g, old=g.old - 0.05 * (i + 1)) for i, g in enumerate(batch)]
        made.of_all = moved
        loss = made.batch_backward(moved, 1.0)
        found.append([float(loss), *(float(p.grad.norm()) for p in made.model.parameters() if p.grad is not None)])
        assert (len(made.packs(batch)) == 1) == (tokens > 24)
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert found[0][1] > 0
