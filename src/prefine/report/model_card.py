"""The saved model's card: data, settings, verdict with its interval, in the Hub's metadata form."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefine.errors import printable
from prefine.report.evaluation_files import evaluations
from prefine.report.tables import rate
from prefine.runs import RunDirectory, write_text

SETTINGS = (
    *("loss_type", "beta", "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "max_length"),
    *("lora_r", "lora_alpha", "use_dora", "use_rslora", "init_lora_weights", "load_in_4bit", "load_in_8bit"),
    *("retain", "retain_weight", "seed"),
)


def model_card(run: RunDirectory, whole: bool = False) -> str:
    """The card's text, metadata first; ``whole``: of the merged model, not of the adapter."""
    from huggingface_hub import ModelCardData

    config = run.config()
    found = evaluations(run.path / "eval")
    base = printable(str(config.get("model") or ""))
    sources = config.get("data") or []
    sources = [printable(str(s)) for s in (sources if isinstance(sources, list) else [sources])]
    judged = [e for e in found if e.summary.get("win_rate")]
    results = [_result("win_rate", f"win rate over the base, {_judged_by(e.summary)}", e.summary["win_rate"]) for e in judged]
    learned = [e.summary["learning"]["accuracy"] for e in found if e.summary.get("learning") and not e.summary.get("trained_on")]
    method = run.command() or "dpo"
    measure = ("auc", "AUC of held-out labels") if method == "kto" else ("reward_accuracy", "reward accuracy")
    results += [_result(measure[0], f"{measure[1]} (implicit reward; no responses compared)", a) for a in learned[:1]]
    data = ModelCardData(
        base_model=base if base.count("/") == 1 and not Path(base).exists() else None,
        datasets=[s for s in sources if s.count("/") == 1 and not Path(s).exists()] or None,
        library_name="peft" if not whole and (run.model / "adapter_config.json").exists() else "transformers",
        tags=["prefine", method],
        model_name=printable(run.path.name),
        eval_results=results or None,
    )
    verdict = found[0].summary["sentence"] if found else "Not judged yet."
    rows = "".join(f"| {name} | {_cell(config[name])} |\n" for name in SETTINGS if config.get(name) is not None)
    skills = [
        f"- {_cell(s['name'])}: {100 * s['before']:.1f} % before, {100 * s['after']:.1f} % after ({s['state']})"
        for s in (found[0].summary["skills"] if found else ())
    ]
    looks = len(run.looks())
    evals = [f"- {_cell(e.name)}, judge {_cell(e.summary['judge'])}: {rate(e.summary['win_rate'])}, {e.summary['outcome']}" for e in judged]
    counted = run.data()
    kinds = {"pairs": "pairs", "responses": "labelled responses"}
    told = [f"{counted[name]:,} {words} of {counted.get('rows', 0):,} rows from " for name, words in kinds.items() if name in counted]
    pairs = told[0] if told else ""
    parts = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {_cell(run.path.name)}\n",
        f"{_cell(base) or 'A model'} trained on preferences by Prefine.\n",
        f"## Verdict\n\n{_cell(verdict)}\n",
        "\n".join([*evals, *skills]) + "\n" if evals or skills else "",
        f"A judge looked at this run {looks} times; the chance that one of the looks is wrong is up to {min(100, 5 * looks)} %.\n"
        if looks > 1
        else "",
        f"## Data\n\n{pairs}{', '.join(_cell(s) for s in sources) or 'the offline laboratory'}\n",
        f"## Settings\n\n| setting | value |\n| --- | --- |\n{rows}" if rows else "",
    ]
    return printable("\n".join(p for p in parts if p))


def _judged_by(summary: Mapping[str, Any]) -> str:
    people = summary.get("with_people")
    if not people:
        return f"judge {printable(str(summary['judge']))}"
    return f"people with judge {printable(str(summary['judge']))}" if people["weight"] > 0 else "people"


def _result(kind: str, name: str, found: Mapping[str, Any]) -> Any:
    """A metric in the Hub's form; its interval and n stand in its name, for which the form has no field."""
    from huggingface_hub import EvalResult

    interval = f"95 % CI [{100 * found['low']:.1f}, {100 * found['high']:.1f}] %, n = {found['count']}"
    return EvalResult(
        task_type="text-generation",
        dataset_type="held-out",
        dataset_name="held out of the training data",
        metric_type=kind,
        metric_name=f"{name}, {interval}",
        metric_value=round(100 * found["estimate"], 2),
    )


def write_model_card(run: RunDirectory) -> None:
    """Write ``model/README.md``; nothing where there is no model yet."""
    if run.model.is_dir():
        write_text(run.model / "README.md", model_card(run))


def _cell(value: Any) -> str:
    """Text that cannot leave its place in Markdown."""
    text = printable(str(value)).replace("\n", " ")
    return "".join("\\" + c if c in "\\`*_[]<>|" else c for c in text)
