"""``prefine dpo``: preference pairs and a model in, an aligned model and a verdict out."""

from __future__ import annotations

ABOUT = "Aligns a model on preference pairs by DPO or one of its family, and says whether it worked."
SHOWN = ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "tokens_per_second")


def main(argv: list[str]) -> int:
    """Train, evaluate on what was held out, print what is known."""
    from prefine.cli.final_eval import MOST_PROMPTS, FinalOptions, finish
    from prefine.cli.judge_lines import evaluation_lines
    from prefine.cli.pair_data import read_pair_data
    from prefine.cli.training_run import announce, parameters_line, plan, retention_lines, settings_line, show_progress, train, warnings_of
    from prefine.report.run_page import write_report
    from prefine.scoring.limits import check_groups
    from prefine.training.config import DPOConfig
    from prefine.training.dpo import DPOTrainer
    from prefine.training.record import RecordRun

    planned = plan("dpo", ABOUT, DPOConfig, argv, extra=FinalOptions)
    if planned is None:
        return 0
    args = planned.args
    judge = planned.extra.ready_judge(planned.options.model, planned.output_dir)
    data = read_pair_data(planned)
    planned.extra.check_held_out(len(data.held_out))
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
    check_groups(trainer.limits, data.held_out, "held-out pairs")
    announce(
        [
            *data.lines(),
            *retention_lines(trainer),
            trainer.proof.sentence(),
            parameters_line(trainer.model, started.precision),
            f"loss {'+'.join(args.loss_type)}, {settings_line(args, started.options)}; run directory: {started.run.path}",
            *warnings_of("dpo", args, trainer.model),
        ]
    )
    show_progress(trainer, SHOWN)
    seconds = train(trainer, started)
    if len(data.held_out):
        questions = data.questions(args.encoder(planned.tokenizer), args.seed, MOST_PROMPTS)
        found = finish(trainer, started.run, planned.extra, judge, questions, data.held_out, seconds)
        announce(["", *evaluation_lines(found)])
    else:
        announce(["no pairs were held out, so nothing is known of what was learned; give --eval-data or --eval-fraction"])
    announce([f"report: {write_report(started.run)}"])
    return 0
