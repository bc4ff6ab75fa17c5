"""Options that are read under some other setting only: refused without it, taken with it; every field of transformers has its place."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments

import prefine
from prefine.errors import ConfigError
from prefine.training.config.conditional import BY_HAND, CONDITIONAL
from prefine.training.config.fields import REFUSED

CONFIGS = ("DPOConfig", "KTOConfig", "SFTConfig", "RewardConfig", "OnlineDPOConfig", "PPOConfig")
EVALUATES = {"eval_strategy": "steps"}
NEEDS: dict[str, tuple[Any, dict[str, Any], str, dict[str, Any] | None]] = {
    # option: (value, settings under which transformers does not read it, what the message names, settings under which it does)
    "eval_steps": (3, {}, "eval_strategy", EVALUATES),
    "eval_delay": (2, {"eval_strategy": "no"}, "eval_strategy", {"eval_strategy": "epoch"}),
    "logging_steps": (7, {"logging_strategy": "epoch"}, "logging_strategy", {"logging_strategy": "steps"}),
    "save_steps": (7, {"save_strategy": "no"}, "save_strategy", {"save_strategy": "steps"}),
    "save_total_limit": (2, {"save_strategy": "no"}, "save_strategy", {"save_strategy": "epoch"}),
    "save_only_model": (True, {"save_strategy": "no"}, "save_strategy", {}),
    "warmup_steps": (5, {"lr_scheduler_type": "constant"}, "constant_with_warmup", {"lr_scheduler_type": "constant_with_warmup"}),
    "lr_scheduler_kwargs": (
        {"num_cycles": 2},
        {"lr_scheduler_type": "constant_with_warmup"},
        "lr_scheduler_type",
        {"lr_scheduler_type": "cosine_with_restarts"},
    ),
    "activation_checkpointing_kwargs": (
        {"use_reentrant": False},
        {"gradient_checkpointing": False},
        "gradient_checkpointing",
        {"gradient_checkpointing": True},
    ),
    "dataloader_prefetch_factor": (4, {}, "dataloader_num_workers", {"dataloader_num_workers": 1}),
    "dataloader_persistent_workers": (True, {}, "dataloader_num_workers", {"dataloader_num_workers": 1}),
    "dataloader_in_order": (False, {"dataloader_num_workers": 0}, "dataloader_num_workers", {"dataloader_num_workers": 1}),
    "project": ("mine", {"report_to": "tensorboard"}, "trackio", None),
    "trackio_space_id": ("mine", {}, "trackio", None),
    "torch_empty_cache_steps": (2, {"use_cpu": True}, "CPU", None),
    "activation_offloading": (True, {"use_cpu": True}, "CPU", None),
    "ddp_find_unused_parameters": (True, {}, "torchrun", None),
    "ddp_bucket_cap_mb": (30, {}, "torchrun", None),
    "ddp_timeout": (60, {}, "torchrun", None),
    "log_on_each_node": (False, {}, "torchrun", None),
}
COMMANDS: dict[str, tuple[list[str], str]] = {
    # words that nothing in `prefine dpo` reads: what the message names
    "--save-steps 500": (["--save-strategy", "no"], "save_strategy"),  # transformers' default, said in so many words
    "--eval-steps 3": ([], "eval_strategy"),
    "--metric-for-best-model eval_loss": ([], "load_best_model_at_end"),
    "--greater-is-better": ([], "load_best_model_at_end"),
    "--hub-model-id me/mine": ([], "push_to_hub"),
    "--hub-token hf_x": ([], "push_to_hub"),
    "--hub-private-repo": ([], "push_to_hub"),
    "--hub-strategy end": ([], "push_to_hub"),
    "--run-name mine": ([], "report_to"),
    "--per-device-eval-batch-size 4": ([], "eval_strategy"),
    "--bf16-full-eval": (["--eval-strategy", "epoch"], "precision"),
    "--include-for-metrics loss": (["--eval-strategy", "epoch"], "compute_metrics"),
    "--prediction-loss-only": ([], "compute_metrics"),
    "--do-train": ([], "scripts"),
    "--local-rank 3": ([], "scripts"),
    "--resume-from-checkpoint x": ([], "--resume"),
    "--gradient-checkpointing-kwargs {use_reentrant: false}": (["--no-gradient-checkpointing"], "gradient_checkpointing"),
    "--adam-beta2 0.9": (["--optim", "sgd"], "optim sgd"),
    "--adam-epsilon 1e-5": (["--optim", "adafactor"], "optim adafactor"),
    "--optim-args momentum=0.9": ([], "optim adamw_torch"),
    "--optim-args momentum=0.9,rank=3": (["--optim", "sgd"], "rank=3"),
    "--optim-target-modules all-linear": ([], "optim adamw_torch"),
}
ALWAYS_READ = {
    *("output_dir", "per_device_train_batch_size", "num_train_epochs", "max_steps", "learning_rate", "lr_scheduler_type", "optim"),
    *("weight_decay", "gradient_accumulation_steps", "max_grad_norm", "bf16", "fp16", "tf32", "activation_checkpointing"),
    *("gradient_checkpointing", "neftune_noise_alpha", "logging_strategy", "logging_first_step", "logging_nan_inf_filter", "log_level"),
    *("disable_tqdm", "report_to", "eval_strategy", "eval_on_start", "save_strategy", "enable_jit_checkpoint", "push_to_hub"),
    *("load_best_model_at_end", "ignore_data_skip", "restore_callback_states_from_checkpoint", "full_determinism", "seed", "data_seed"),
    *("use_cpu", "accelerator_config", "dataloader_drop_last", "dataloader_num_workers", "dataloader_pin_memory"),
    *("remove_unused_columns", "train_sampling_strategy", "debug", "skip_memory_metrics", "use_liger_kernel", "fsdp", "deepspeed"),
}
BY_OPTIMIZER = {"adam_beta1", "adam_beta2", "adam_epsilon", "optim_args", "optim_target_modules"}


def made(name: str, folder: Path, **settings: Any) -> Any:
    return getattr(prefine, name)(output_dir=str(folder), **settings)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("option", NEEDS)
def test_refused_without_what_it_needs(option: str, name: str, tmp_path: Path) -> None:
    value, without, named, needed = NEEDS[option]
    samples = name in ("OnlineDPOConfig", "PPOConfig")
    with pytest.raises(ConfigError, match="would be ignored") as error:
        made(name, tmp_path, **{option: value}, **without)
    assert option in str(error.value)
    assert named in str(error.value) or (samples and "samples its batches" in str(error.value))
    if needed is not None and not (samples and option.startswith("dataloader")):
        assert getattr(made(name, tmp_path, **{option: value}, **needed), option) == value


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_refuse(words: str, lab_model: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from prefine.cli import main

    more, named = COMMANDS[words]
    flag, _, value = words.partition(" ")
    given = [flag, value] if value else [flag]
    run = ["dpo", "--model", str(lab_model), "--data", str(pairs_file), "--output-dir", str(tmp_path / "run"), *more, *given]
    assert main(run) == 2
    said = capsys.readouterr().err
    assert "would be ignored" in said
    assert named in said
    assert flag[2:].replace("-", "_") in said or value in said
    assert not (tmp_path / "run").exists()


def test_a_preset_is_no_option_that_was_given(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    """The recipe's warmup goes where the schedule that was asked for has none."""
    run = prefine.dpo(
        lab_model, pairs_file, output_dir=tmp_path / "run", lr_scheduler_type="constant", max_steps=1, final_eval="off", token_budget=4096
    )
    assert "warmup_steps" not in run.config
    assert run.config["lr_scheduler_type"] == "constant"


def test_every_field_has_its_place() -> None:
    """A field that a new version of transformers brings must be looked at: is it read always, and if not, when?"""
    placed = {name for row in (*CONDITIONAL, *BY_HAND) for name in row.names} | ALWAYS_READ | BY_OPTIMIZER | set(REFUSED)
    assert {f.name for f in fields(TrainingArguments)} - placed == set()
