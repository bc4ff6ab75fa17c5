"""A finished run as an object: what it was told, how it went, what it became."""

from __future__ import annotations

import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from prefine.api.results import EvaluationResult
from prefine.errors import ConfigError, ModelError, PrefineError, nearest, printable
from prefine.runs import RunDirectory, as_written, read_jsonl


class Run(os.PathLike[str]):
    """A run directory.

    Args:
        path: the ``output_dir`` of a training run.

    Raises:
        MissingFile: no such folder, or it is no run.
    """

    def __init__(self, path: str | Path) -> None:
        self.directory = RunDirectory.open(str(path))

    @property
    def path(self) -> Path:
        """The folder."""
        return self.directory.path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        return self.directory.config()

    @property
    def data(self) -> dict[str, Any]:
        """What was read, dropped, held out and found in the data."""
        return self.directory.data()

    @property
    def plan(self) -> dict[str, Any]:
        """What its training was planned to hold before it began: bytes by part and by phase; empty where nothing was planned."""
        return dict(self.data.get("plan") or {})

    @property
    def metrics(self) -> Any:
        """A pandas DataFrame, a row a log, with the step."""
        import pandas

        return pandas.DataFrame(self.directory.metrics())

    @property
    def evaluations(self) -> dict[str, Mapping[str, Any]]:
        """Numbers of each finished evaluation by its name, the headline first."""
        from prefine.report.run_page import evaluations

        with as_written(self.path):
            return {e.name: e.summary for e in evaluations(self.path / "eval")}

    @property
    def verdict(self) -> EvaluationResult | None:
        """The newest evaluation in which a judge compared responses, with its win rate; None where none did."""
        found = [(name, s) for name, s in self.evaluations.items() if s.get("win_rate") is not None]
        if not found:
            return None
        name, summary = found[0]
        page = self.path / "report.html"
        return EvaluationResult(summary, (), self.path / "eval" / name, page if page.exists() else None)

    def responses(self, evaluation: str | None = None) -> Any:
        """Base and tuned responses of an evaluation, as a pandas DataFrame: prompt, base, tuned, and win where it was judged.

        Raises:
            ConfigError: no evaluation of that name.
        """
        import pandas

        found = self.evaluations
        name = evaluation or next(iter(found), None)
        if name is None or name not in found:
            raise ConfigError(f"{self}: no evaluation {name!r}{nearest(str(name), found)}; there are: {', '.join(found) or 'none'}")
        folder = self.path / "eval" / name
        with as_written(folder):
            rows = list(read_jsonl(folder / "generations.jsonl")) if (folder / "generations.jsonl").exists() else []
            wins: dict[tuple[str, int], list[float]] = {}
            for row in read_jsonl(folder / "verdicts.jsonl") if (folder / "verdicts.jsonl").exists() else ():
                if row.get("tuned_wins") is not None and "key" in row:
                    wins.setdefault((str(row["key"]), row.get("turn", 1)), []).append(float(row["tuned_wins"]))
            table = pandas.DataFrame(rows)
            if wins and rows:
                found_wins = [wins.get((str(row["key"]), row.get("turn", 1))) for row in rows]
                table["win"] = [sum(w) / len(w) if w else None for w in found_wins]
            return table

    def evaluate(self, **options: Any) -> EvaluationResult:
        """Have the base and the tuned model respond to held-out prompts and a judge compare the responses, into ``eval/NAME``.

        Args:
            options: those of ``prefine eval``; ``judge`` may be one of this package's judges or a function.
        """
        from prefine.api.evaluation import evaluate_run

        found: EvaluationResult = evaluate_run(str(self.path), **options)
        return found

    def report(self) -> Path:
        """Draw ``report.html`` anew, with ``summary.json`` and the model card; returns the page."""
        from prefine.report.run_page import write_report

        with as_written(self.path):
            return write_report(self.directory)

    def plot(self, name: str) -> Any:
        """One of the report's charts, which shows itself in a notebook and saves itself: ``run.plot("rewards").save("rewards.svg")``.

        Raises:
            ConfigError: no such chart.
        """
        from prefine.report.charts import CHARTS

        if name not in CHARTS:
            raise ConfigError(f"no chart {name!r}{nearest(name, CHARTS)}; there are: {', '.join(CHARTS)}")
        with as_written(self.path):
            return CHARTS[name](self.directory)

    def load_model(self, dtype: str = "auto") -> tuple[Any, Any]:
        """The trained model, its adapter on its base where it is one, and its tokenizer.

        Raises:
            ModelError: training has not finished.
        """
        from prefine.scoring.loading import load_model, load_tokenizer, pick_dtype

        if not self.directory.model.exists():
            raise ModelError(f"{self}: no model there yet; let training finish, or go on with resume=True", code="PF-F04")
        name = str(self.directory.model)
        return load_model(name, pick_dtype(dtype)[0]), load_tokenizer(name)

    def merge(self, output: str | Path | None = None, **options: Any) -> Path:
        """One plain model folder out of base and adapter; options are those of ``prefine merge``."""
        from prefine.api.merging import merge

        folder: Path = merge(str(self.path), None if output is None else str(output), **options).folder
        return folder

    def compare(self, *others: Any, **options: Any) -> Any:
        """This run beside others; options are those of ``prefine compare``."""
        from prefine.api.comparing import compare

        return compare(str(self.path), *map(str, others), **options)

    def chat(self, **options: Any) -> Any:
        """Base and tuned to talk to: ``run.chat().ask("Hello")``."""
        from prefine.api.conversation import chat

        return chat(str(self.path), **options)

    def __repr__(self) -> str:
        try:
            first = next(iter(self.evaluations.values()), {"sentence": "not evaluated yet"})
        except PrefineError as error:
            return f"run {error}"
        return printable(f"{self.directory.command() or 'run'} {self.path}: {first.get('sentence')}")

    def _repr_html_(self) -> str:
        return f"<div>{escape(printable(repr(self)))}</div>"
