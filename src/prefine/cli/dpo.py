"""``prefine dpo``: preference pairs and a model in, an aligned model and a verdict out."""

from __future__ import annotations

import random
from typing import Any

from prefine.cli.data import column_map, describe
from prefine.preferences.convert import Dataset, load_pairs
from prefine.preferences.records import Pair

ABOUT = "Aligns a model on preference pairs by DPO or one of its family, and says whether it worked."
SHOWN = ("loss", "rewards/margins", "rewards/accuracies", "logps/chosen", "tokens_per_second")


def hold_out(pairs: list[Pair], fraction: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Split by prompt, so that no held-out prompt is trained on; at most 500 prompts are held out."""
    prompts = list(dict.fromkeys(repr(p.prompt) for p in pairs))
    count = min(500, round(len(prompts) * fraction))
    held = set(random.Random(seed).sample(prompts, count))
    return [p for p in pairs if repr(p.prompt) not in held], [p for p in pairs if repr(p.prompt) in held]


def main(argv: list[str]) -> int:
    """Train, judge on held-out pairs, print the verdict."""
    from prefine.cli.training_run import RunOptions, all_options, announce, parameters_line, prepare, show_progress, train
    from prefine.training.config import DPOConfig
    from prefine.training.dpo import DPOTrainer
    from prefine.training.record import RecordRun

    # Data before the model: a wrong column should not cost a minute of loading.
    data, held_data = _load_data(argv, all_options(DPOConfig), RunOptions)
    prepared = prepare("dpo", ABOUT, DPOConfig, argv)
    if prepared is None or data is None:
        return 0
    own = prepared.options
    seed = prepared.args.seed
    train_pairs, held_out = (data.pairs, held_data.pairs) if held_data else hold_out(data.pairs, own.eval_fraction, seed)
    trainer = DPOTrainer(
        prepared.model,
        None,
        prepared.args,
        train_dataset=train_pairs,
        processing_class=prepared.tokenizer,
        callbacks=[RecordRun(prepared.run)],
        peft_config=prepared.peft_config,
    )
    report = trainer.encoder.report
    prepared.run.write_data(data.summary() | {"encoding": report.summary(), "held_out_rows": [p.row for p in held_out]})
    dropped = ", ".join(f"{len(rows)} {reason}" for reason, rows in report.dropped.items()) or "none"
    announce(
        [
            f"data: {own.data}: {describe(data)}",
            f"pairs: {report.pairs} trained on, {len(held_out)} held out; dropped in encoding: {dropped}; "
            f"cut: {dict(report.cut) or 'none'}; boundary merges: {report.merges}",
            trainer.proof.sentence(),
            parameters_line(trainer.model, prepared.precision),
            f"loss {'+'.join(prepared.args.loss_type)}, beta {prepared.args.beta}, learning rate {prepared.args.learning_rate}; "
            f"run directory: {prepared.run.path}",
        ]
    )
    show_progress(trainer, SHOWN)
    train(trainer, prepared)
    if held_out:
        from prefine.cli.eval import judge_held_out

        verdict = judge_held_out(trainer, held_out, prepared.run)
        announce(["", verdict.sentence])
    else:
        announce(["no pairs were held out, so there is no verdict; give --eval-data or --eval-fraction"])
    return 0


def _load_data(argv: list[str], options: Any, run_options: Any) -> tuple[Dataset | None, Dataset | None]:
    from prefine.cli.options import parse

    if "--help" in argv or "-h" in argv:
        return None, None
    given = parse(argv, options)
    own = run_options(**{k: v for k, v in given.items() if k in vars(run_options())})
    if not own.data or not own.model:
        return None, None  # prepare() says so
    columns = column_map(own.map)
    return load_pairs(own.data, columns), load_pairs(own.eval_data, columns) if own.eval_data else None
