"""Skills by lm-eval's tasks, base against tuned, item by item. lm-eval is an optional extra; tasks may be local YAML files."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefine.errors import ConfigError, nearest
from prefine.evaluation.interval import CHANGE, mean_interval, p_value
from prefine.evaluation.verdict import Skill
from prefine.scoring.loading import first_line

METRICS = ("acc_norm", "acc", "exact_match", "em", "pass@1", "f1")
"""What a task is judged by, where it reports several: the first of these, else its first number of 0 to 1."""


def mcnemar(before: Sequence[float], after: Sequence[float]) -> float:
    """Exact two-sided p-value that as many items went from right to wrong as from wrong to right (McNemar 1947)."""
    from scipy.stats import binomtest

    lost = sum(b > a for b, a in zip(before, after, strict=True))
    won = sum(b < a for b, a in zip(before, after, strict=True))
    return float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0


def skill_of(name: str, before: Sequence[float], after: Sequence[float], allowed: float, p: float | None = None) -> Skill:
    """A skill from scores of the same items in the same order, 0 to 1."""
    changes = [y - x for x, y in zip(before, after, strict=True)]
    change = mean_interval(changes, bounds=CHANGE, each_end=True)
    worse = p_value(changes, None, CHANGE, 0.0, "below")
    return Skill(name, sum(before) / len(before), sum(after) / len(after), change, allowed, p, worse)


def paired_skill(name: str, before: Mapping[Any, float], after: Mapping[Any, float], allowed: float) -> Skill:
    """A skill from scores by item, 0 to 1; items that only one has are left out."""
    items = [i for i in before if i in after]
    b, a = [before[i] for i in items], [after[i] for i in items]
    return skill_of(name, b, a, allowed, mcnemar(b, a))


def check_tasks(tasks: Sequence[str], include_path: str | None) -> Any:
    """lm-eval's manager of tasks, once all of ``tasks`` are known to it.

    Raises:
        ConfigError: lm-eval is not installed, or does not know a task.
    """
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ConfigError("--tasks needs lm-eval: pip install 'prefine[lm-eval]'", code="PF-C10") from error
    missing = [t for t in tasks if t.endswith((".yaml", ".yml")) and not Path(t).is_file()]
    if missing:
        raise ConfigError(f"--tasks {missing[0]}: no such file")
    manager = TaskManager(include_path=include_path)
    unknown = [t for t in tasks if not t.endswith((".yaml", ".yml")) and t not in manager.all_tasks]
    if unknown:
        raise ConfigError(f"--tasks {unknown[0]}: lm-eval knows no such task{nearest(unknown[0], manager.all_tasks)}")
    return manager


def evaluate_tasks(
    model: Any, tokenizer: Any, tasks: Sequence[str], include_path: str | None, limit: int | None = None, batch_size: int = 8
) -> dict[str, dict[Any, float]]:
    """Scores of each task's items by a model in memory: task -> item -> score, 0 to 1.

    Args:
        tasks: names of lm-eval's, or paths of ``.yaml`` files.
        include_path: a folder with tasks of one's own.
        limit: most items a task.

    Raises:
        ConfigError: lm-eval is not installed, a task is not known, or reports no score of 0 to 1.
    """
    manager = check_tasks(tasks, include_path)
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, device=str(next(model.parameters()).device))
    try:
        found = simple_evaluate(
            wrapped,
            tasks=list(tasks),
            limit=limit,
            bootstrap_iters=0,
            log_samples=True,
            task_manager=manager,
            apply_chat_template=getattr(tokenizer, "chat_template", None) is not None,
        )
    except Exception as error:  # a task's own code, its data set, the network: whatever goes wrong there is told in a line
        raise ConfigError(f"--tasks {' '.join(tasks)}: lm-eval stopped with {type(error).__name__}: {first_line(error)}") from error
    assert found is not None
    return {name: _scores(name, samples) for name, samples in found["samples"].items()}


def _scores(task: str, samples: Sequence[Mapping[str, Any]]) -> dict[Any, float]:
    first_filter = samples[0].get("filter") if samples else None
    rows = [s for s in samples if s.get("filter") == first_filter]
    offered = [k for k in (rows[0].get("metrics") or ()) if isinstance(rows[0].get(k), int | float)] if rows else []
    metric = next((m for m in METRICS if m in offered), next(iter(offered), None))
    if metric is None or not all(0 <= float(r[metric]) <= 1 for r in rows):
        raise ConfigError(f"task {task}: reports no score of 0 to 1 an item; found {', '.join(offered) or 'none'}")
    return {r["doc_id"]: float(r[metric]) for r in rows}


@contextlib.contextmanager
def quiet() -> Any:
    """Keep lm-eval's own printing and progress off the terminal."""
    level = logging.getLogger("lm_eval").level
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.getLogger("lm_eval").setLevel(level)
