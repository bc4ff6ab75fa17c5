"""The model card that a trainer writes beside its model, for scripts that push it to the Hub; a run's own card is the report's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefine import __version__
from prefine.errors import printable


def write_card(
    folder: Path,
    base: str,
    method: str,
    settings: dict[str, Any],
    data: dict[str, Any],
    tags: Sequence[str],
    model_name: str | None = None,
    dataset_name: str | None = None,
    license_id: str | None = None,
) -> Path:
    """Write ``README.md``; what was not measured is not said.

    Args:
        base: what was trained, an id or a folder.
        settings: the options that say how it was trained.
        data: a trainer's ``data_report``.
        dataset_name: the data's Hub id, where it has one.
    """
    from huggingface_hub import ModelCard, ModelCardData

    is_id = base.count("/") == 1 and not Path(base).exists()
    facts = ModelCardData(
        base_model=base if is_id else None,
        datasets=[dataset_name] if dataset_name and dataset_name.count("/") <= 1 and not Path(dataset_name).exists() else None,
        library_name="transformers",
        model_name=model_name,
        tags=list(dict.fromkeys(tags)),
        license=license_id,
    )
    lines = [f"# {model_name or folder.name}", "", f"`{base}` trained by {method} with Prefine {__version__}" + _on(dataset_name), ""]
    lines += ["| option | value |", "| --- | --- |", *(f"| `{name}` | {value} |" for name, value in settings.items()), ""]
    lines += [f"{name}: {_counts(report)}" for name, report in data.items()]
    lines += ["", "It was not evaluated against the model it was trained from: `prefine eval` does that."]
    path = folder / "README.md"
    folder.mkdir(parents=True, exist_ok=True)
    ModelCard(printable(f"---\n{facts.to_yaml()}\n---\n\n" + "\n".join(lines) + "\n")).save(path)
    return path


def _on(dataset_name: str | None) -> str:
    return f" on `{dataset_name}`." if dataset_name else "."


def _counts(report: dict[str, Any]) -> str:
    dropped = sum(what["count"] for what in report["dropped"].values())
    return f"{report['encoded']} examples, {dropped} rows dropped" + (f", truncated: {report['cut']}" if report["cut"] else "")
