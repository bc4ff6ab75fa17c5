"""``prefine sft``: supervised fine-tuning."""

from __future__ import annotations

import hashlib

from prefine.errors import ConfigError

ABOUT = "Trains on answers given prompts: rows with messages, or with prompt and completion."


def main(argv: list[str]) -> int:
    """Train and save."""
    from prefine.cli.training_run import announce, parameters_line, plan, show_progress, train
    from prefine.preferences.source import read_rows, source_fingerprint
    from prefine.training.config import SFTConfig
    from prefine.training.record import RecordRun
    from prefine.training.sft import SFTTrainer

    planned = plan("sft", ABOUT, SFTConfig, argv)
    if planned is None:
        return 0
    own = planned.options
    for name in ("map", "format", "data_weights", "ignore_audit"):
        if getattr(own, name):
            raise ConfigError(f"--{name.replace('_', '-')} is of no use here: sft reads messages, or prompt and completion; leave it out")
    rows = [row for source in own.sources for _, row in read_rows(source)]
    key = hashlib.sha256(" ".join(map(source_fingerprint, own.sources)).encode()).hexdigest()[:24]
    eval_rows = [row for _, row in read_rows(own.eval_data)] if own.eval_data else None
    started = planned.start(key)
    trainer = SFTTrainer(
        started.model,
        started.args,
        rows,
        eval_rows,
        started.tokenizer,
        callbacks=[RecordRun(started.run)],
        peft_config=started.peft_config,
    )
    report = trainer.encoder.report
    started.run.write_data({"source": " + ".join(own.sources), "rows": len(rows), "key": key, "encoding": report.summary()})
    announce(
        [
            f"data: {' + '.join(own.sources)}, {len(rows)} rows, {report.pairs} trained on; cut: {dict(report.cut) or 'none'}",
            trainer.proof.sentence(),
            parameters_line(trainer.model, started.precision),
            f"run directory: {started.run.path}",
        ]
    )
    show_progress(trainer, ("loss", "tokens_per_second"))
    train(trainer, started)
    announce([f"model saved in {started.run.model}"])
    return 0
