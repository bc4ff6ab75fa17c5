"""Supervised fine-tuning."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from prefine.api.calls import training_call
from prefine.api.plan_lengths import example_lengths
from prefine.api.progress import Progress
from prefine.api.reading import column_map, counted, reading_lines
from prefine.api.run import Run
from prefine.api.run_options import RunOptions
from prefine.api.training_data import check_encoding
from prefine.api.training_setup import TrainingSetup, model_lines, set_up, settings_line
from prefine.errors import ConfigError
from prefine.preferences.convert import Reading
from prefine.preferences.examples import EXAMPLES, ExampleSource
from prefine.processes import is_first, meet

SHOWN = ("loss", "tokens_per_second")


@training_call("sft", RunOptions)
def sft(given: Mapping[str, Any], progress: Progress) -> Run:
    """Train on responses given prompts: messages, prompts with completions, plain text, or the chosen side of preference pairs.

    Args:
        model: a folder, a Hub id or a finished run.
        data: sources by name.
        output_dir: the run directory.
        options: every flag of ``prefine sft``: the fields of :class:`prefine.SFTConfig`, and the adapter's and the data's options.

    Returns:
        The finished :class:`prefine.Run`.

    Raises:
        PrefineError: an option, a file, a row or a model that is wrong, before anything is trained.
    """
    setup = set_up("sft", given, progress)
    from prefine.report.run_page import write_report
    from prefine.training.record import RecordRun
    from prefine.training.sft import SFTTrainer

    own, args = setup.options, setup.args
    if own.eval_fraction is not None:
        raise ConfigError("--eval-fraction is for preference training: sft holds nothing out; give --eval-data, or leave it out")
    progress.stage("reading the data")
    reading = Reading(column_map(own.map), own.format, own.pairing, own.min_gap, args.seed)
    source = ExampleSource(own.sources, reading, own.data_weights)
    rows = list(source.examples())
    _check_options(setup, source)
    eval_source = ExampleSource(own.eval_data, reading) if own.eval_data else None
    eval_rows = list(eval_source.examples()) if eval_source else None
    whole = any(row.whole for row in rows)
    if own.preset == "recipe" and whole and not {"assistant_only_loss", "completion_only_loss"} & setup.given:
        args.assistant_only_loss = setup.training["assistant_only_loss"] = True
    started = setup.start(
        source.fingerprint, lambda: example_lengths(rows, args, setup.tokenizer), eval_source.fingerprint if eval_source else None
    )
    trainer = SFTTrainer(
        started.model,
        args,
        train_dataset=rows,
        eval_dataset=eval_rows,
        processing_class=setup.tokenizer,
        callbacks=[RecordRun(started.run)],
        peft_config=started.peft_config,
    )
    report = trainer.encoder.report
    check_encoding(report.summary(), own.ignore_audit)
    read = source.summary()
    started.write_data(read | {"encoding": report.summary()})
    on = "the assistant's turns" if args.assistant_only_loss else "every token of conversations" if whole else ""
    counts = Counter({reason: what["count"] for reason, what in read["dropped"].items()})
    counts.update({reason: len(places) for reason, places in report.dropped.items()})
    of_what = f"{source.rows} rows" if source.format == EXAMPLES.name else f"{source.format}, {len(rows)} preferred responses"
    progress.say(
        [
            f"data: {source.name}, {of_what}, {report.pairs} trained on; dropped: {counted(dict(sorted(counts.items())))}; "
            f"truncated: {counted(report.cut)}{on and f'; loss on {on}'}",
            *reading_lines(read, report.summary()),
            *model_lines(trainer, setup.precision),
            f"{settings_line(args, own)}; run directory: {started.run.path}",
        ]
    )
    started.train(trainer, SHOWN)
    measured = trainer.evaluate() if eval_rows else {}
    if not is_first():
        return started.followed()
    if measured:
        progress.say(f"held-out loss {measured['eval_loss']:.4f} nats/token")
    progress.say([f"model saved in {started.run.model}", f"report: {write_report(started.run)}"])
    meet()
    return Run(started.run.path)


def _check_options(setup: TrainingSetup, source: ExampleSource) -> None:
    """Refuse options that the data gives no use for."""
    own = setup.options
    if source.format == EXAMPLES.name:
        for name in ("min_gap", "pairing"):
            if getattr(own, name) != getattr(type(own), name):
                raise ConfigError(f"--{name.replace('_', '-')} is for preference data, and this is none; leave it out")
    elif setup.args.assistant_only_loss and EXAMPLES.name not in source.format:
        raise ConfigError("assistant_only_loss is for messages; of preference pairs the chosen response is trained on; leave it out")
