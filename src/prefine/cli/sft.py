"""``prefine sft``: supervised fine-tuning."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from prefine.cli.data.reading import column_map
from prefine.errors import ConfigError

ABOUT = (
    "Trains on answers given prompts: rows with messages, or with prompt and completion; on plain text (rows with text); "
    "or on the chosen side of preference pairs."
)


def main(argv: list[str]) -> int:
    """Train and save."""
    from prefine.cli.training_run import announce, parameters_line, plan, settings_line, show_progress, train, warnings_of
    from prefine.preferences.convert import PairSource, Reading
    from prefine.preferences.source import read_rows, source_fingerprint
    from prefine.training.config import SFTConfig
    from prefine.training.record import RecordRun
    from prefine.training.sft import SFTTrainer

    planned = plan("sft", ABOUT, SFTConfig, argv)
    if planned is None:
        return 0
    own = planned.options
    if own.ignore_audit:
        raise ConfigError("--ignore-audit is of no use here: sft makes no audit; leave it out")
    if own.eval_fraction != type(own).eval_fraction:
        raise ConfigError("--eval-fraction is for preference training: sft holds nothing out; give --eval-data, or leave it out")
    first = next(iter(read_rows(own.sources[0])), (0, {}))[1]
    reading, pairs = None, None
    if own.map or own.format or "rejected" in first:
        reading = Reading(column_map(own.map), own.format, own.pairing, own.min_gap, planned.args.seed)
        pairs = PairSource(own.sources, reading, own.data_weights)
    else:
        for name in ("data_weights", "min_gap", "pairing"):
            if getattr(own, name) != getattr(type(own), name):
                raise ConfigError(f"--{name.replace('_', '-')} is for preference data, and this has no column 'rejected'; leave it out")
    rows: Any = list(pairs) if pairs is not None else [row for source in own.sources for _, row in read_rows(source)]
    key = hashlib.sha256(" ".join(map(source_fingerprint, own.sources)).encode()).hexdigest()[:24]
    eval_rows: Any = None
    if own.eval_data:
        eval_rows = list(PairSource(own.eval_data, reading)) if reading else [row for _, row in read_rows(own.eval_data)]
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
    read: dict[str, Any] = pairs.summary() if pairs is not None else {"source": " + ".join(own.sources), "rows": len(rows), "dropped": {}}
    started.run.write_data(read | {"key": key, "encoding": report.summary()})
    counts = Counter({reason: what["count"] for reason, what in read["dropped"].items()})
    counts.update({reason: len(places) for reason, places in report.dropped.items()})
    dropped = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "none"
    announce(
        [
            f"data: {' + '.join(own.sources)}, {len(rows)} {'rows' if pairs is None else 'pairs, of which the chosen side'}, "
            f"{report.pairs} trained on; dropped: {dropped}; cut: {dict(report.cut) or 'none'}",
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
