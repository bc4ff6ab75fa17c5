"""PPO and its kin, and online DPO: prompts, rewards, the run, its verdict by the reward it was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import prefine
from prefine.api.calls import training_call
from prefine.api.final_evaluation import finish
from prefine.api.plan_lengths import prompt_lengths
from prefine.api.progress import Progress
from prefine.api.reading import column_map, prompt_lines
from prefine.api.rewards import RewardOptions
from prefine.api.run import Run
from prefine.api.run_options import RunOptions
from prefine.api.summaries import evaluation_lines
from prefine.api.training_setup import NOT_HERE, TrainingRun, TrainingSetup, model_lines, set_up, settings_line
from prefine.errors import ConfigError
from prefine.evaluation.judge import ByScore
from prefine.evaluation.questions import Question
from prefine.processes import is_first, meet
from prefine.runs import HELD_OUT_PROMPTS, write_jsonl

SHOWN = ("loss", "objective/scores", "objective/kl", "completions/length", "completions/ended")


@training_call("ppo", RunOptions, RewardOptions)
def ppo(given: Mapping[str, Any], progress: Progress) -> Run:
    """Align a model by reinforcement learning against reward models or functions: PPO, RLOO, GRPO, REINFORCE++.

    Args:
        model: a folder, a Hub id or a finished run.
        data: sources of prompts by name.
        output_dir: the run directory.
        options: every flag of ``prefine ppo``: the fields of :class:`prefine.PPOConfig`, and the adapter's, the reward's and the
            evaluation's options.

    Returns:
        The finished :class:`prefine.Run`.

    Raises:
        PrefineError: an option, a file, a row or a model that is wrong, before anything is trained.
    """
    return _sample_and_train("ppo", "reward_model", "PPOTrainer", given, progress)


@training_call("online-dpo", RunOptions, RewardOptions)
def online_dpo(given: Mapping[str, Any], progress: Progress) -> Run:
    """Align a model by DPO on its own samples, scored by reward models or functions as it learns.

    Args:
        model: a folder, a Hub id or a finished run.
        data: sources of prompts by name.
        output_dir: the run directory.
        options: every flag of ``prefine online-dpo``: the fields of :class:`prefine.OnlineDPOConfig`, and the adapter's, the reward's
            and the evaluation's options.

    Returns:
        The finished :class:`prefine.Run`.

    Raises:
        PrefineError: an option, a file, a row or a model that is wrong, before anything is trained.
    """
    return _sample_and_train("online-dpo", "reward_funcs", "OnlineDPOTrainer", given, progress)


@dataclass
class PromptData:
    """Prompts to sample from, and those held out.

    Attributes:
        num_cut: conversations of which the first turn alone is asked; heard: what reading them said.
        key: what all are known by; eval_key: what those of ``--eval-data`` are, None without.
    """

    learnt: list[Question]
    held_out: list[Question]
    num_cut: int
    heard: list[dict[str, Any]]
    key: str
    eval_key: str | None

    @property
    def count(self) -> int:
        """All of them."""
        return len(self.learnt) + len(self.held_out)


def read_prompts(setup: TrainingSetup) -> PromptData:
    """Read and split the prompts.

    Raises:
        ConfigError: nothing is left to learn from.
    """
    from prefine.evaluation.questions import read_questions
    from prefine.preferences.convert import Reading
    from prefine.preferences.draws import held_out_count, prompt_text_key, share

    own, seed = setup.options, setup.args.seed
    setup.progress.stage("reading prompts")
    reading = Reading(column_map(own.map), own.format)
    heard: list[dict[str, Any]] = []
    questions = {q.key: q for source in own.sources for q in read_questions(source, reading, heard=heard)}

    def drawn(found: dict[str, Question]) -> list[str]:
        return sorted(found, key=lambda k: share(prompt_text_key(found[k]), seed))

    if own.eval_data:
        given = {q.key: q for q in read_questions(own.eval_data, reading)}
        held = {k: given[k] for k in drawn(given)}
    else:
        held = {k: questions[k] for k in drawn(questions)[: held_out_count(len(questions), own.eval_fraction, 200)]}
    learnt = [q for k, q in questions.items() if k not in held]
    if not learnt:
        raise ConfigError("no prompt is left to learn from; lower --eval-fraction", code="PF-D04")
    num_cut = sum(bool(q.later_turns) for q in questions.values())
    return PromptData(learnt, list(held.values()), num_cut, heard, _key(questions), _key(held) if own.eval_data else None)


def _key(questions: Mapping[str, Question]) -> str:
    return hashlib.sha256("\n".join(sorted(questions)).encode()).hexdigest()[:24]


def _sample_and_train(command: str, reward_name: str, trainer_name: str, given: Mapping[str, Any], progress: Progress) -> Run:
    """Train on prompts, judge held-out ones by the reward that was trained on, say what is known."""
    setup = set_up(command, given, progress, extra=RewardOptions)
    from prefine.preferences.convert import canonical
    from prefine.preferences.records import Example
    from prefine.report.run_page import write_report
    from prefine.training.record import RecordRun

    own, args, extra = setup.options, setup.args, setup.extra
    for name in ("data_weights", "ignore_audit", "min_gap", "pairing"):
        if getattr(own, name) != getattr(type(own), name):
            raise ConfigError(
                f"--{name.replace('_', '-')} is of no use here: the data is prompts, and what is learned is sampled; leave it out"
            )
    rewards = extra.rewards()
    judge = extra.ready_judge(own.model, setup.output_dir)
    data = read_prompts(setup)
    extra.check_held_out(len(data.held_out))
    started = setup.start(data.key, lambda: prompt_lengths(command, data.learnt, args, setup.tokenizer), data.eval_key)
    rows = [Example(q.prompt, None, 0, q.tools, q.template_kwargs) for q in data.held_out]
    if is_first():
        write_jsonl(started.run.path / HELD_OUT_PROMPTS, [canonical(row) for row in rows])
    trainer = getattr(prefine, trainer_name)(
        model=started.model,
        args=args,
        train_dataset=[Example(q.prompt, None, 0, q.tools, q.template_kwargs) for q in data.learnt],
        processing_class=setup.tokenizer,
        **{reward_name: rewards},
        reward_weights=extra.reward_weights,
        callbacks=[RecordRun(started.run)],
        peft_config=started.peft_config,
    )
    dropped = trainer.encoder.report.dropped
    counts = {reason: {"count": len(places), "rows": places} for reason, places in dropped.items()}
    about = {"source": " + ".join(own.sources), "prompts": data.count, "held_out": len(data.held_out)}
    started.write_data(about | {"dropped": counts})
    progress.say(
        [
            f"prompts: {len(trainer.train_dataset)} learned from, {len(data.held_out)} held out; "
            f"dropped: {', '.join(f'{len(p)} {r}' for r, p in dropped.items()) or 'none'}"
            + (f"; of {data.num_cut} conversations the first turn alone" if data.num_cut else ""),
            *prompt_lines(data.heard, trainer.encoder.report.summary()["notes"]),
            *model_lines(trainer, setup.precision),
            f"{settings_line(args, own)}; {args.num_samples} samples a prompt; run directory: {started.run.path}",
        ]
    )
    started.train(trainer, SHOWN, lambda most: data.held_out[:most], judge)
    if not is_first():
        return started.followed()
    if extra.final_eval == "off":
        progress.say(f"no responses were looked at (--final-eval off): prefine eval {started.run.path} --judge ...")
    elif data.held_out:
        progress.say(["", *_conclusion(trainer, started, extra, judge, data.held_out)])
    else:
        progress.say("no prompts were held out, so nothing is known of what was learned; give --eval-data or --eval-fraction")
    progress.say(f"report: {write_report(started.run)}")
    meet()
    return Run(started.run.path)


def _conclusion(trainer: Any, started: TrainingRun, options: RewardOptions, judge: Any, held_out: list[Question]) -> list[str]:
    """What the run ends with. A model that was shared out is loaded whole by this process alone, where it fits."""
    from prefine.packing.out_of_memory import is_out_of_memory

    shared_out = trainer.together.sharded
    if shared_out:
        trainer.let_go()
    run, own_reward, progress = started.run, judge is None, started.setup.progress
    try:
        by = judge or _trained_on(trainer)
        return evaluation_lines(finish(trainer, run, options, by, held_out, [], started.seconds, progress, trained_on=own_reward))
    except Exception as error:
        if not shared_out or not (is_out_of_memory(error) or getattr(error, "code", "") == "PF-M07"):
            raise
        return [f"{NOT_HERE}: prefine eval {started.run.path} --judge ..."]


def _trained_on(trainer: Any) -> ByScore:
    """The reward that was trained on: the policy should score higher there; whether it is better, another judge must say."""
    from prefine.evaluation.reward_scorer import TrainedReward
    from prefine.scoring.reward_scorer import load_reward_model
    from prefine.scoring.roles import HeadRole, own_role

    rewards = trainer.rewards
    if trainer.together.sharded:  # an adapter's base is not whole here
        adapters = [r.folder if isinstance(r, HeadRole) else None for r in rewards]
        loaded = [folder and load_reward_model(folder, trust_remote_code=trainer.args.trusts_code) for folder in adapters]
        rewards = [own_role(m.eval().to(trainer.args.device)) if m else r for m, r in zip(loaded, rewards, strict=True)]
    penalty = trainer.args.missing_eos_penalty or 0.0
    return ByScore(TrainedReward(rewards, trainer.combine, trainer.encoder, trainer.budget, penalty))
