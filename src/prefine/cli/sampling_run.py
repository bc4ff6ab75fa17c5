"""What ``prefine ppo`` and ``prefine online-dpo`` share: prompts, rewards, the run, its verdict by the reward it was trained on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from prefine.cli.data.reading import column_map, prompt_lines
from prefine.cli.final_eval import FinalOptions, finish
from prefine.cli.judge_lines import evaluation_lines
from prefine.cli.judging import JudgeChoice, build_judge, check_ready, load_function
from prefine.cli.options import options_of, read_yaml
from prefine.errors import ConfigError
from prefine.evaluation.judge import ByScore
from prefine.runs import HELD_OUT_PROMPTS, models_of, write_jsonl

SHOWN = ("loss", "objective/scores", "objective/kl", "completions/length", "completions/ended")


@dataclass
class RewardOptions(FinalOptions):
    """What scores the samples, and what is looked at in the end."""

    reward_model: list[str] | None = field(
        default=None, metadata={"help": "Folders or Hub ids of one-label classifiers, as prefine reward saves."}
    )
    reward_function: str | None = field(
        default=None,
        metadata={"help": "file.py:name (or module:name) of (prompts, answers) -> scores; None or NaN is a counted failure."},
    )
    reward_judge: str | None = field(
        default=None, metadata={"help": "YAML file with the options of a judge that scores single answers, as prefine judge takes them."}
    )
    reward_weights: list[float] | None = field(default=None, metadata={"help": "A weight for each reward, models first."})

    def rewards(self) -> list[Any]:
        """All of them, models first.

        Raises:
            ConfigError: none is given.
        """
        found: list[Any] = [folder for name in self.reward_model or [] for folder in models_of(name)]
        if self.reward_function:
            found.append(load_function(self.reward_function))
        if self.reward_judge:
            from prefine.evaluation.reward_scorer import Ensemble

            choice = JudgeChoice(**read_yaml(self.reward_judge, options_of(JudgeChoice, "judge")))
            judge = build_judge(choice, ("policy", "policy"))
            if not isinstance(judge, ByScore) or choice.judge == "exact":
                raise ConfigError(f"{self.reward_judge}: a reward needs a judge that scores: reward-model, python, openai with mode single")
            if isinstance(judge.scorer, Ensemble):
                raise ConfigError(
                    f"{self.reward_judge}: the trainer puts several reward models together: --reward-model A B --reward-aggregate mean"
                )
            check_ready(judge)
            found.append(judge)
        if not found:
            raise ConfigError(
                "no reward: give --reward-model FOLDER (prefine reward makes one), --reward-function file.py:name or --reward-judge FILE"
            )
        return found


def run_sampling(command: str, about: str, config: Any, trainer_type: Any, argv: list[str]) -> int:
    """Train on prompts, judge held-out ones by the reward that was trained on, print."""
    from prefine.cli.training_run import announce, parameters_line, plan, retention_lines, settings_line, show_progress, train, warnings_of
    from prefine.evaluation.questions import read_questions
    from prefine.preferences.convert import Reading, canonical
    from prefine.preferences.draws import held_out_count, prompt_text_key, share
    from prefine.preferences.records import Example
    from prefine.report.run_page import write_report
    from prefine.training.record import RecordRun

    planned = plan(command, about, config, argv, extra=RewardOptions, group="reward")
    if planned is None:
        return 0
    own, args, extra = planned.options, planned.args, planned.extra
    for name in ("data_weights", "ignore_audit", "min_gap", "pairing"):
        if getattr(own, name) != getattr(type(own), name):
            raise ConfigError(
                f"--{name.replace('_', '-')} is of no use here: the data is prompts, and what is learnt is sampled; leave it out"
            )
    rewards = extra.rewards()
    judge = extra.ready_judge(own.model, planned.output_dir)
    reading = Reading(column_map(own.map), own.format)
    heard: list[dict[str, Any]] = []
    questions = {q.key: q for source in own.sources for q in read_questions(source, reading, heard=heard)}
    many = sum(bool(q.later_turns) for q in questions.values())
    if own.eval_data:
        given = {q.key: q for q in read_questions(own.eval_data, reading)}
        held = {k: given[k] for k in sorted(given, key=lambda k: share(prompt_text_key(given[k]), args.seed))}
    else:
        ranked = sorted(questions, key=lambda k: share(prompt_text_key(questions[k]), args.seed))
        held = {k: questions[k] for k in ranked[: held_out_count(len(questions), own.eval_fraction, 200)]}
    extra.check_held_out(len(held))
    learnt = [q for k, q in questions.items() if k not in held]
    if not learnt:
        raise ConfigError("no prompt is left to learn from; lower --eval-fraction")
    key = hashlib.sha256("\n".join(sorted(questions)).encode()).hexdigest()[:24]
    started = planned.start(key)
    rows = [canonical(Example(q.prompt, None, 0, q.tools, q.template_kwargs)) for q in held.values()]
    write_jsonl(started.run.path / HELD_OUT_PROMPTS, rows)
    reward_name = "reward_model" if command == "ppo" else "reward_funcs"
    trainer = trainer_type(
        model=started.model,
        args=args,
        train_dataset=[Example(q.prompt, None, 0, q.tools, q.template_kwargs) for q in learnt],
        processing_class=started.tokenizer,
        **{reward_name: rewards},
        reward_weights=extra.reward_weights,
        callbacks=[RecordRun(started.run)],
        peft_config=started.peft_config,
    )
    dropped = trainer.encoder.report.dropped
    counts = {reason: {"count": len(places), "rows": places} for reason, places in dropped.items()}
    started.run.write_data(
        {"source": " + ".join(own.sources), "prompts": len(questions), "held_out": len(held), "dropped": counts, "key": key}
    )
    announce(
        [
            f"prompts: {len(trainer.train_dataset)} learnt from, {len(held)} held out; "
            f"dropped: {', '.join(f'{len(p)} {r}' for r, p in dropped.items()) or 'none'}"
            + (f"; of {many} conversations the first turn alone" if many else ""),
            *prompt_lines(heard, trainer.encoder.report.summary()["notes"]),
            *retention_lines(trainer),
            trainer.proof.sentence(),
            parameters_line(trainer.model, started.precision),
            f"{settings_line(args, own)}; {args.num_samples} samples a prompt; run directory: {started.run.path}",
            *warnings_of(command, args, trainer.model),
        ]
    )
    show_progress(trainer, SHOWN)
    seconds = train(trainer, started)
    if held:
        found = finish(
            trainer, started.run, extra, judge or _trained_on(trainer), list(held.values()), [], seconds, trained_on=judge is None
        )
        announce(["", *evaluation_lines(found)])
    else:
        announce(["no prompts were held out, so nothing is known of what was learned; give --eval-data or --eval-fraction"])
    announce([f"report: {write_report(started.run)}"])
    return 0


def _trained_on(trainer: Any) -> ByScore:
    """The reward that was trained on: the policy should score higher there; whether it is better, another judge must say."""
    from prefine.evaluation.reward_scorer import TrainedReward

    penalty = trainer.args.missing_eos_penalty or 0.0
    return ByScore(TrainedReward(trainer.rewards, trainer.combine, trainer.encoder, trainer.budget, penalty))
