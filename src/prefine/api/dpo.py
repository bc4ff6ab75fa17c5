"""DPO and its family: preference pairs and a model in, an aligned model and what is known of it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefine.api.calls import training_call
from prefine.api.final_evaluation import MOST_PROMPTS, FinalOptions, finish
from prefine.api.progress import Progress
from prefine.api.run import Run
from prefine.api.run_options import RunOptions
from prefine.api.summaries import evaluation_lines
from prefine.api.training_data import read_pair_data
from prefine.api.training_setup import model_lines, set_up, settings_line
from prefine.processes import is_first, meet
from prefine.runs import RunDirectory

SHOWN = ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "tokens_per_second")


@training_call("dpo", RunOptions, FinalOptions)
def dpo(given: Mapping[str, Any], progress: Progress) -> Run:
    """Align a model on preference pairs by DPO or one of its family, and say whether it worked.

    Args:
        model: a folder, a Hub id or a finished run.
        data: sources by name, or what :func:`prefine.load_preferences` returns.
        output_dir: the run directory.
        options: every flag of ``prefine dpo``: the fields of :class:`prefine.DPOConfig`, and the adapter's, the data's and the
            evaluation's options.

    Returns:
        The finished :class:`prefine.Run`.

    Raises:
        PrefineError: an option, a file, a row or a model that is wrong, before anything is trained.
    """
    setup = set_up("dpo", given, progress, extra=FinalOptions)
    from prefine.report.run_page import write_report
    from prefine.scoring.limits import check_groups
    from prefine.training.dpo import DPOTrainer
    from prefine.training.record import RecordRun

    args = setup.args
    judge = setup.extra.ready_judge(setup.options.model, setup.output_dir)
    data = read_pair_data(setup)
    setup.extra.check_held_out(len(data.held_out))
    eval_dataset = data.eval_dataset(args)
    started = setup.start(data.encoded.key, data.lengths, data.eval_key)
    started.write_data(data.summary)
    trainer = DPOTrainer(
        started.model,
        None,
        args,
        train_dataset=data.train,
        eval_dataset=eval_dataset,
        processing_class=setup.tokenizer,
        callbacks=[RecordRun(started.run)],
        peft_config=started.peft_config,
    )
    check_groups(trainer.limits, data.held_out, "held-out pairs")
    progress.say(
        [
            *data.lines(),
            *model_lines(trainer, setup.precision),
            f"loss {'+'.join(args.loss_type)}, {settings_line(args, setup.options)}; run directory: {started.run.path}",
        ]
    )
    questions = data.questions(args.encoder(setup.tokenizer), args.seed, MOST_PROMPTS) if len(data.held_out) else []
    started.train(trainer, SHOWN, lambda most: questions[:most], judge)
    shared_out = trainer.together.sharded
    measured = trainer.evaluate(data.held_out) if shared_out and len(data.held_out) else {}
    if not is_first():
        return started.followed()
    if shared_out:
        progress.say(["", *_shared_out_lines(measured, len(data.held_out), started.run)])
    elif len(data.held_out):
        found = finish(trainer, started.run, setup.extra, judge, questions, data.held_out, started.seconds, progress)
        progress.say(["", *evaluation_lines(found)])
    else:
        progress.say("no pairs were held out, so nothing is known of what was learned; give --eval-data or --eval-fraction")
    progress.say(f"report: {write_report(started.run)}")
    meet()
    return Run(started.run.path)


def _shared_out_lines(measured: Mapping[str, float], held_out: int, run: RunDirectory) -> list[str]:
    """What is known of a model that no process has whole: nothing samples from it here."""
    lines = []
    if measured:
        accuracy, margin = measured["eval_rewards/accuracies"], measured["eval_rewards/margins"]
        lines.append(f"held-out pairs: reward accuracy {100 * accuracy:.1f} % of {held_out}, margin {margin:.3f}")
    return [*lines, f"no process has the whole model, so no responses were sampled; for a verdict: prefine eval {run.path} --judge ..."]
