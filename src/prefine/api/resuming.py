"""What a resumed run may be told otherwise, and what it must find as it was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from prefine.errors import ConfigError

MAY_CHANGE = {
    *("output_dir", "max_steps", "num_train_epochs", "save_steps", "save_total_limit", "eval_steps", "ignore_plan"),
    *("per_device_train_batch_size", "per_device_eval_batch_size", "fsdp", "fsdp_config"),  # the batch of all processes is looked at
    *("logging_steps", "report_to", "disable_tqdm", "guard", "guard_prompts", "guard_every", "token_budget", "final_eval", "final_judge"),
}
"""What a resumed run may be told otherwise: how far it goes, how it is watched, what it fits."""


def check_resumes(was: dict[str, Any], now: dict[str, Any], defaults: Mapping[str, Any]) -> None:
    """Whether a resumed run is told what it was told before.

    Args:
        defaults: of the options that a run writes whether they were given or not; one that came later was not known to an older run.

    Raises:
        ConfigError: the options that differ.
    """
    was = {k: v for k, v in defaults.items() if k in now} | was
    differing = [k for k in sorted({*was, *now} - MAY_CHANGE) if was.get(k) != now.get(k)]
    if differing:
        told = ", ".join(f"{k} was {_shown(was.get(k))} and is now {_shown(now.get(k))}" for k in differing)
        raise ConfigError(f"--resume goes on with the run as it was, but {told}; give what it had, or another --output-dir", code="PF-C06")


def check_same(was: dict[str, Any], now: dict[str, Any]) -> None:
    """Whether a resumed run finds the data and the models that it began with; what it did not note is not looked at.

    Raises:
        ConfigError: what is another now.
    """
    if "batch" in was and was["batch"] != now["batch"]:
        raise ConfigError(
            f"--resume goes on with the run as it was, but a batch of all processes was {was['batch']} and is now {now['batch']}; "
            "give another --per-device-train-batch-size, or the number of processes that it had",
            code="PF-C06",
        )
    if was.get("deepspeed") != now.get("deepspeed"):
        raise ConfigError(
            f"the run's checkpoints are of DeepSpeed's {was.get('deepspeed')}, and this is {now.get('deepspeed')}; go on as it was",
            code="PF-C06",
        )
    for name, what in (("key", "data"), ("eval_key", "evaluation data")):
        if name in was and was[name] != now[name]:
            raise ConfigError(
                f"--resume goes on with the run's {what}, but its content has changed since; give another --output-dir", code="PF-C06"
            )
    known, found = ({"--model": keys.get("model_files")} | (keys.get("reward_model_files") or {}) for keys in (was, now))
    for model in known.keys() & found.keys():
        before, after = known[model] or {}, found[model] or {}
        differing = sorted(f for f in before.keys() | after.keys() if before.get(f) != after.get(f)) if before else []
        if differing:
            raise ConfigError(
                f"--resume goes on with the models that the run began with, but {', '.join(differing)} of {model} changed since; "
                "put back what it was, or give another --output-dir",
                code="PF-C06",
            )


def seconds_of(text: str | None) -> float | None:
    """A time limit in seconds: 90s, 45m, 3h, 1h30m, 2d; None where there is none.

    Raises:
        ConfigError: it is written otherwise.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?", text.strip().lower())
    parts = [int(part or 0) for part in found.groups()] if found else []
    if not any(parts):
        raise ConfigError(f"--stop-after is {text!r}; expected a time as 90s, 45m, 3h or 1h30m")
    return float(sum(n * unit for n, unit in zip(parts, (86400, 3600, 60, 1), strict=True)))


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)
