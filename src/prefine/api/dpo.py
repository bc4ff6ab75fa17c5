"""DPO and its family, KTO and its kin: preferences and a model in, an aligned model and what is known of it out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import prefine
from prefine.api.calls import training_call
from prefine.api.final_evaluation import MOST_PROMPTS, FinalOptions, finish
from prefine.api.progress import Progress
from prefine.api.run import Run
from prefine.api.run_options import RunOptions
from prefine.api.summaries import evaluation_lines
from prefine.api.training_data import read_pair_data
from prefine.api.training_setup import NOT_HERE, TrainingRun, model_lines, set_up, settings_line
from prefine.errors import ConfigError
from prefine.processes import is_first, meet

TRAINERS = {"dpo": "DPOTrainer", "kto": "KTOTrainer"}
SHOWN = {
    "dpo": ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "tokens_per_second"),
    "kto": ("loss", "kl", "rewards/margins", "rewards/accuracies", "tokens_per_second"),
}


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
    return _train_on("dpo", given, progress)


@training_call("kto", RunOptions, FinalOptions)
def kto(given: Mapping[str, Any], progress: Progress) -> Run:
    """Align a model on single responses, each wanted or not, by KTO or its kin, and say whether it worked.

    Args:
        model: a folder, a Hub id or a finished run.
        data: sources by name; of preference pairs both sides are taken.
        output_dir: the run directory.
        options: every flag of ``prefine kto``: the fields of :class:`prefine.KTOConfig`, and the adapter's, the data's and the
            evaluation's options.

    Returns:
        The finished :class:`prefine.Run`.

    Raises:
        PrefineError: an option, a file, a row or a model that is wrong, before anything is trained.
    """
    return _train_on("kto", given, progress)


def _train_on(command: str, given: Mapping[str, Any], progress: Progress) -> Run:
    """Train on preferences, measure held-out ones, judge responses where a judge is named."""
    setup = set_up(command, given, progress, extra=FinalOptions)
    from prefine.report.run_page import write_report
    from prefine.scoring.limits import check_groups
    from prefine.training.record import RecordRun

    args = setup.args
    if command == "kto" and setup.options.pairing != type(setup.options).pairing:
        raise ConfigError("--pairing would be ignored: of ranked responses the best and the worst are taken; leave it out", code="PF-C04")
    judge = setup.extra.ready_judge(setup.options.model, setup.output_dir)
    data = read_pair_data(setup, labelled=command == "kto")
    setup.extra.check_held_out(len(data.held_out))
    eval_dataset = data.eval_dataset(args)
    started = setup.start(data.encoded.key, data.lengths, data.eval_key)
    started.write_data(data.summary)
    trainer = getattr(prefine, TRAINERS[command])(
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
    losses = args.loss_type if isinstance(args.loss_type, str) else "+".join(args.loss_type)
    progress.say(
        [
            *data.lines(),
            *model_lines(trainer, setup.precision),
            *label_lines(trainer),
            f"loss {losses}, {settings_line(args, setup.options)}; run directory: {started.run.path}",
        ]
    )
    questions = data.questions(args.encoder(setup.tokenizer), args.seed, MOST_PROMPTS) if len(data.held_out) else []
    started.train(trainer, SHOWN[command], lambda most: questions[:most], judge)
    shared_out = trainer.together.sharded
    scores = trainer.reference is not None or not trainer.wants_reference  # a precomputed one was given up
    measured = trainer.evaluate(data.held_out) if shared_out and scores and len(data.held_out) else {}
    if shared_out:
        trainer.let_go()
    if not is_first():
        return started.followed()
    if len(data.held_out):
        progress.say(["", *_conclusion(trainer, started, setup.extra, judge, questions, data.held_out, measured)])
    else:
        progress.say("nothing was held out, so nothing is known of what was learned; give --eval-data or --eval-fraction")
    progress.say(f"report: {write_report(started.run)}")
    meet()
    return Run(started.run.path)


def label_lines(trainer: Any) -> list[str]:
    """Of labelled responses: how many of each label are trained on, and what each counts."""
    if not hasattr(trainer, "label_counts"):
        return []
    (wanted, unwanted), weights = trainer.label_counts, trainer.label_weights
    return [f"labels: {wanted} wanted, weight {weights[0]:.3g}; {unwanted} unwanted, weight {weights[1]:.3g}"]


def _conclusion(
    trainer: Any, started: TrainingRun, options: FinalOptions, judge: Any, questions: Any, pairs: Any, measured: Mapping[str, float]
) -> list[str]:
    """What the run ends with. A model that was shared out is loaded whole by this process alone, where it fits; else what all measured."""
    from prefine.packing.out_of_memory import is_out_of_memory

    try:
        return evaluation_lines(finish(trainer, started.run, options, judge, questions, pairs, started.seconds, started.setup.progress))
    except Exception as error:
        if not measured or not (is_out_of_memory(error) or getattr(error, "code", "") == "PF-M07"):
            raise
        what = "labelled responses" if hasattr(trainer, "label_counts") else "pairs"
        accuracy, margin = measured["eval_rewards/accuracies"], measured.get("eval_rewards/margins", math.nan)
        return [
            f"held-out {what}: reward accuracy {100 * accuracy:.1f} % of {len(pairs)}, margin {margin:.3f}",
            f"{NOT_HERE}: prefine eval {started.run.path} --judge ...",
        ]
