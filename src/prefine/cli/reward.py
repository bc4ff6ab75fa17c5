"""``prefine reward``: a reward model from preference pairs, and whether it can be relied on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from prefine.errors import ConfigError
from prefine.runs import RunDirectory, write_json

ABOUT = "Trains a reward model on preference pairs (Bradley-Terry), measures it on held-out ones, saves a one-label classifier."
SHOWN = ("loss", "rewards/accuracies", "rewards/margins")


def main(argv: list[str]) -> int:
    """Train, measure on held-out pairs, print."""
    from prefine.cli.pair_data import read_pair_data
    from prefine.cli.training_run import announce, parameters_line, plan, retention_lines, settings_line, show_progress, train, warnings_of
    from prefine.report.run_page import write_report
    from prefine.scoring.limits import check_groups
    from prefine.scoring.reward_scorer import load_reward_model
    from prefine.training.config import RewardConfig
    from prefine.training.record import RecordRun
    from prefine.training.reward import RewardTrainer

    planned = plan("reward", ABOUT, RewardConfig, argv, lambda name, **k: load_reward_model(name, new_head=True, **k))
    if planned is None:
        return 0
    args = planned.args
    data = read_pair_data(planned)
    watched = data.watched(args)
    margins = _margins(planned, data)
    if args.ensemble > 1:
        return _ensemble(planned, data, margins, watched)
    started = planned.start(data.encoded.key)
    started.run.write_data(data.summary)
    trainer = RewardTrainer(
        started.model,
        args,
        train_dataset=data.train,
        eval_dataset=watched,
        processing_class=started.tokenizer,
        callbacks=[RecordRun(started.run)],
        peft_config=started.peft_config,
        margins=margins,
    )
    check_groups(trainer.limits, data.held_out, "held-out pairs")
    announce(
        [
            *data.lines(),
            *retention_lines(trainer),
            trainer.proof.sentence(),
            parameters_line(trainer.model, started.precision),
            (f"{len(margins)} pairs with margins; " if margins else "")
            + f"{settings_line(args, started.options)}; run directory: {started.run.path}",
            *warnings_of("reward", args, trainer.model),
        ]
    )
    show_progress(trainer, SHOWN)
    train(trainer, started)
    if len(data.held_out):
        announce(["", *_measure(_rewards(trainer, data.held_out), data.held_out, started.run)])
    else:
        announce(["no pairs were held out, so nothing is known of its accuracy; give --eval-data or --eval-fraction"])
    announce([f"reward model saved in {started.run.model}; report: {write_report(started.run)}"])
    return 0


def _margins(planned: Any, data: Any) -> dict[tuple[int, int], float]:
    """By how much each pair's chosen response is to be preferred, where the data says so."""
    from collections import Counter

    from prefine.training.reward import margin_of, pair_key

    known = ((p, margin_of(p, planned.args.use_margins)) for p in data.pairs)
    gaps = [(p, gap) for p, gap in known if gap is not None]
    pairs_of = Counter(p.row for p, _ in gaps)
    by_row = {p.row: gap for p, gap in gaps if pairs_of[p.row] == 1}
    out = {pair_key(g): by_row[g.index] for g in data.encoded.groups if g.index in by_row}
    encoder = planned.args.encoder(planned.tokenizer)
    for pair, gap in gaps:
        if pairs_of[pair.row] > 1:  # ranked answers: the row alone does not say which pair
            group = encoder.encode_pair(pair)
            if group is not None:
                out[pair_key(group)] = gap
    return out


def _ensemble(planned: Any, data: Any, margins: dict[tuple[int, int], float], watched: Any) -> int:
    """Several reward models, each and all together measured on the same held-out pairs."""
    from prefine.cli.training_run import announce, show_progress
    from prefine.report.run_page import write_report
    from prefine.scoring.limits import check_groups
    from prefine.training.record import RecordRun
    from prefine.training.reward import train_ensemble

    args = planned.args
    started = planned.start(data.encoded.key)
    started.run.write_data(data.summary)
    announce([*data.lines(), f"{args.ensemble} reward models; run directory: {started.run.path}"])
    given = [started.model]

    def load() -> Any:
        return given.pop() if given else planned.load_model()

    folder: Path = started.run.evaluation("reward")

    def measured(member: int) -> Path:
        return folder / f"member-{member}.json"  # written once a member is whole

    schedule = {"max_steps": args.max_steps, "num_train_epochs": args.num_train_epochs}
    done = [m for m in range(args.ensemble) if measured(m).exists()]
    for m in done:
        was = {name: json.loads(measured(m).read_text())[name] for name in schedule}
        if was != schedule:
            raise ConfigError(f"--resume: member {m} was trained with {was}; give the same, or another --output-dir")
    if done:
        announce([f"already trained: member {', '.join(map(str, done))}"])
    kwargs = {"processing_class": started.tokenizer, "margins": margins, "eval_dataset": watched}

    def prepare(trainer: Any) -> None:
        member = trainer.args.seed - args.seed
        check_groups(trainer.limits, data.held_out, "held-out pairs")
        # The page draws one run's curves: the first member's.
        own = started.run if member == 0 else RunDirectory.create(started.run.path / "members" / str(member), resume=True)
        trainer.add_callback(RecordRun(own))
        show_progress(trainer, SHOWN)

    members = train_ensemble(load, args, data.train, started.peft_config, started.run.model, prepare, done, **kwargs)
    for member, trainer in members:
        found = _rewards(trainer, data.held_out)
        write_json(measured(member), schedule | {"rewards": found.tolist()})
        if len(found):
            announce([f"member {member}: held-out accuracy {100 * (found[:, 0] > found[:, 1]).mean():.1f} %"])
    if len(data.held_out):
        rewards = [np.array(json.loads(measured(m).read_text())["rewards"]) for m in range(args.ensemble)]
        table = np.stack([(r - r.mean()) / (r.std() or 1.0) for r in rewards])  # rewards have no common scale
        disagreement = float(table.std(0).mean())
        announce(
            [
                "",
                *_measure(table.mean(0), data.held_out, started.run),
                f"members differ by {disagreement:.2f} standard deviations of a reward",
            ]
        )
    announce([f"use them together: --reward-model {started.run.path} --reward-aggregate mean-std", f"report: {write_report(started.run)}"])
    return 0


def _rewards(trainer: Any, groups: Any) -> Any:
    """Rewards of chosen and rejected, shape (pairs, 2)."""
    trainer.scorer.unwrapped.eval()
    rewards: list[float] = []
    for part in trainer.budget.split(groups, trainer.scorer.shares):
        rewards += trainer.scorer.completion_rewards(part).tolist()
    return np.array(rewards).reshape(-1, 2)


def _measure(sides: Any, groups: Any, run: Any) -> list[str]:
    """Quality on held-out pairs, into ``eval/reward``; lines to print."""
    from prefine.evaluation.reward_quality import reward_quality
    from prefine.packing.store import prompt_key

    lengths = [[len(c) for c in g.completion_ids] for g in groups]
    found = reward_quality(sides[:, 0], sides[:, 1], lengths, [f"{prompt_key(g):016x}" for g in groups])
    write_json(run.evaluation("reward") / "summary.json", {"reward_model": found.summary()})
    lines = [
        f"held-out accuracy {found.accuracy.percent()} on {found.accuracy.count} pairs; calibration error {found.calibration_error:.3f}",
        f"correlation of reward and length {found.length_correlation:+.2f}",
    ]
    if found.shorter_chosen is not None and found.longer_chosen is not None:
        lines.append(
            f"accuracy where the chosen is shorter {found.shorter_chosen.percent()}, where it is longer {found.longer_chosen.percent()}"
        )
    return lines
