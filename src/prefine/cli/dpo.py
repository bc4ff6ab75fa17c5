"""``prefine dpo``: preference pairs and a model in, an aligned model and a verdict out."""

from __future__ import annotations

import numpy as np

from prefine.cli.data.reading import column_map, describe, dropped_text

ABOUT = "Aligns a model on preference pairs by DPO or one of its family, and says whether it worked."
SHOWN = ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "tokens_per_second")


def main(argv: list[str]) -> int:
    """Train, judge on held-out pairs, print the verdict."""
    from prefine.cli.training_run import announce, parameters_line, plan, show_progress, train
    from prefine.packing.encoded import encode_source
    from prefine.packing.store import hold_out
    from prefine.preferences.convert import PairSource, Reading
    from prefine.training.config import DPOConfig
    from prefine.training.dpo import DPOTrainer
    from prefine.training.record import RecordRun

    planned = plan("dpo", ABOUT, DPOConfig, argv)
    if planned is None:
        return 0
    # Data before the model: a wrong column should not cost a minute of loading.
    own, args = planned.options, planned.args
    reading = Reading(column_map(own.map), own.format, own.pairing, own.min_gap, args.seed)
    data = encode_source(PairSource(own.sources, reading, own.data_weights), args.encoder(planned.tokenizer))
    if own.eval_data:
        train_groups, held_out = data.groups, encode_source(PairSource(own.eval_data, reading), args.encoder(planned.tokenizer)).groups
        held_rows: list[int] = []
    else:
        held = hold_out(data.groups.prompt_keys(), own.eval_fraction, args.seed)
        train_groups, held_out = data.groups.select(np.flatnonzero(~held)), data.groups.select(np.flatnonzero(held))
        held_rows = [group.index for group in held_out]
    started = planned.start()
    started.run.write_data(data.data | {"encoding": data.encoding, "held_out_rows": held_rows})
    trainer = DPOTrainer(
        started.model,
        None,
        args,
        train_dataset=train_groups,
        processing_class=started.tokenizer,
        callbacks=[RecordRun(started.run)],
        peft_config=started.peft_config,
    )
    encoding = data.encoding
    announce(
        [
            f"data: {data.data['source']}: {describe(data.data)}" + (" (encoded by an earlier run)" if data.reused else ""),
            f"pairs: {len(train_groups)} trained on, {len(held_out)} held out; "
            f"dropped in encoding: {dropped_text(encoding['dropped'])}; "
            f"cut: {encoding['cut'] or 'none'}; boundary merges: {encoding['boundary_merges']}",
            trainer.proof.sentence(),
            parameters_line(trainer.model, started.precision),
            f"loss {'+'.join(args.loss_type)}, beta {args.beta}, learning rate {args.learning_rate}; run directory: {started.run.path}",
        ]
    )
    show_progress(trainer, SHOWN)
    train(trainer, started)
    if len(held_out):
        from prefine.cli.eval import judge_held_out

        verdict = judge_held_out(trainer, held_out, started.run)
        announce(["", verdict.sentence])
    else:
        announce(["no pairs were held out, so there is no verdict; give --eval-data or --eval-fraction"])
    return 0
