"""A reward model from preference pairs, and whether it can be relied on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from prefine.api.calls import training_call
from prefine.api.guarding import add_guard
from prefine.api.progress import Progress
from prefine.api.run import Run
from prefine.api.run_options import RunOptions
from prefine.api.training_data import PairData, read_pair_data
from prefine.api.training_setup import TrainingSetup, model_lines, set_up, settings_line
from prefine.errors import ConfigError
from prefine.processes import is_first, meet
from prefine.runs import RunDirectory, read_json, write_json

SHOWN = ("loss", "rewards/accuracies", "rewards/margins")


@training_call("reward", RunOptions)
def reward(given: Mapping[str, Any], progress: Progress) -> Run:
    """Train a reward model on preference pairs (Bradley-Terry), measure it on held-out ones, save a one-label classifier.

    Args:
        model: a folder or a Hub id.
        data: sources by name, or what :func:`prefine.load_preferences` returns.
        output_dir: the run directory.
        options: every flag of ``prefine reward``: the fields of :class:`prefine.RewardConfig`, and the adapter's and the data's options.

    Returns:
        The finished :class:`prefine.Run`.

    Raises:
        PrefineError: an option, a file, a row or a model that is wrong, before anything is trained.
    """
    setup = set_up("reward", given, progress, _load)
    from prefine.report.run_page import write_report
    from prefine.scoring.limits import check_groups
    from prefine.training.record import RecordRun
    from prefine.training.reward import RewardTrainer

    args = setup.args
    data = read_pair_data(setup)
    eval_dataset = data.eval_dataset(args)
    margins = _margins(setup, data)
    if args.ensemble > 1:
        return _ensemble(setup, data, margins, eval_dataset)
    started = setup.start(data.encoded.key, data.lengths, data.eval_key)
    started.write_data(data.summary)
    trainer = RewardTrainer(
        started.model,
        args,
        train_dataset=data.train,
        eval_dataset=eval_dataset,
        processing_class=setup.tokenizer,
        callbacks=[RecordRun(started.run)],
        peft_config=started.peft_config,
        margins=margins,
    )
    check_groups(trainer.limits, data.held_out, "held-out pairs")
    progress.say(
        [
            *data.lines(),
            *model_lines(trainer, setup.precision),
            (f"{len(margins)} pairs with margins; " if margins else "")
            + f"{settings_line(args, setup.options)}; run directory: {started.run.path}",
        ]
    )
    started.train(trainer, SHOWN)
    shared_out = trainer.together.sharded
    measured = trainer.evaluate(data.held_out) if shared_out and len(data.held_out) else {}
    if not is_first():
        return started.followed()
    if measured:
        progress.say(f"held-out pairs: accuracy {100 * measured['eval_accuracy']:.1f} % of {len(data.held_out)}")
    elif len(data.held_out):
        progress.stage("scoring held-out pairs")
        progress.say(["", *_measure(_rewards(trainer, data.held_out), data.held_out, started.run)])
    else:
        progress.say("no pairs were held out, so nothing is known of its accuracy; give --eval-data or --eval-fraction")
    progress.say(f"reward model saved in {started.run.model}; report: {write_report(started.run)}")
    meet()
    return Run(started.run.path)


def _load(name: str, **kwargs: Any) -> Any:
    from prefine.scoring.reward_scorer import load_reward_model

    return load_reward_model(name, new_head=True, **kwargs)


def _margins(setup: TrainingSetup, data: PairData) -> dict[tuple[int, int], float]:
    """By how much each pair's chosen response is to be preferred, where the data says so."""
    from collections import Counter

    from prefine.training.reward import margin_of, pair_key

    known = ((p, margin_of(p, setup.args.use_margins)) for p in data.pairs)
    gaps = [(p, gap) for p, gap in known if gap is not None]
    pairs_of = Counter(p.row for p, _ in gaps)
    by_row = {p.row: gap for p, gap in gaps if pairs_of[p.row] == 1}
    out = {pair_key(g): by_row[g.index] for g in data.encoded.groups if g.index in by_row}
    encoder = setup.args.encoder(setup.tokenizer)
    for pair, gap in gaps:
        if pairs_of[pair.row] > 1:  # ranked answers: the row alone does not say which pair
            group = encoder.encode_pair(pair)
            if group is not None:
                out[pair_key(group)] = gap
    return out


def _ensemble(setup: TrainingSetup, data: PairData, margins: dict[tuple[int, int], float], eval_dataset: Any) -> Run:
    """Several reward models, each and all together measured on the same held-out pairs."""
    from prefine.report.run_page import write_report
    from prefine.scoring.limits import check_groups
    from prefine.training.record import RecordRun
    from prefine.training.reward import train_ensemble

    args, progress = setup.args, setup.progress
    started = setup.start(data.encoded.key, data.lengths, data.eval_key)
    started.write_data(data.summary)
    progress.say([*data.lines(), f"{args.ensemble} reward models; run directory: {started.run.path}"])
    given = [started.model]

    def load() -> Any:
        return given.pop() if given else setup.load_model()

    folder: Path = started.run.evaluation("reward")

    def measured(member: int) -> Path:
        return folder / f"member-{member}.json"  # written once a member is complete

    schedule = {"max_steps": args.max_steps, "num_train_epochs": args.num_train_epochs}
    done = [m for m in range(args.ensemble) if measured(m).exists()]
    for m in done:
        was = {name: read_json(measured(m))[name] for name in schedule}
        if was != schedule:
            raise ConfigError(f"--resume: member {m} was trained with {was}; give the same, or another --output-dir")
    if done:
        progress.say(f"already trained: member {', '.join(map(str, done))}")
    kwargs = {"processing_class": setup.tokenizer, "margins": margins, "eval_dataset": eval_dataset}

    def prepare(trainer: Any) -> None:
        member = trainer.args.seed - args.seed
        check_groups(trainer.limits, data.held_out, "held-out pairs")
        # The page draws one run's curves: the first member's.
        own = started.run if member == 0 else RunDirectory.create(started.run.path / "members" / str(member), resume=True)
        trainer.add_callback(RecordRun(own))
        started.watch(trainer, SHOWN)
        add_guard(setup, own, trainer)

    def train(trainer: Any, place: Path) -> None:
        started.fit(trainer)
        started.save_model(trainer, place)

    members = train_ensemble(load, args, data.train, started.peft_config, started.run.model, prepare, done, train, **kwargs)
    for member, trainer in members:
        progress.stage("scoring held-out pairs")
        with trainer.together.whole(trainer.scorer.unwrapped):
            found = _rewards(trainer, data.held_out if is_first() else [])
        if not is_first():
            continue
        write_json(measured(member), schedule | {"rewards": found.tolist()})
        if len(found):
            progress.say(f"member {member}: held-out accuracy {100 * (found[:, 0] > found[:, 1]).mean():.1f} %")
    if not is_first():
        return started.followed()
    if len(data.held_out):
        rewards = [np.array(read_json(measured(m))["rewards"]) for m in range(args.ensemble)]
        table = np.stack([(r - r.mean()) / (r.std() or 1.0) for r in rewards])  # rewards have no common scale
        disagreement = f"members differ by {float(table.std(0).mean()):.2f} standard deviations of a reward"
        progress.say(["", *_measure(table.mean(0), data.held_out, started.run), disagreement])
    use = f"use them together: --reward-model {started.run.path} --reward-aggregate mean-std"
    progress.say([use, f"report: {write_report(started.run)}"])
    meet()
    return Run(started.run.path)


def _rewards(trainer: Any, groups: Any) -> Any:
    """Rewards of chosen and rejected, shape (pairs, 2)."""
    trainer.scorer.unwrapped.eval()
    scored = trainer.budget.each(groups, trainer.scorer.shares, trainer.scorer.completion_rewards)
    return np.array([reward for _, found in scored for reward in found.tolist()]).reshape(-1, 2)


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
