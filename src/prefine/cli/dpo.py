"""``prefine dpo``: preference pairs and a model in, an aligned model and a verdict out."""

from __future__ import annotations

ABOUT = "Aligns a model on preference pairs by DPO or one of its family, and says whether it worked."
SHOWN = ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "tokens_per_second")


def main(argv: list[str]) -> int:
    """Train, judge on held-out pairs, print the verdict."""
    from prefine.cli.pair_data import read_pair_data
    from prefine.cli.training_run import announce, parameters_line, plan, show_progress, train
    from prefine.report.run_page import write_report
    from prefine.training.config import DPOConfig
    from prefine.training.dpo import DPOTrainer
    from prefine.training.record import RecordRun

    planned = plan("dpo", ABOUT, DPOConfig, argv)
    if planned is None:
        return 0
    args = planned.args
    data = read_pair_data(planned)
    watched = data.watched(args)
    started = planned.start(data.encoded.key)
    started.run.write_data(data.summary)
    trainer = DPOTrainer(
        started.model,
        None,
        args,
        train_dataset=data.train,
        eval_dataset=watched,
        processing_class=started.tokenizer,
        callbacks=[RecordRun(started.run)],
        peft_config=started.peft_config,
    )
    announce(
        [
            *data.lines(),
            trainer.proof.sentence(),
            parameters_line(trainer.model, started.precision),
            f"loss {'+'.join(args.loss_type)}, beta {args.beta}, learning rate {args.learning_rate}; run directory: {started.run.path}",
        ]
    )
    show_progress(trainer, SHOWN)
    train(trainer, started)
    if len(data.held_out):
        from prefine.cli.eval import judge_held_out

        verdict = judge_held_out(trainer, data.held_out, started.run)
        announce(["", verdict.sentence])
    else:
        announce(["no pairs were held out, so there is no verdict; give --eval-data or --eval-fraction"])
    announce([f"report: {write_report(started.run)}"])
    return 0
