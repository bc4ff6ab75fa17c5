"""Curves from wherever they were kept, and what they say in words. No torch."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

from prefine.errors import ConfigError, DataError, MissingFile
from prefine.guard.history import LN2, Facts
from prefine.runs import RunDirectory, as_written, read_jsonl
from prefine.training.recipes import usual_learning_rates

Row = dict[str, Any]
OTHER_NAMES = {
    **{"lr": "learning_rate", "train_loss": "loss", "global_step": "step", "Step": "step", "current_steps": "step", "_step": "step"},
    **{
        "chosen_reward": "rewards/chosen",
        "reject_reward": "rewards/rejected",
        "acc": "rewards/accuracies",
        "eval_acc": "eval_rewards/accuracies",
    },
    **{"objective/rlhf_reward": "objective/scores", "reward": "objective/scores", "kl": "kl_per_token", "grad_norm/total": "grad_norm"},
    **{"completions/mean_length": "completions/length", "completion_length": "completions/length", "reward_std": "objective/scores_std"},
    **{"policy/approxkl_avg": "policy/approxkl", "policy/clipfrac_avg": "policy/clipfrac", "eval_accuracy": "eval_rewards/accuracies"},
    **{"accuracy": "rewards/accuracies", "margin": "rewards/margins"},
}
"""Metrics as TRL, LLaMA-Factory, OpenRLHF and trackers call them, and as they are called here."""
MOST_ROWS = 400
"""Longer curves are averaged to so many rows: rules look at trends, not at single steps."""
HALVES = ("rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected")


@dataclass(frozen=True)
class Curves:
    """What was logged, what is known of the run, and where it came from."""

    source: str
    rows: Sequence[Mapping[str, Any]]
    facts: Facts


def read_curves(path: str | Path, method: str | None = None) -> Curves:
    """Curves of a run directory, a ``trainer_state.json`` or a folder that holds one, a log in JSON lines, a tracker's CSV export, or
    TensorBoard's event files.

    Args:
        method: unset: as the source or the metrics tell.

    Raises:
        MissingFile: no such path. DataError: nothing in it that was logged. ConfigError: a package that is needed is missing.
    """
    place = Path(path)
    if not place.exists():
        raise MissingFile(f"{path}: no such file or folder; give a run directory, a trainer_state.json, a log or a tracker's export")
    with as_written(place):
        return _curves(place, method)


def _curves(place: Path, method: str | None) -> Curves:
    path = str(place)
    if place.is_dir():
        source, rows, facts = _of_folder(place)
    elif place.name.startswith("events.out.tfevents"):
        source, rows, facts = "TensorBoard events", _tensorboard(place), Facts()
    elif place.suffix == ".json":
        source, rows, facts = "trainer_state.json", *_trainer_state(place)
    elif place.suffix == ".jsonl":
        source, rows, facts = "a log in JSON lines", list(read_jsonl(place)), Facts()
    elif place.suffix in (".csv", ".tsv"):
        source, rows, facts = "a table exported from a tracker", _table(place), Facts()
    else:
        raise DataError(
            f"{path}: no log is known by this name; give a run directory, a trainer_state.json, .jsonl, .csv or TensorBoard's file"
        )
    cleaned = _thinned(_in_order(_named(row) for row in rows))
    if not any(_is_metric(name) for row in cleaned for name in row):
        raise DataError(f"{path}: no metric was logged in it; expected rows of steps with a loss, rewards and the like")
    return Curves(source, cleaned, _completed(replace(facts, method=method or facts.method), cleaned))


def _of_folder(folder: Path) -> tuple[str, list[Row], Facts]:
    if (folder / "config.yaml").exists():
        return "a run directory", *_run(RunDirectory.open(folder))
    states = sorted(folder.glob("checkpoint-*/trainer_state.json"), key=lambda p: _number(p.parent.name))
    if (folder / "trainer_state.json").exists():
        states.append(folder / "trainer_state.json")
    if states:
        return "trainer_state.json", *_trainer_state(states[-1])
    logs = [folder / name for name in ("trainer_log.jsonl", "metrics.jsonl") if (folder / name).exists()]
    if logs:
        return "a log in JSON lines", list(read_jsonl(logs[0])), Facts()
    if any(folder.rglob("events.out.tfevents*")):
        return "TensorBoard events", _tensorboard(folder), Facts()
    raise DataError(f"{folder}: neither a run directory nor a folder with a trainer_state.json, a trainer_log.jsonl or TensorBoard events")


def _number(name: str) -> int:
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else -1


def _run(run: RunDirectory) -> tuple[list[Row], Facts]:
    """Of a run directory: what was logged, and what the guard's probe saw."""
    config, data = run.config(), run.data()
    probes = [{k: v for k, v in e.items() if k != "event"} for e in run.events() if e.get("event") == "probe"]
    gaps = [e["mean_gap_nats"] for e in run.events() if e.get("event") == "start_check" and e.get("largest_relative_gap", 0) > 0.05]
    rows = [dict(row) for row in run.metrics()]
    known = next((e for e in reversed(run.events()) if e.get("event") == "guard_facts"), None)
    if known is not None:
        return [*rows, *probes], Facts.read(known)
    loss = config.get("loss_type")
    beta = config.get("beta")
    encoding = data.get("encoding", {})
    facts = Facts(
        method=run.command() if run.command() in ("dpo", "kto", "sft", "reward", "ppo", "online-dpo") else "",
        adapter=bool(config.get("lora_r")),
        loss=tuple([loss] if isinstance(loss, str) else loss or ("kto" if run.command() == "kto" else "sigmoid",)),
        beta=float(beta[-1] if isinstance(beta, list) else beta) if beta else 0.1,
        learning_rate=config.get("learning_rate"),
        pairs=encoding.get("encoded"),
        epochs=config.get("num_train_epochs"),
        start_gap=gaps[0] if gaps else None,
    )
    return [*rows, *probes], facts


def _trainer_state(path: Path) -> tuple[list[Row], Facts]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON ({error}); is the file whole?") from error
    if isinstance(state, list) and all(isinstance(row, dict) for row in state):
        return state, Facts()
    if not isinstance(state, dict) or not isinstance(state.get("log_history"), list):
        raise DataError(f"{path}: no log_history in it; expected a trainer_state.json of transformers or TRL, or a list of logged rows")
    batch, every = state.get("train_batch_size"), state.get("logging_steps")
    per_log = int(batch * every) if isinstance(batch, int) and isinstance(every, int | float) and every >= 1 else None
    steps = state.get("max_steps")
    epochs = state.get("num_train_epochs")
    return [r for r in state["log_history"] if isinstance(r, dict)], Facts(steps=steps or None, epochs=epochs, pairs_per_log=per_log)


def _table(path: Path) -> list[Row]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix == ".tsv" else ",")
    names = [n for n in lines.fieldnames or [] if n and not n.endswith(("__MIN", "__MAX"))]
    return [{name: _value(row[name]) for name in names if row.get(name) not in (None, "")} for row in lines]


def _value(cell: str) -> Any:
    try:
        return float(cell)
    except ValueError:
        return cell


def _tensorboard(path: Path) -> list[Row]:
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError as error:
        raise ConfigError(f"{path}: TensorBoard's files are read by its own package: pip install tensorboard") from error
    rows: dict[int, Row] = {}
    for file in sorted(path.rglob("events.out.tfevents*")) if path.is_dir() else [path]:
        events = EventAccumulator(str(file), size_guidance={"scalars": 0})
        events.Reload()
        for name in events.Tags()["scalars"]:
            for event in events.Scalars(name):
                rows.setdefault(int(event.step), {"step": int(event.step)})[name] = float(event.value)
    return list(rows.values())


def _named(row: Mapping[str, Any]) -> Row:
    """A row under the names that rules know; a tracker's ``run - train/loss`` is ``loss``."""
    out: Row = {}
    for key, value in row.items():
        name = key.rpartition(" - ")[2] if " - " in key else key
        if name.startswith("train/"):
            name = name.removeprefix("train/")
        elif name.startswith("eval/"):
            name = f"eval_{name.removeprefix('eval/')}"
        name = OTHER_NAMES.get(name, name)
        if name == "step" and "step" in out and key not in ("step",):
            continue
        out[name] = value
    return out


def _is_metric(name: str) -> bool:
    return name not in ("step", "epoch") and not name.startswith("_")


def _in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows by step, without the summary at the end; rows without a step stand where they are."""
    found = [r for r in rows if "train_runtime" not in r and r]
    last = 0
    for row in found:
        step = row.get("step")
        last = int(step) if isinstance(step, int | float) and math.isfinite(step) else last + (step is None)
        row["step"] = last
    return sorted(found, key=lambda r: r["step"])


def _thinned(rows: list[Row]) -> list[Row]:
    """At most :data:`MOST_ROWS` rows of training, each the mean of as many neighbours; others as they are."""
    trained = [r for r in rows if not any(n.startswith(("eval_", "probe/")) for n in r)]
    each = math.ceil(len(trained) / MOST_ROWS)
    if each <= 1:
        return rows
    out = [r for r in rows if any(n.startswith(("eval_", "probe/")) for n in r)]
    for at in range(0, len(trained), each):
        part = trained[at : at + each]
        names = {n for r in part for n in r}
        joined: Row = {}
        for name in names:
            values = [r[name] for r in part if name in r]
            numbers = [v for v in values if isinstance(v, int | float)]
            joined[name] = mean(numbers) if len(numbers) == len(values) else values[-1]
        out.append(joined | {"step": part[-1]["step"]})
    return sorted(out, key=lambda r: r["step"])


def _completed(facts: Facts, rows: Sequence[Mapping[str, Any]]) -> Facts:
    """Facts that the metrics themselves tell."""
    names = {n for r in rows for n in r}
    method = facts.method or (
        "ppo"
        if {"objective/kl", "kl_per_token", "policy/approxkl", "objective/scores"} & names and "logps/chosen" not in names
        else "kto"
        if {"kl", "logps/chosen", "rewards/chosen"} <= names
        else "dpo"
        if {"logps/chosen", "rewards/chosen"} <= names
        else "reward"
        if "rewards/margins" in names or ("rewards/accuracies" in names and "mean_token_accuracy" not in names)
        else "sft"
    )
    rates = [r["learning_rate"] for r in rows if isinstance(r.get("learning_rate"), int | float)]
    losses = [r["loss"] for r in rows if isinstance(r.get("loss"), int | float)]
    loss = facts.loss or (("sigmoid",) if method == "dpo" and losses and abs(losses[0] - LN2) < 0.05 else ())
    rate = facts.learning_rate if facts.learning_rate is not None else max(rates, default=None)
    low, high = (usual_learning_rates(method, adapter, 10**9) for adapter in (False, True))
    usual = usual_learning_rates(method, facts.adapter, 10**9) if facts.adapter is not None else (low[0], high[1])
    steps = facts.steps or max((int(r["step"]) for r in rows), default=0)
    return replace(
        facts,
        method=method,
        adapter=facts.adapter if facts.adapter is not None else True,
        loss=loss,
        learning_rate=rate,
        usual_learning_rate=usual if facts.adapter is not None or rate is None or rate > high[1] or rate < low[0] else None,
        steps=steps,
        pairs_per_log=facts.pairs_per_log or 32,
    )


# ---- in words

HEALTHY = {
    "loss": "from 0.693 towards 0.3 to 0.6",
    "rewards/accuracies": "above 0.5, towards 0.7",
    "rewards/margins": "positive, and growing",
    "rewards/chosen": "rising or flat",
    "rewards/rejected": "falling",
    "grad_norm": "0.01 to 10",
}
"""Of DPO, by Axolotl's documentation."""
SAMPLED = {"objective/scores": "rising", "objective/kl": "rising slowly", "completions/length": "about the same"}
TOLD = ("loss", "eval_loss", *HALVES, "logps/chosen", "grad_norm", *SAMPLED, "completions/ended", "entropy", "learning_rate")


def in_words(curves: Curves) -> Iterator[tuple[str, str, str, str]]:
    """Each curve's name, where it began and ended, its course, and what a healthy run's is like where that is known."""
    healthy = {
        "dpo": HEALTHY,
        "kto": {name: words for name, words in HEALTHY.items() if name != "rewards/accuracies"},
        "online-dpo": HEALTHY | SAMPLED,
        "ppo": SAMPLED,
    }.get(curves.facts.method, {})
    for name in dict.fromkeys(TOLD):
        values = [(int(r["step"]), float(r[name])) for r in curves.rows if isinstance(r.get(name), int | float)]
        finite = [(s, v) for s, v in values if math.isfinite(v)]
        if not finite:
            continue
        ends = f"{finite[0][1]:.3g} to {finite[-1][1]:.3g}"
        usual = healthy.get(name, "")
        if name == "loss" and curves.facts.loss not in (("sigmoid",), ("robust",)):
            usual = ""
        yield name, ends, _course([v for _, v in finite], len(values) - len(finite)), usual


def _course(values: Sequence[float], lost: int) -> str:
    """How a curve runs: rises, falls, stays, and where it turns."""
    gone = f"; {lost} values are not finite" if lost else ""
    if len(values) < 4:
        return f"{len(values)} values{gone}"
    size = max(1, len(values) // 8)
    parts = [median(values[i : i + size]) for i in range(0, len(values), size)]
    spread = max(parts) - min(parts)
    noise = median(abs(b - a) for a, b in pairwise(values))
    first, last = parts[0], parts[-1]
    if spread <= max(1.5 * noise, 0.02 * max(map(abs, parts)), 1e-12):
        return f"stays{gone}"
    top, bottom = parts.index(max(parts)), parts.index(min(parts))
    if 0 < top < len(parts) - 1 and max(parts) - max(first, last) > 0.4 * spread:
        return f"rises to {max(parts):.3g}, then falls{gone}"
    if 0 < bottom < len(parts) - 1 and min(first, last) - min(parts) > 0.4 * spread:
        return f"falls to {min(parts):.3g}, then rises{gone}"
    if last == first:
        return f"stays{gone}"
    return f"{'rises' if last > first else 'falls'}{gone}"
