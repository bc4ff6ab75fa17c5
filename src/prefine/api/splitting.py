"""Training and evaluation parts, never the same prompt on both sides."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from prefine.api.calls import call
from prefine.api.progress import Progress
from prefine.api.reading import SourceOptions, reading_lines
from prefine.api.selecting import Written
from prefine.errors import ConfigError, DataError
from prefine.preferences.convert import canonical
from prefine.preferences.draws import prompt_text_key, share
from prefine.preferences.records import Dropped
from prefine.preferences.writing import RowWriter


@dataclass
class SplitOptions(SourceOptions):
    """Options of ``prefine data split``."""

    output_dir: str = field(default="", metadata={"help": "Folder for train, eval and (if asked for) test files."})
    eval_fraction: float = field(default=0.05, metadata={"help": "Share of prompts for evaluation."})
    test_fraction: float = field(default=0.0, metadata={"help": "Share of prompts for a test part."})
    type: str = field(default="jsonl", metadata={"help": "jsonl, jsonl.gz or parquet."})
    rejected: str | None = field(default=None, metadata={"help": "File for the rows that are left out, each with its reason."})


@call(SplitOptions, positional=("source",), rest=True)
def split(given: SplitOptions, progress: Progress) -> Written:
    """Split by prompt: seeded, stable when rows are added, never one prompt on both sides.

    A prompt's side depends on it and the seed alone.

    Raises:
        PrefineError: shares out of range, a source that cannot be read, or nothing to train on.
    """
    if not given.output_dir:
        raise ConfigError("data split needs --output-dir")
    if not 0 < given.eval_fraction < 1 or not 0 <= given.test_fraction < 1 - given.eval_fraction:
        raise ConfigError("--eval-fraction and --test-fraction must lie between 0 and 1, and leave something to train on")
    source = given.pairs()
    names = ["train", "eval", *(["test"] if given.test_fraction else [])]
    dropped: dict[str, int] = {}
    with ExitStack() as stack:
        files = {name: stack.enter_context(RowWriter(Path(given.output_dir) / f"{name}.{given.type}")) for name in names}
        left_out = stack.enter_context(RowWriter(given.rejected)) if given.rejected else None
        for item in source.records():
            if isinstance(item, Dropped):
                dropped[item.reason] = dropped.get(item.reason, 0) + 1
                if left_out is not None:
                    left_out.write({"row": item.number, "reason": item.reason, "content": dict(item.row)})
                continue
            draw = share(prompt_text_key(item), given.seed)
            part = "eval" if draw < given.eval_fraction else "test" if draw < given.eval_fraction + given.test_fraction else "train"
            files[part].write(canonical(item))
        counts = ", ".join(f"{writer.count} {name}" for name, writer in files.items())
        if not files["train"].count:
            raise DataError(f"{source.name}: nothing is left to train on of {source.rows} rows ({counts})")
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())) or "none"
    head = f"{source.name} ({source.format}): {source.rows} rows in, {counts} in {given.output_dir}; left out: {reasons}"
    paths = [Path(writer.path) for writer in files.values()]
    rows = sum(writer.count for writer in files.values())
    return Written(paths, rows, dropped, [head, *reading_lines(source.summary())])
