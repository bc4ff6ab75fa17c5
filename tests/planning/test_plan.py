"""Plans against the models, trainers and optimizers that are really built; properties; whole commands."""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import LoraConfig
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, TrainerCallback

import prefine as pf
from conftest import lab_pairs
from prefine.cli import main
from prefine.packing.budget import TokenBudget
from prefine.planning import devices
from prefine.planning.devices import DEVICES, device_of, machine_memory
from prefine.planning.lengths import Lengths
from prefine.planning.live_bytes import LiveBytes
from prefine.planning.memory import Demand, estimate
from prefine.planning.operations import operations
from prefine.planning.skeleton import NF4_BYTES, groups_of, run_step, skeleton, weight_bytes
from prefine.scoring.scorer import Scorer

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 300,
}
PACK = ((9, (5, 7)), (4, (6, 3)))
LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")


def config_of(kind: str, **more: Any) -> Any:
    return AutoConfig.for_model(kind, **SIZES | more)


def demand(kind: str = "llama", **more: Any) -> Demand:
    own = {k: more.pop(k) for k in [*SIZES, "tie_word_embeddings"] if k in more}
    return replace(Demand(config_of(kind, **own), torch.float32, PACK), **more)


class Seen(TrainerCallback):
    """What a trainer holds before its second update."""

    gradients = states = 0

    def __init__(self) -> None:
        self.trainer: Any = None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        parameters = list(self.trainer.model.parameters())
        self.gradients = sum(p.grad.nbytes for p in parameters if p.grad is not None)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        optimizer = self.trainer.optimizer
        held = getattr(optimizer, "optimizer", optimizer).state.values()
        self.states = sum(v.nbytes for one in held for v in one.values() if isinstance(v, torch.Tensor))


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "sgd", "adafactor", "rmsprop", "adagrad"])
@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("tied", [True, False])
def test_parts_equal_what_a_trainer_holds(tmp_path: Path, lab_model: Path, optim: str, adapter: bool, tied: bool) -> None:
    config = AutoConfig.from_pretrained(lab_model)
    config.tie_word_embeddings = tied
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    weights = sum(t.nbytes for t in {id(t): t for t in (*model.parameters(), *model.buffers())}.values())
    args = pf.DPOConfig(
        output_dir=str(tmp_path),
        max_steps=2,
        optim=optim,
        save_strategy="no",
        per_device_train_batch_size=2,
        use_cpu=True,
        disable_tqdm=True,
    )
    seen = Seen()
    from prefine.scoring.loading import load_tokenizer

    seen.trainer = trainer = pf.DPOTrainer(
        model,
        args=args,
        train_dataset=lab_pairs(8),
        processing_class=load_tokenizer(str(lab_model)),
        callbacks=[seen],
        peft_config=copy.deepcopy(LORA) if adapter else None,
    )
    trainer.train()
    trained = sum(p.nbytes for p in trainer.model.parameters() if p.requires_grad)
    found = estimate(
        Demand(
            AutoConfig.from_pretrained(lab_model, tie_word_embeddings=tied),
            torch.float32,
            PACK,
            adapter=LORA if adapter else None,
            optim=optim,
        )
    ).parts
    assert found["weights"] == weights
    assert found.get("adapter", 0) == (trained if adapter else 0)
    assert found["gradients"] == seen.gradients == trained
    assert found.get("optimizer states", 0) == seen.states


def test_weights_by_hand() -> None:
    """Llama of two layers: an embedding, four projections of attention, three of the MLP, two norms a layer, one at the end."""
    layer = 64 * 64 * 2 + 2 * 64 * 32 + 3 * 64 * 96 + 2 * 64
    for tied, ends in ((True, 300 * 64), (False, 2 * 300 * 64)):
        model = skeleton(config_of("llama", tie_word_embeddings=tied), torch.float32)
        buffers = sum(b.nbytes for b in model.buffers())
        assert weight_bytes(model)[0] == 4 * (2 * layer + ends + 64) + buffers
    # Linear layers but for the head in NF4: half a byte, a byte for 64 weights, four for 64 x 256; the others in float32.
    linear = 2 * (layer - 2 * 64)
    quantised = skeleton(config_of("llama", tie_word_embeddings=True), torch.bfloat16, quantised=NF4_BYTES)
    rest = 4 * (300 * 64 + 5 * 64) + sum(b.nbytes for b in quantised.buffers())
    assert weight_bytes(quantised, quantised=NF4_BYTES)[0] == pytest.approx(linear * (0.5 + 1 / 64 + 4 / 16384) + rest, abs=1)


def test_a_reward_model_has_a_head_of_one_label() -> None:
    config = config_of("qwen2", num_labels=1)
    real = AutoModelForSequenceClassification.from_config(config)
    found = estimate(demand("qwen2", classifier=True))
    assert found.parameters == sum(p.numel() for p in real.parameters())


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma3_text", "mistral", "phi3", "gpt_neox"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("adapter", [False, True])
@pytest.mark.parametrize("logged", [False, True])
def test_activations_are_those_of_the_model_that_computes(kind: str, checkpointing: bool, adapter: bool, logged: bool) -> None:
    """The same count on real tensors, with torch's own attention kernels and real weights."""
    more = {"pad_token_id": 0} if kind == "phi3" else {}
    real = AutoModelForCausalLM.from_config(config_of(kind, **more)).train()
    planned = skeleton(config_of(kind, **more), torch.float32, LORA if adapter else None)
    if adapter:
        from prefine.scoring.loading import add_adapter

        real = add_adapter(real, copy.deepcopy(LORA))
    if checkpointing:
        real.activation_checkpointing_enable()
        if adapter:
            real.enable_input_require_grads()
    found = run_step(planned, PACK, "cpu", checkpointing=checkpointing, token_metrics=logged)
    scorer = Scorer(real)
    pack = scorer.pack(groups_of(PACK))
    with scorer.attending(pack), LiveBytes([*real.parameters(), *real.buffers()]) as counted:
        kept = 0

        def work(hidden: torch.Tensor) -> Any:
            nonlocal kept
            kept = counted.live
            return scorer.head_logps_and_stats(hidden, pack, logged)

        logps, stats = scorer.read(pack, work)
        loss = logps.sum()
        del logps, stats
        torch.autograd.backward(loss)
    assert found.kept == pytest.approx(kept, rel=0.02)  # position ids and the like are made elsewhere
    assert found.peak == pytest.approx(counted.peak, rel=0.02)


def totals(varied: Sequence[Demand]) -> list[int]:
    return [estimate(one).total for one in varied]


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
@pytest.mark.parametrize("adapter", [None, LORA])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_more_is_never_less(kind: str, adapter: Any, device: str) -> None:
    base = {"adapter": adapter, "device": device, "autocast": torch.bfloat16 if device == "cuda" else None}
    for varied in (
        [demand(kind, pack=((n, (n, n)),), **base) for n in (8, 64, 65, 500)],
        [demand(kind, pack=PACK * n, **base) for n in (1, 2, 7)],
        [demand(kind, num_hidden_layers=n, **base) for n in (1, 2, 5)],
        [demand(kind, vocab_size=n, **base) for n in (300, 3000)],
        [demand(kind, optim=o, **base) for o in ("sgd", "lion_32bit", "adamw_torch_fused", "adamw_torch")],
        [demand(kind, reference=r, **base) for r in (False, True)],
        [demand(kind, several=s, **base) for s in (False, True)],
        [demand(kind, pack=((300, (300, 300)),) * 2, checkpointing=c, **base) for c in (True, False)],
    ):
        found = totals(varied)
        assert found == sorted(found)


def test_lengths_and_packs() -> None:
    lengths = Lengths(((10, (4, 6)), (20, (3, 3))), 2)
    assert lengths.mean("shared") == (10 + 3 + 5 + 20 + 2 + 2) / 2
    assert lengths.mean("unshared") == (20 + 8 + 40 + 4) / 2
    assert lengths.mean("scored") == (10 + 6) / 2
    pack, several = lengths.largest_pack(TokenBudget(30), 2)
    assert (pack, several) == ([(20, (3, 3))], True)
    pack, several = lengths.largest_pack(TokenBudget(42), 2)
    assert (sorted(pack), several) == ([(10, (4, 6)), (20, (3, 3))], False)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_operations_are_those_that_torch_counts(kind: str) -> None:
    """Forward of a group. On a CPU torch counts no attention, which by hand is two products of each query and key that see each other."""
    config = config_of(kind)
    model = AutoModelForCausalLM.from_config(config).eval()
    scorer = Scorer(model)
    shapes = [(30, (11,))]
    pack = scorer.pack(groups_of(shapes))
    with torch.no_grad(), scorer.attending(pack), FlopCounterMode(display=False) as counter:
        scorer.token_logps(pack)
    counted = counter.get_total_flops()
    planned = operations(model, shapes)
    tokens = 30 + 10
    attention = 2 * (2 * 4 * 16 * 2) * tokens * (tokens + 1) / 2  # layers x (two products x heads x size x two operations) x pairs
    assert planned.trunk - attention + planned.head == pytest.approx(counted)


# ---- devices


def test_unknown_devices_name_the_nearest() -> None:
    with pytest.raises(pf.PrefineError, match="did you mean 'h100-80gb'"):
        device_of("h100-80")
    for name, device in DEVICES.items():
        assert device_of(name) == device
        assert device.source


def test_memory_is_the_control_groups(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 600 kB\n")
    assert machine_memory(tmp_path) == (1000 * 1024, 600 * 1024)
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b\n")
    for folder, limit, used in (("", "max", 0), ("a", 400 * 1024, 100 * 1024), ("a/b", "max", 0)):
        place = tmp_path / "sys/fs/cgroup" / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "memory.max").write_text(f"{limit}\n")
        (place / "memory.current").write_text(f"{used}\n")
    assert machine_memory(tmp_path) == (400 * 1024, 300 * 1024)
    (tmp_path / "proc/self/cgroup").write_text("5:cpu,memory:/x\n")
    old = tmp_path / "sys/fs/cgroup/memory/x"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text(str(500 * 1024))
    (old / "memory.usage_in_bytes").write_text(str(450 * 1024))
    assert machine_memory(tmp_path) == (500 * 1024, 50 * 1024)


# ---- whole commands


def prefine(*words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-m", "prefine.cli", *words], capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def giant(tmp_path_factory: pytest.TempPathFactory, lab_model: Path) -> Path:
    """A model of 70 billion parameters of which there is all but the weights."""
    import shutil

    folder = tmp_path_factory.mktemp("giant") / "model"
    shutil.copytree(lab_model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    sizes = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64, "head_dim": 128}
    (folder / "config.json").write_text(json.dumps(config | sizes | {"num_key_value_heads": 8, "vocab_size": 128256}))
    return folder


@pytest.mark.long
def test_what_cannot_fit_is_refused_before_its_weights_are_read(giant: Path, pairs_file: Path, tmp_path: Path) -> None:
    words = ["dpo", "--model", str(giant), "--data", str(pairs_file), "--output-dir", str(tmp_path / "run"), "--ignore-audit"]
    done = prefine(*words)
    assert done.returncode == 2
    [line] = [row for row in done.stderr.splitlines() if row.startswith("prefine: error:")]
    assert "GiB even with one prompt a pack" in line
    assert "--ignore-plan" in line
    assert not (tmp_path / "run").exists()
    going = prefine(*words, "--ignore-plan")
    assert going.returncode == 2
    assert "could not be loaded" in going.stderr  # it went on to the weights, which are not there


@pytest.mark.long
def test_a_plan_for_a_device_that_is_too_small(giant: Path, pairs_file: Path) -> None:
    found = pf.plan("dpo", str(giant), str(pairs_file), device="t4", ignore_audit=True)
    assert not found.fits
    assert found.best is None
    assert found.planned.device.memory_bytes == 16 * 2**30
    assert found.planned.memory.parts["weights"] > 4 * 68e9
    assert "nothing of this fits on t4" in str(found)
    assert "<table>" in found._repr_html_()
    small = pf.plan("dpo", str(giant), str(pairs_file), device="h100-80gb", ignore_audit=True, lora_r=16, load_in_4bit=True)
    assert small.planned.memory.parts["weights"] < 45e9
    assert small.best is not None


@pytest.mark.long
def test_the_printed_file_trains(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    words = ["--model", str(lab_model), "--data", str(pairs_file), "--lora-r", "4", "--max-steps", "2", "--final-eval", "off"]
    words += ["--output-dir", str(tmp_path / "run"), "--ignore-audit"]
    done = prefine("plan", "dpo", *words)
    assert done.returncode == 0, done.stderr
    text = done.stdout.partition("as a --config file:\n")[2].partition("to train:")[0]
    assert yaml.safe_load(text)["lora_r"] == 4
    file = tmp_path / "plan.yaml"
    file.write_text(text)
    trained = prefine("dpo", "--config", str(file))
    assert trained.returncode == 0, trained.stderr
    assert "memory: about" in trained.stdout
    run = pf.Run(tmp_path / "run")
    assert run.plan["parts"]["weights"] == (lab_model / "model.safetensors").stat().st_size // 64 * 64 or run.plan["parts"]["weights"] > 0
    assert run.plan["total_bytes"] == max(run.plan["phases"].values()) + run.plan["framework_bytes"]


@pytest.mark.parametrize("method", ["sft", "reward", "ppo", "online-dpo"])
def test_every_method_has_a_plan(method: str, lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    reward = tmp_path / "reward"
    AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(lab_model, num_labels=1)).save_pretrained(reward)
    more = {"reward_model": [str(reward)], "response_length": 16} if method in ("ppo", "online-dpo") else {}
    found = pf.plan(method, str(lab_model), str(pairs_file), device="l4", ignore_audit=True, **more)
    parts = found.planned.memory.parts
    assert found.fits
    assert found.operations > 0
    assert found.seconds is not None
    weights = parts["weights"]
    # float32 weights and as many bytes of gradients; two states of AdamW; of PPO the value model is trained as well.
    trained = 2 if method == "ppo" else 1
    assert parts["gradients"] == pytest.approx(trained * weights, rel=0.15)
    assert ("reference" in parts) == (method in ("ppo", "online-dpo"))
    assert ("KV cache" in parts) == (method in ("ppo", "online-dpo"))
    assert ("reward and value models" in parts) == (method in ("ppo", "online-dpo"))


def test_an_unknown_method_and_a_foreign_option() -> None:
    with pytest.raises(pf.PrefineError, match="did you mean 'dpo'"):
        pf.plan("dpoo", "m", "d")
    with pytest.raises(pf.PrefineError, match="num_mini_batches"):
        pf.plan("sft", "m", "d", num_mini_batches=2)


def test_a_reference_whose_log_probs_are_known_is_given_up(tmp_path: Path, lab_model: Path) -> None:
    """While training runs nothing holds it, which is what the plan reckons with."""
    import gc
    import weakref

    from prefine.scoring.loading import load_tokenizer

    class Looks(TrainerCallback):
        alive: bool | None = None

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            gc.collect()
            self.alive = held() is not None

    looks = Looks()
    args = pf.DPOConfig(
        output_dir=str(tmp_path), max_steps=1, precompute_ref_log_probs=True, save_strategy="no", use_cpu=True, disable_tqdm=True
    )
    model, tokenizer = AutoModelForCausalLM.from_pretrained(lab_model), load_tokenizer(str(lab_model))
    trainer = pf.DPOTrainer(model, args=args, train_dataset=lab_pairs(8), processing_class=tokenizer, callbacks=[looks])
    held = weakref.ref(trainer.ref_model)
    assert held() is not None
    trainer.train()
    assert looks.alive is False


def test_freed_memory_is_given_back() -> None:
    script = """
import torch
from pathlib import Path
from prefine.training.peak_memory import give_back_freed_memory

def resident():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0]) // 1024

torch.ones(4 << 20).sum()  # freed, and with them malloc's threshold rises
assert {ask}
before = resident()
blocks = [torch.ones(1 << 18) for _ in range(200)]
del blocks[:-1]  # the last holds the heap's end
print(resident() - before)
"""
    kept, given = (
        int(subprocess.run([sys.executable, "-c", script.replace("{ask}", ask)], capture_output=True, text=True, check=True).stdout)
        for ask in ("True", "give_back_freed_memory()")
    )
    assert kept > 150  # else it tells nothing
    assert given < 20


@pytest.mark.parametrize("times", [2, 4])
def test_it_is_given_back_where_memory_is_short(
    times: int, lab_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from prefine.api import plan_lines
    from prefine.planning import devices
    from prefine.training import peak_memory

    asked = []
    held = plan_lines.framework_bytes(devices.processor())
    monkeypatch.setattr(devices, "found", lambda: replace(devices.processor(), memory_bytes=times * held, available_bytes=None))
    monkeypatch.setattr(peak_memory, "give_back_freed_memory", lambda: asked.append(1) or True)
    line = ["dpo", "--model", lab_model, "--data", pairs_file, "--output-dir", tmp_path / "r", "--max-steps", 1, "--final-eval", "off"]
    assert main([str(w) for w in line]) == 0
    assert len(asked) == (times == 2)
    assert ("freed memory is given back" in capsys.readouterr().out) == (times == 2)


def test_a_long_training_says_how_long(
    lab_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from prefine.api import plan_lines
    from prefine.planning import operations

    monkeypatch.setattr(operations, "matrix_rate", lambda device, dtype, seconds: 1e6)
    words = ["--model", lab_model, "--data", pairs_file, "--max-steps", 2, "--final-eval", "off"]
    for place, short in enumerate((True, False)):
        monkeypatch.setattr(plan_lines, "LONG", math.inf if short else 0.0)
        assert main([str(w) for w in ["dpo", *words, "--output-dir", tmp_path / str(place)]]) == 0
        assert ("of updates at this machine's rate" in capsys.readouterr().out) != short
    wanted = pf.plan("dpo", str(lab_model), str(pairs_file), max_steps=2)
    assert pf.Run(tmp_path / "1").plan["seconds"] == wanted.seconds
    assert pf.Run(tmp_path / "0").plan["seconds"] is None


def gpu(gib: float) -> devices.Device:
    return devices.Device("a GPU", "cuda", int(gib * 2**30), None, "bfloat16", "found here")


@pytest.mark.parametrize(("room", "words", "kept", "budget"), [
    (100, [], True, "auto"),
    (100, ["--gradient-checkpointing"], False, "auto"),
    (100, ["--no-gradient-checkpointing"], True, "auto"),
    (100, ["--token-budget", "300"], True, "300"),
    (0.01, ["--ignore-plan"], False, "auto"),
])  # fmt: skip
def test_activations_are_kept_on_a_gpu_where_they_fit(
    room: float, words: list[str], kept: bool, budget: str, lab_model: Path, pairs_file: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: Any,
) -> None:  # fmt: skip
    monkeypatch.setattr(devices, "found", lambda: gpu(room))
    monkeypatch.setattr(devices, "kind_here", lambda: "cuda")
    run = tmp_path / "run"
    line = [
        "dpo",
        "--model",
        lab_model,
        "--data",
        pairs_file,
        "--output-dir",
        run,
        "--max-steps",
        2,
        "--save-steps",
        1,
        "--final-eval",
        "off",
    ]
    assert main([str(w) for w in [*line, *words]]) == 0
    assert ("activations are kept" in capsys.readouterr().out) == (kept and "--no-gradient-checkpointing" not in words)
    config = pf.Run(run).config
    assert config["gradient_checkpointing"] == (not kept)
    # It goes on as it was, whatever room there is now.
    shutil.rmtree(run / "checkpoints" / "checkpoint-2")
    shutil.rmtree(run / "model")
    for other in (0.01, 100):
        monkeypatch.setattr(devices, "found", lambda other=other: gpu(other))
        assert main([str(w) for w in [*line, *words, "--ignore-plan", "--resume"]]) == 0
    assert pf.Run(run).config["gradient_checkpointing"] == (not kept)


def test_packs_become_smaller_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest budget that fits without computing activations again, and none below two thousand tokens."""
    from types import SimpleNamespace

    from prefine.api.plan_lines import ROOMY, without_recompute
    from prefine.packing.budget import KEEPING_TOKENS as BUDGETS

    lengths = Lengths(((300, (200, 200)),) * 400, 400)
    base = demand("llama", device="cuda", checkpointing=True)
    needs = {}
    for tokens in BUDGETS:
        pack = [lengths.shapes[0]] * (tokens // 698)
        needs[tokens] = ROOMY * estimate(replace(base, pack=tuple(pack), several=True, checkpointing=False)).total
    assert sorted(needs.values(), reverse=True) == list(needs.values())
    for tokens, bytes_ in [*needs.items(), (None, 0)]:
        args = SimpleNamespace(
            token_budget="auto", gradient_accumulation_steps=1, per_device_train_batch_size=64, seed=0, gradient_checkpointing=True
        )
        setup = SimpleNamespace(args=args, given=frozenset(), command="dpo", training={})
        found = without_recompute(setup, base, lengths, gpu((bytes_ + 1000) / 2**30), 0)
        assert found.checkpointing == args.gradient_checkpointing == (tokens is None)
        assert args.token_budget == ("auto" if tokens in (None, BUDGETS[0]) else str(tokens))
