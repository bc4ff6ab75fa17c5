"""Options of transformers that are read under some other setting only; given without it, they are refused.

Left out: ``num_train_epochs`` beside ``max_steps``, since a flag may shorten what a file says; options that are read on resuming only,
since a resumed run is told what it was told before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from prefine.errors import ConfigError


@dataclass(frozen=True)
class Conditional:
    """Options, and when they are read.

    Attributes:
        read: whether a config reads them; without: what is missing where it does not, after "would be ignored".
    """

    names: tuple[str, ...]
    read: Callable[[Any], bool]
    without: str


def _trackers(args: Any) -> list[str]:
    given = [args.report_to] if isinstance(args.report_to, str) else list(args.report_to or [])
    return [name for name in given if name != "none"]


def _evaluates(args: Any) -> bool:
    return args.eval_strategy != "no" or bool(args.eval_on_start)


def _picks_best(args: Any) -> bool:
    """Whether something depends on which checkpoint is the best: what is loaded, saved or kept, or the learning rate."""
    schedules = ("reduce_lr_on_plateau", "greedy")
    kept = args.eval_strategy != "no" and args.save_total_limit is not None
    return bool(args.load_best_model_at_end) or args.save_strategy == "best" or args.lr_scheduler_type in schedules or kept


def warms_up(lr_scheduler_type: str, optim: str) -> bool:
    """Whether a schedule, or an optimizer that has one of its own, reads ``warmup_steps``."""
    return lr_scheduler_type not in ("constant", "reduce_lr_on_plateau", "greedy") or "schedule_free" in optim


def rounds_at_random(optim: str, optim_args: str | None) -> bool:
    """Whether an optimizer rounds bfloat16 weights up or down at random, so that small updates are not lost: torchao's may."""
    parts = dict(pair.split("=", 1) for pair in str(optim_args or "").replace(" ", "").split(",") if "=" in pair)
    yes = ("y", "yes", "t", "true", "on", "1")  # of transformers' strtobool
    return str(optim) in ("adamw_torch_4bit", "adamw_torch_8bit") and parts.get("bf16_stochastic_round", "").lower() in yes


CONDITIONAL: tuple[Conditional, ...] = (
    Conditional(("eval_steps",), lambda a: a.eval_strategy == "steps", "without eval_strategy steps"),
    Conditional(("eval_delay",), lambda a: a.eval_strategy != "no", "without eval_strategy steps or epoch"),
    Conditional(("logging_steps",), lambda a: "steps" in (a.logging_strategy, a.eval_strategy), "without logging_strategy steps"),
    Conditional(("save_steps",), lambda a: a.save_strategy == "steps", "without save_strategy steps"),
    Conditional(("save_total_limit", "save_only_model"), lambda a: a.save_strategy != "no", "with save_strategy no"),
    Conditional(
        ("warmup_steps",),
        lambda a: warms_up(a.lr_scheduler_type, a.optim),
        "by this lr_scheduler_type, which has no warmup (constant_with_warmup has)",
    ),
    Conditional(
        ("lr_scheduler_kwargs",),
        lambda a: a.lr_scheduler_type not in ("constant", "constant_with_warmup"),
        "by this lr_scheduler_type, which takes none (cosine_with_restarts and others do)",
    ),
    Conditional(("fsdp_config",), lambda a: bool(a.fsdp), "without fsdp"),
    Conditional(("liger_kernel_config",), lambda a: bool(a.use_liger_kernel), "without use_liger_kernel"),
    Conditional(
        ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"),
        lambda a: bool(a.gradient_checkpointing),
        "without gradient_checkpointing",
    ),
    Conditional(
        ("dataloader_prefetch_factor", "dataloader_persistent_workers", "dataloader_multiprocessing_context", "dataloader_in_order"),
        lambda a: a.dataloader_num_workers > 0,
        "without dataloader_num_workers",
    ),
    Conditional(
        ("project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
        lambda a: bool({"trackio", "all"} & set(_trackers(a))),
        "without report_to trackio",
    ),
    Conditional(("torch_empty_cache_steps", "activation_offloading"), lambda a: not a.use_cpu, "on a CPU"),
    Conditional(
        (
            "ddp_find_unused_parameters",
            "ddp_bucket_cap_mb",
            "ddp_broadcast_buffers",
            "ddp_static_graph",
            "ddp_backend",
            "ddp_timeout",
            "log_on_each_node",
            "log_level_replica",
            "save_on_each_node",
        ),
        lambda a: "WORLD_SIZE" in os.environ,
        "without a launcher: torchrun starts several processes",
    ),
)
"""Read by no method of a trainer without their condition."""

BY_HAND: tuple[Conditional, ...] = (
    Conditional(("metric_for_best_model", "greater_is_better"), _picks_best, "without load_best_model_at_end"),
    Conditional(
        ("hub_model_id", "hub_token", "hub_strategy", "hub_private_repo", "hub_always_push", "hub_revision"),
        lambda a: bool(a.push_to_hub),
        "without push_to_hub",
    ),
    Conditional(("run_name",), lambda a: bool(_trackers(a)), "without report_to and a tracker"),
    # SFT's command evaluates once more when training has ended, and then only are these dtypes taken.
    Conditional(("per_device_eval_batch_size",), lambda a: _evaluates(a) or _is_sft(a), "without eval_strategy"),
    Conditional(("bf16_full_eval", "fp16_full_eval"), lambda a: _is_sft(a), "by evaluations while training runs, which take its precision"),
    Conditional(
        (
            "include_for_metrics",
            "batch_eval_metrics",
            "eval_do_concat_batches",
            "eval_use_gather_object",
            "prediction_loss_only",
            "eval_accumulation_steps",
        ),
        lambda a: False,
        "by a command, which has no compute_metrics; trainers in Python take one",
    ),
    Conditional(("do_train", "do_eval", "do_predict", "local_rank"), lambda a: False, "by a command: it is for scripts"),
    Conditional(("resume_from_checkpoint",), lambda a: False, "by a command; --resume goes on with the newest complete checkpoint"),
    Conditional(("sft_model_path",), lambda a: False, "by a command; --model names the policy"),
    Conditional(("reward_model_path",), lambda a: False, "by a command; --reward-model names it"),
)
"""Read without their condition where a script calls evaluate, predict or push_to_hub, or gives callbacks: commands do none of that."""


def _is_sft(args: Any) -> bool:
    return hasattr(args, "assistant_only_loss")


def refuse_conditional(args: Any, given: Collection[str], rows: tuple[Conditional, ...] = CONDITIONAL) -> None:
    """Refuse what was given though its condition is not.

    Args:
        args: a config that is made; given: the names of options that were given and say something.

    Raises:
        ConfigError: names the option and what it needs.
    """
    for row in rows:
        for name in row.names:
            if name in given and not row.read(args):
                raise ConfigError(f"{name} would be ignored {row.without}; leave it out")
