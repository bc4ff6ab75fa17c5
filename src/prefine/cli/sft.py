"""``prefine sft``: supervised fine-tuning."""

from __future__ import annotations

from collections import Counter

from prefine.cli.data.reading import column_map, counted, reading_lines
from prefine.errors import ConfigError

ABOUT = (
    "Trains on answers given prompts: rows with messages, or with prompt and completion; on plain text (rows with text); "
    "or on the chosen side of preference pairs."
)


def main(argv: list[str]) -> int:
    """Train and save."""
    from prefine.cli.pair_data import check_encoding
    from prefine.cli.training_run import announce, parameters_line, plan, retention_lines, settings_line, show_progress, train, warnings_of
    from prefine.preferences.convert import Reading
    from prefine.preferences.examples import EXAMPLES, ExampleSource
    from prefine.training.config import SFTConfig
    from prefine.training.record import RecordRun
    from prefine.training.sft import SFTTrainer

    planned = plan("sft", ABOUT, SFTConfig, argv)
    if planned is None:
        return 0
    own = planned.options
    if own.eval_fraction != type(own).eval_fraction:
        raise ConfigError("--eval-fraction is for preference training: sft holds nothing out; give --eval-data, or leave it out")
    reading = Reading(column_map(own.map), own.format, own.pairing, own.min_gap, planned.args.seed)
    source = ExampleSource(own.sources, reading, own.data_weights)
    rows = list(source.examples())
    if source.format == EXAMPLES.name:
        for name in ("min_gap", "pairing"):
            if getattr(own, name) != getattr(type(own), name):
                raise ConfigError(f"--{name.replace('_', '-')} is for preference data, and this is none; leave it out")
    elif planned.args.assistant_only_loss and EXAMPLES.name not in source.format:
        raise ConfigError("assistant_only_loss is for messages; of preference pairs the chosen answer is trained on; leave it out")
    key = source.fingerprint
    eval_rows = list(ExampleSource(own.eval_data, reading).examples()) if own.eval_data else None
    whole = any(row.whole for row in rows)
    if own.preset == "recipe" and whole and not {"assistant_only_loss", "completion_only_loss"} & planned.given:
        planned.args.assistant_only_loss = planned.training["assistant_only_loss"] = True
    on = "the assistant's turns" if planned.args.assistant_only_loss else "every token of conversations" if whole else ""
    started = planned.start(key)
    trainer = SFTTrainer(
        started.model,
        started.args,
        train_dataset=rows,
        eval_dataset=eval_rows,
        processing_class=started.tokenizer,
        callbacks=[RecordRun(started.run)],
        peft_config=started.peft_config,
    )
    report = trainer.encoder.report
    check_encoding(report.summary(), own.ignore_audit)
    read = source.summary()
    started.run.write_data(read | {"key": key, "encoding": report.summary()})
    counts = Counter({reason: what["count"] for reason, what in read["dropped"].items()})
    counts.update({reason: len(places) for reason, places in report.dropped.items()})
    of_what = f"{source.rows} rows" if source.format == EXAMPLES.name else f"{source.format}, {len(rows)} preferred answers"
    announce(
        [
            f"data: {source.name}, {of_what}, {report.pairs} trained on; dropped: {counted(dict(sorted(counts.items())))}; "
            f"cut: {counted(report.cut)}{on and f'; loss on {on}'}",
            *reading_lines(read, report.summary()),
            *retention_lines(trainer),
            trainer.proof.sentence(),
            parameters_line(trainer.model, started.precision),
            f"{settings_line(started.args, own)}; run directory: {started.run.path}",
            *warnings_of("sft", started.args, trainer.model),
        ]
    )
    show_progress(trainer, ("loss", "tokens_per_second"))
    train(trainer, started)
    if eval_rows:
        announce([f"held-out loss {trainer.evaluate()['eval_loss']:.4f} nats a token"])
    announce([f"model saved in {started.run.model}"])
    return 0
