"""What a model can take, what other libraries refuse: one line before training, in whole commands, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from conftest import lab_pairs
from prefine.cli import main
from prefine.errors import ConfigError, DataError, ModelError
from prefine.lab.model import build_model, build_tokenizer
from prefine.packing.group import PromptGroup, as_ids
from prefine.packing.store import GroupStore
from prefine.runs import RunDirectory, discard_unused
from prefine.scoring.limits import Limits, check_groups, fit_tokenizer
from prefine.scoring.loading import load_model, load_tokenizer
from prefine.scoring.reward_scorer import load_reward_model
from prefine.training.refusals import refusals

V = len(build_tokenizer())


def saved(folder: Path, model: Any, added: dict[str, str] | None = None) -> str:
    tokenizer = build_tokenizer()
    if added:
        tokenizer.add_special_tokens(added)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def gpt2(positions: int = 48, kind: str = "GPT2LMHeadModel", **more: Any) -> Any:
    config = transformers.GPT2Config(vocab_size=V, n_positions=positions, n_embd=32, n_layer=1, n_head=2, bos_token_id=None, **more)
    config.eos_token_id = config.pad_token_id = 4
    return getattr(transformers, kind)(config)


def qwen2(kind: str = "Qwen2ForSequenceClassification", **more: Any) -> Any:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = transformers.Qwen2Config(vocab_size=V, **sizes, pad_token_id=0, eos_token_id=4, bos_token_id=None, **more)
    return getattr(transformers, kind)(config)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models and data that do not fit each other."""
    folder = tmp_path_factory.mktemp("limits")
    good = build_model(0, hidden=32, layers=1)
    saved(folder / "good", good)
    saved(folder / "pad", good, {"pad_token": "[PAD]"})
    saved(folder / "added", good, {"additional_special_tokens": ["<never>"]})
    small = build_model(0, hidden=32, layers=1)
    small.resize_token_embeddings(V - 20)
    saved(folder / "small", small)
    saved(folder / "gpt2", gpt2())
    saved(folder / "gpt2-reward", gpt2(kind="GPT2ForSequenceClassification", num_labels=1))
    rows = lab_pairs(40)
    for name, change in (("pairs", ""), ("long", "my mouse " * 30), ("rare", "<never>")):
        text = [json.dumps(r | {"chosen": r["chosen"] + change}) + "\n" for r in rows]
        (folder / f"{name}.jsonl").write_text("".join(text))
    (folder / "prompts.txt").write_text("my mouse drops calls\nwhy is it that my vacuum has no sound\nhelp <never>\n")
    return folder


def words(place: Path, command: str, out: Path, *more: str, model: str = "good", data: str = "pairs.jsonl") -> list[str]:
    common = ["--model", str(place / model), "--data", str(place / data), "--output-dir", str(out), "--max-steps", "1"]
    return [command, *common, "--per-device-train-batch-size", "2", *more]


def in_processes(commands: dict[str, list[str]]) -> dict[str, subprocess.CompletedProcess[str]]:
    def one(argv: list[str]) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, "-m", "prefine.cli", *argv], check=False, capture_output=True, text=True, env=environment)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(commands, pool.map(one, commands.values()), strict=True))


LORA = ("--lora-r", "4")
FRESH = 5
"""So many of the refused are tried in processes of their own; it takes seconds each."""
REFUSED: list[tuple[str, tuple[str, ...], dict[str, str], str]] = [
    ("dpo", ("--report-to", "wandb"), {}, "--report-to wandb"),
    ("sft", ("--optim", "grokadamw"), {}, "--optim grokadamw"),
    ("dpo", ("--model-init-kwargs", '{"attn_implementation": "flash_attention_2"}'), {}, "FlashAttention2"),
    ("dpo", (*LORA, "--lora-target", "embed_tokens", "q_proj"), {}, "one tensor in this model"),
    ("dpo", (), {"model": "small"}, "give the tokenizer that belongs to the model"),
    ("sft", (), {"model": "gpt2", "data": "long.jsonl"}, "the model has 48 positions; give --max-length 48"),
    ("reward", (), {"model": "added", "data": "rare.jsonl"}, f"a token has id {V}, and the model has embeddings of {V} ids"),
    ("reward", ("--deepspeed", "x.json"), {}, "deepspeed"),
    ("reward", (*LORA, "--lora-target", "nonsense"), {}, "the adapter does not fit the model"),
    ("dpo", ("--torch-compile", "--torch-compile-backend", "nonsense"), {}, "torch_compile would be ignored"),
    ("dpo", ("--use-liger-kernel",), {}, "liger"),
    ("sft", ("--adam-beta1", "1.5"), {}, "Invalid beta parameter at index 0: 1.5"),
    ("online-dpo", ("--reward-model", "{place}/gpt2-reward", "--response-length", "60"), {"data": "prompts.txt"}, "48 positions"),
    ("ppo", ("--reward-model", "{place}/good"), {"data": "prompts.txt"}, "no reward model but a"),
]


@pytest.mark.long
def test_what_cannot_be_trained_is_one_line_in_a_fresh_process(place: Path, tmp_path: Path) -> None:
    out = {str(i): tmp_path / "runs" / str(i) for i in range(FRESH)}
    commands = {str(i): refused(place, out[str(i)], i) for i in range(FRESH)}
    for name, found in in_processes(commands).items():
        assert (found.returncode, "Traceback" in found.stderr) == (2, False), (commands[name], found.stderr)
        check_line(found.stderr, int(name))
    assert not (tmp_path / "runs").exists()  # with the parent that was made for them


@pytest.mark.parametrize("at", range(FRESH, len(REFUSED)))
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_trained_is_one_line(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], at: int) -> None:
    for out in (tmp_path / "runs" / "x", tmp_path):
        assert main(refused(place, out, at)) == 2
        check_line(capsys.readouterr().err, at)
        assert not (tmp_path / "runs").exists()
    assert tmp_path.is_dir()  # it stood before


def refused(place: Path, out: Path, at: int) -> list[str]:
    command, more, where, _ = REFUSED[at]
    return words(place, command, out, *(m.replace("{place}", str(place)) for m in more), **where)


def check_line(stderr: str, at: int) -> None:
    last = stderr.strip().splitlines()[-1]
    assert last.startswith("prefine: error:"), stderr
    assert REFUSED[at][3] in last


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--report-to", "nonsense"), "--report-to nonsense"),
        (("--optim", "nonsense"), "--optim nonsense"),
        (("--optim", "galore_adamw"), "--optim galore_adamw"),
        (("--optim", "schedule_free_adamw"), "--optim schedule_free_adamw"),
        (("--lr-scheduler-type", "nonsense"), "--lr-scheduler-type nonsense"),
        (("--lr-scheduler-type", "cosine_with_min_lr"), "min_lr"),
        (("--lr-scheduler-kwargs", '{"nope": 1}'), "unexpected keyword argument 'nope'"),
        (("--gradient-checkpointing", "--gradient-checkpointing-kwargs", '{"nope": 1}'), "--gradient-checkpointing-kwargs {'nope': 1}"),
        (("--log-level", "nonsense"), "--log-level nonsense"),
        (("--warmup-steps", "-1"), "--warmup-steps -1"),
        (("--per-device-train-batch-size", "0"), "per_device_train_batch_size is 0; expected at least 1"),
        (("--gradient-accumulation-steps", "0"), "gradient_accumulation_steps is 0"),
        (("--dataloader-num-workers", "-1"), "dataloader_num_workers is -1"),
        (("--seed", "-1"), "seed is -1"),
        (("--learning-rate", "-1"), "learning_rate is -1"),
        (("--num-train-epochs", "-1", "--max-steps", "-1"), "num_train_epochs is -1"),
        (("--accelerator-config", "nowhere.json"), "nowhere.json"),
        (("--dtype", "nonsense"), "dtype is 'nonsense'"),
        (("--torch-dtype", "nonsense"), "unknown option --torch-dtype"),
        (("--attn-implementation", "flash_attention_2"), "unknown option --attn-implementation"),
        (("--lora-r", "0"), "--lora-r is 0; expected at least 1"),
        ((*LORA, "--lora-dropout", "1.5"), "--lora-dropout is 1.5; expected 0 to below 1"),
        ((*LORA, "--lora-alpha", "-1"), "--lora-alpha is -1; expected a number above 0"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_options_are_refused_before_anything_is_read(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], told: str
) -> None:
    out = tmp_path / "runs" / "x"
    (place / "broken.jsonl").write_text("{")  # reading it would be another error
    for command in ("dpo", "sft"):
        assert main(words(place, command, out, *more, data="broken.jsonl")) == 2
        error = capsys.readouterr().err.strip()
        assert error.startswith("prefine: error:")
        assert len(error.splitlines()) == 1
        assert told in error
        assert not out.parent.exists()


@pytest.mark.filterwarnings("ignore")
def test_a_pad_token_beyond_the_embeddings_is_not_needed(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    assert main(words(place, "dpo", run, *LORA, model="pad")) == 0
    prompts = str(place / "prompts.txt")
    for model in (str(place / "pad"), str(run)):
        answers = ["generate", "--model", model, "--prompts", prompts, "--output", str(tmp_path / f"{Path(model).name}.jsonl")]
        assert main([*answers, "--max-new-tokens", "3"]) == 0
    assert main(["eval", str(run), "--samples", "0", "--max-new-tokens", "3"]) == 0
    assert main(["merge", str(run)]) == 0
    tokenizer = load_tokenizer(str(run / "merged"))
    assert tokenizer.pad_token == tokenizer.eos_token
    model, tokenizer = load_model(str(place / "pad")), load_tokenizer(str(place / "pad"))
    with pytest.warns(UserWarning, match=r"the pad token \[PAD\] \(id \d+\) is beyond"):
        fit_tokenizer(model, tokenizer)
    tokenizer.eos_token = "[PAD]"
    with pytest.raises(ModelError, match="resize_token_embeddings"):
        fit_tokenizer(model, tokenizer)


@pytest.mark.filterwarnings("ignore")
def test_every_command_refuses_a_tokenizer_that_is_not_the_models(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, prompts, out = str(place / "small"), str(place / "prompts.txt"), str(tmp_path / "x.jsonl")
    run = tmp_path / "run"
    assert main(words(place, "sft", run)) == 0
    shutil.rmtree(run / "model")
    shutil.copytree(small, run / "model")
    judge = ["--judge", "reward-model", "--reward-model", str(place / "gpt2-reward-small")]
    saved(place / "gpt2-reward-small", gpt2(kind="GPT2ForSequenceClassification", num_labels=1))
    model = gpt2(kind="GPT2ForSequenceClassification", num_labels=1)
    model.resize_token_embeddings(V - 20)
    model.save_pretrained(place / "gpt2-reward-small")
    files = []
    for name in ("base", "mine"):
        files.append(str(tmp_path / f"{name}.json"))
        Path(files[-1]).write_text(json.dumps([{"instruction": "q", "output": name, "generator": name}]))
    for command in (
        ["generate", "--model", small, "--prompts", prompts, "--output", out],
        ["pairs", "--model", small, "--prompts", prompts, "--output", out, "--judge", "python", "--function", "builtins:len"],
        ["judge", *files, *judge, "--output-dir", str(tmp_path / "j")],
        ["judge", *files, "--judge", "implicit", "--reward-run", str(run), "--output-dir", str(tmp_path / "j")],
        ["eval", str(run), "--prompts", prompts],
        ["chat", str(run)],
        ["merge", str(run)],
        words(place, "ppo", tmp_path / "p", "--reward-function", "builtins:zip", model="small", data="prompts.txt"),
        words(place, "reward", tmp_path / "p", model="small"),
    ):
        capsys.readouterr()
        assert main(command) == 2, command
        assert "give the tokenizer that belongs to the model" in capsys.readouterr().err, command
    assert not (tmp_path / "p").exists()


@pytest.mark.filterwarnings("ignore")
def test_prompts_and_answers_that_do_not_fit_fail_one_by_one(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = tmp_path / "a.jsonl"
    asked = ["generate", "--model", str(place / "added"), "--prompts", str(place / "prompts.txt"), "--output", str(answers)]
    assert main([*asked, "--max-new-tokens", "3"]) == 0
    out = capsys.readouterr().out
    assert "2 of 3 prompts answered" in out
    assert f"a token has id {V}, and the model has embeddings of {V} ids" in out
    files = []
    for name, text in (("base", "my mouse "), ("mine", "the mouse ")):
        files.append(str(tmp_path / f"{name}.json"))
        rows = [{"instruction": f"q {i}", "output": text * (30 if i == 3 else 1), "generator": name} for i in range(4)]
        Path(files[-1]).write_text(json.dumps(rows))
    judge = ["judge", *files, "--judge", "reward-model", "--reward-model", str(place / "gpt2-reward"), "--output-dir", str(tmp_path / "j")]
    assert main(judge) == 0
    out = capsys.readouterr().out
    assert "1 of 4 verdicts failed" in out
    assert "tokens, and the model has 48 positions" in out


@pytest.mark.filterwarnings("ignore")
def test_an_evaluation_stays_within_the_positions(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, text = tmp_path / "run", tmp_path / "text.txt"
    text.write_text("my mouse drops calls " * 100)
    assert main(words(place, "dpo", run, model="gpt2")) == 0
    assert main(["eval", str(run), "--perplexity", str(text), "--samples", "0", "--max-new-tokens", "3"]) == 0
    assert f"perplexity of {text}" in capsys.readouterr().out
    rows = [json.dumps(r | {"chosen": r["chosen"] + " my mouse" * 30 * (i % 2)}) + "\n" for i, r in enumerate(lab_pairs(20, seed=9))]
    (tmp_path / "other.jsonl").write_text("".join(rows))
    assert (
        main(["eval", str(run), "--data", str(tmp_path / "other.jsonl"), "--name", "other", "--samples", "0", "--max-new-tokens", "3"]) == 0
    )
    assert "tokens, and the model has 48 positions)" in capsys.readouterr().out
    assert main(["eval", str(run), "--data", str(place / "long.jsonl"), "--samples", "0"]) == 2
    assert "the model can take none of the rows" in capsys.readouterr().err
    others = [json.dumps({"prompt": f"{i} " + "my mouse drops calls " * 40, "chosen": "a", "rejected": "b"}) + "\n" for i in range(3)]
    (tmp_path / "others.jsonl").write_text("".join(others))
    long = ["--eval-data", str(tmp_path / "others.jsonl")]
    assert main(words(place, "dpo", tmp_path / "next", *long, model="gpt2")) == 2
    assert "held-out pairs, row 1" in capsys.readouterr().err
    assert not (tmp_path / "next").exists()


def test_limits_are_read_from_the_modules() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    opt = transformers.OPTConfig(vocab_size=V, max_position_embeddings=40, ffn_dim=64, word_embed_proj_dim=32, **sizes)
    gptj = transformers.GPTJConfig(vocab_size=V, n_positions=40, n_embd=32, n_layer=1, n_head=2, rotary_dim=4)
    bloom = transformers.BloomConfig(vocab_size=V, hidden_size=32, n_layer=1, n_head=2)
    for model, expected in (
        (gpt2(40), Limits(V, 40, 40)),
        (transformers.OPTForCausalLM(opt), Limits(V, 40, 40)),  # whose table has two rows more
        (transformers.GPTJForCausalLM(gptj), Limits(V, 40, 40)),  # rotary, from a table
        (transformers.BloomForCausalLM(bloom), Limits(V, None, None)),
        (qwen2("Qwen2ForCausalLM", max_position_embeddings=40), Limits(V, None, 40)),
    ):
        assert Limits.of(model) == expected, type(model)
    limits = Limits(10, 4, 4)
    assert limits.misfit(as_ids([1, 9, 3, 4])) == ""
    assert limits.misfit(as_ids([1, 10])) == "a token has id 10, and the model has embeddings of 10 ids"
    assert limits.misfit(as_ids([1, 2, 3]), more=2) == "5 tokens, and the model has 4 positions"


def test_groups_on_disk_and_in_memory_are_held_against_limits(tmp_path: Path) -> None:
    groups = [PromptGroup(as_ids([1, 2]), (as_ids([3]), as_ids([4, 5])), 7), PromptGroup(as_ids([1]), (as_ids([9] * 4),), 8)]
    store = GroupStore.write(tmp_path / "store", groups, dict)
    assert (store.most_id(), store.most_tokens()) == (9, 5)
    for data in (groups, store):
        check_groups(Limits(10, 5, 5), data, "rows")
        with pytest.raises(DataError, match="rows, row 8: a token has id 9"):
            check_groups(Limits(9, 5, 5), data, "rows")
        with pytest.raises(DataError, match="row 8: 5 tokens, and the model has 4 positions; give --max-length 4"):
            check_groups(Limits(10, 4, 4), data, "rows")
        with pytest.raises(DataError, match=r"row 7: 7 tokens.* of which response_length 3 are sampled"):
            check_groups(Limits(10, 6, 6), data, "rows", more=3)
        with pytest.warns(UserWarning, match="sequences of up to 5 tokens, and the model is made for 4 positions"):
            check_groups(Limits(10, None, 4), data, "rows")
    check_groups(Limits(9, 4, 4), store.select(np.array([0])), "rows")  # what is not selected is no matter


def test_heads_of_one_label_are_known_by_their_weights(tmp_path: Path) -> None:
    def silent(name: str, labels: int, *keys: str) -> str:
        folder = saved(tmp_path / name, qwen2(num_labels=labels))
        config = json.loads((tmp_path / name / "config.json").read_text())
        (tmp_path / name / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k not in keys}))
        return folder

    labels = ("id2label", "label2id", "num_labels")
    for folder in (silent("a", 1, *labels), silent("b", 1, "architectures"), silent("c", 1, "architectures", *labels)):
        assert load_reward_model(folder).score.weight.shape == (1, 32)
    for new_head in (False, True):
        with pytest.raises(ModelError, match="a classifier of 3 labels"):
            load_reward_model(silent("d", 3, *labels), new_head=new_head)
    with pytest.raises(ModelError, match="no reward model but a Qwen2ForCausalLM"):
        load_reward_model(saved(tmp_path / "e", qwen2("Qwen2ForCausalLM")))
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    (tmp_path / "a" / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(ModelError, match="mend the config"):
        load_reward_model(str(tmp_path / "a"))


def test_an_adapter_whose_base_is_gone_names_it(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, base = tmp_path / "run", tmp_path / "base"
    shutil.copytree(place / "good", base)
    command = words(place, "sft", run, *LORA)
    command[2] = str(base)
    assert main(command) == 0
    shutil.rmtree(base)
    answers = ["generate", "--model", str(run), "--prompts", str(place / "prompts.txt"), "--output", str(tmp_path / "a.jsonl")]
    for command in (answers, ["merge", str(run)], words(place, "dpo", tmp_path / "next", model=str(run / "model"))):
        capsys.readouterr()
        assert main(command) == 2
        assert f"an adapter whose base is gone: {base}: no such model folder" in capsys.readouterr().err
    path = run / "model" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": None}))
    with pytest.raises(ModelError, match="an adapter that names no base"):
        load_model(str(run / "model"))


def test_our_own_errors_are_not_blamed_on_an_option() -> None:
    with pytest.raises(ZeroDivisionError), refusals():
        1 / 0  # noqa: B018
    with pytest.raises(ValueError, match="weight_decay"), refusals():
        raise ValueError("weight_decay")
    with pytest.raises(ConfigError, match="Invalid learning rate"), refusals():
        torch.optim.AdamW([torch.zeros(1)], lr=-1.0)
    with pytest.raises(RuntimeError, match="shapes"), refusals(began=lambda: True):
        torch.nn.functional.linear(torch.zeros(2), torch.zeros(3, 3))
    with pytest.raises(ConfigError, match="already holds a run"), refusals():
        raise ConfigError("already holds a run")


def test_only_what_was_made_and_not_used_is_discarded(tmp_path: Path) -> None:
    discard_unused()
    for name in ("used", "unused", "stood"):
        if name == "stood":
            (tmp_path / name).mkdir()
        run = RunDirectory.create(tmp_path / name if name == "stood" else tmp_path / "deep" / name)
        run.write_config({}, ["dpo"])
        run.checkpoints.mkdir()
        if name == "used":
            run.append_metrics({"step": 1})
    discard_unused()
    assert sorted(p.name for p in tmp_path.rglob("config.yaml")) == ["config.yaml"] * 2
    assert not (tmp_path / "deep" / "unused").exists()
    RunDirectory.create(tmp_path / "stood")  # nothing began there
    with pytest.raises(ConfigError, match="already holds a run"):
        RunDirectory.create(tmp_path / "deep" / "used")
