"""``prefine eval RUN``: a finished run, base against tuned: answers, verdicts, degeneration, drift, skills; then the report."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefine.cli.judge_lines import evaluation_lines, skill_lines, summary_details
from prefine.cli.judging import Gates, JudgeChoice, Stopping, build_judge, check_ready, pick, qualification, stages
from prefine.cli.options import help_text, options_of, parse
from prefine.errors import ConfigError, DataError, printable
from prefine.evaluation.verdict_files import read_verdicts
from prefine.runs import HELD_OUT_PROMPTS, RunDirectory

if TYPE_CHECKING:
    from prefine.evaluation.evaluate import Evaluation
    from prefine.evaluation.questions import Question
    from prefine.evaluation.sides import Sides
    from prefine.packing.group import PromptGroup
    from prefine.preferences.convert import Reading
    from prefine.preferences.records import Pair

ABOUT = (
    "Answers held-out prompts with base and tuned, has --judge compare them "
    "(without one there is no verdict: reward accuracy, drift and degeneration are told), "
    "looks for degeneration, drift and lost skills, and writes RUN/eval/NAME, the report and the model card."
)


@dataclass
class EvalOptions:
    """Options of ``prefine eval`` beside the judge's."""

    run: str = field(default="", metadata={"help": "Run directory (also as the first word)."})
    name: str | None = field(default=None, metadata={"help": "Name of the evaluation. Unset: the judge's."})
    data: str | None = field(default=None, metadata={"help": "Other pairs to judge on. Unset: those the run held out."})
    map: list[str] | None = field(default=None, metadata={"help": "Columns by another name."})
    prompts: str | None = field(default=None, metadata={"help": "Prompts to answer, in any form. Unset: those of the pairs."})
    max_prompts: int = field(default=200, metadata={"help": "Most prompts to answer; which ones, their text decides."})
    max_new_tokens: int = field(default=256, metadata={"help": "Most tokens of an answer."})
    temperature: float = field(default=0.0, metadata={"help": "0 for greedy."})
    seed: int = field(default=0, metadata={"help": "Seed of sampling."})
    batch_size: int = field(default=32, metadata={"help": "Most prompts at once."})
    verbose: bool = field(default=False, metadata={"help": "Print everything that the page shows."})
    samples: int = field(default=3, metadata={"help": "Answers of base and tuned to print side by side."})
    perplexity: list[str] | None = field(default=None, metadata={"help": "Text files whose perplexity is compared."})
    tasks: list[str] | None = field(
        default=None, metadata={"help": "lm-eval's tasks, or .yaml files of your own (needs prefine[lm-eval])."}
    )
    include_path: str | None = field(default=None, metadata={"help": "Folder with lm-eval tasks of your own."})
    task_limit: int | None = field(default=None, metadata={"help": "Most items a task."})
    chat_template_kwargs: str | None = field(
        default=None, metadata={"help": "What the chat template is given beside the messages: enable_thinking=false. Unset: as trained."}
    )
    dtype: str = field(default="auto", metadata={"help": "auto, float32, bfloat16 or float16."})


def main(argv: list[str]) -> int:
    """Evaluate, print the verdict, draw the report; exit as ``--require`` says."""
    options = options_of(EvalOptions, "options") | options_of(JudgeChoice, "judge") | options_of(Stopping, "judge")
    options |= options_of(Gates, "verdict")
    if not argv or "--help" in argv or "-h" in argv:
        print(help_text("eval RUN", ABOUT, options))
        return 0
    words = parse(argv, options, ("run",))
    given, choice, gates = pick(EvalOptions, words), pick(JudgeChoice, words), pick(Gates, words)
    if not given.run:
        raise ConfigError("eval needs a RUN: the --output-dir of a training run")
    run = RunDirectory.open(given.run)
    thresholds = gates.thresholds()
    if choice.judge == "implicit" and choice.reward_run is None:
        choice.judge = None  # the run's own reward is what is reported without a judge
    until = pick(Stopping, words).stopping(choice, thresholds, given.seed)
    if gates.require == "better" and choice.judge is None:
        raise ConfigError("--require better needs a --judge: without one nothing can be shown to be better")
    if run.command() == "reward":
        raise ConfigError(
            f"{given.run} trained a reward model, which gives no responses; its held-out accuracy was measured when it was trained"
        )
    if "model" not in run.config():
        raise ConfigError(f"{given.run} is not a run of prefine dpo; its config.yaml names no model")
    if choice.human and choice.judge is None:
        raise ConfigError("--human holds a judge against people: give --judge too (or --judge human)")
    judge = build_judge(choice, (str(run.config()["model"]), str(run.path)))
    if judge is not None:
        check_ready(judge)
    people = read_verdicts(choice.human) if choice.human and choice.judge != "human" else None
    from prefine.evaluation.evaluate import Extras, evaluate
    from prefine.evaluation.sides import Sides
    from prefine.generation.engine import Sampling
    from prefine.report.run_page import write_report

    sampling = Sampling(given.max_new_tokens, given.temperature)
    sides = Sides.load(run, given.dtype, given.chat_template_kwargs)
    chosen = _fitting(_held_out(given, run, sides.tokenizer), sides)
    if not given.prompts and not chosen and (run.path / HELD_OUT_PROMPTS).exists():
        given.prompts = str(run.path / HELD_OUT_PROMPTS)
    if not given.prompts and not chosen:
        raise DataError(f"{given.run} held out nothing; give pairs with --data, or --prompts")
    questions = _questions(given, [p for p, _ in chosen])
    extras = Extras(
        [g for _, g in chosen],
        given.perplexity or (),
        given.tasks or (),
        given.include_path,
        given.task_limit,
        float(run.config().get("beta") or 0.1),
        people=people,
    )
    name = given.name or re.sub(r"[^\w.-]+", "-", judge.name if judge else "held-out").strip("-")[:60]
    hint = "" if judge else f"prefine eval {run.path} --judge ..."
    with stages() as advance:
        folder = run.evaluation(name)
        found = evaluate(
            sides,
            questions,
            judge,
            folder,
            sampling,
            given.seed,
            extras,
            thresholds,
            advance,
            given.batch_size,
            hint=hint,
            until=until,
            qualified=qualification(judge, choice),
        )
    looks = run.add_look(name, found.summary)
    _print(given, found)
    if looks > 1 and judge is not None:
        print(f"  look {looks} at this run: the chance that one of {looks} looks is wrong is up to {min(100, 5 * looks)} %, not 5 %")
    print(f"report: {write_report(run)}")
    return gates.exit_code({found.found.outcome})


def _held_out(given: EvalOptions, run: RunDirectory, tokenizer: Any) -> list[tuple[Pair, PromptGroup]]:
    """The pairs that are judged on, with their encodings; none where there are none to be had."""
    from prefine.packing.encoding import Encoder
    from prefine.packing.store import prompt_key
    from prefine.preferences.convert import PairSource

    config = run.config()
    if not given.data and (run.path / HELD_OUT_PROMPTS).exists():
        return []  # it was trained on prompts: what it held out are no pairs
    other = given.data or config.get("eval_data")
    held = set() if other else set(run.data().get("held_out_prompts", []))
    if not other and not held:
        return []
    reading = _reading(config if not given.data else config | {"format": None}, given.map)
    pairs = PairSource(other or config["data"], reading, None if other else config.get("data_weights"))
    limits = (config.get("max_length", 1024), config.get("max_prompt_length"), config.get("truncation_mode", "keep_start"))
    encoder = Encoder(tokenizer, *limits)
    chosen = [(p, g) for p in pairs if (g := encoder.encode_pair(p)) is not None and (not held or f"{prompt_key(g):016x}" in held)]
    if other and config.get("data"):
        seen = _trained_on(run, encoder)
        unseen = [(p, g) for p, g in chosen if prompt_key(g) not in seen]
        if len(unseen) < len(chosen):
            print(f"{len(chosen) - len(unseen)} of {len(chosen)} pairs have prompts that the run was trained on, and are left out")
        chosen = unseen
        if not chosen:
            raise DataError(f"{other}: the run was trained on all of these prompts; give others")
    if not chosen:
        raise DataError("none of the pairs that the run held out is in its data any more; give some with --data")
    return chosen


def _fitting(chosen: list[tuple[Pair, PromptGroup]], sides: Sides) -> list[tuple[Pair, PromptGroup]]:
    """The pairs that the model can take."""
    from prefine.scoring.limits import Limits, whole_ids

    limits = Limits.of(sides.policy.unwrapped)
    reasons = [next((r for i in range(2) if (r := limits.misfit(whole_ids(group, i)))), "") for _, group in chosen]
    told = [r for r in reasons if r]
    if told:
        print(f"{len(told)} of {len(chosen)} pairs are left out ({told[0]})")
    if chosen and len(told) == len(chosen):
        raise DataError(f"the model can take none of the pairs ({told[0]}); give others with --data")
    return [c for c, r in zip(chosen, reasons, strict=True) if not r]


def _reading(config: dict[str, Any], columns: list[str] | None = None) -> Reading:
    """How a run read its pairs."""
    from prefine.cli.data.reading import column_map
    from prefine.preferences.convert import Reading

    how = (config.get("pairing", "best-vs-worst"), config.get("min_gap", 0.0), config.get("seed", 42))
    return Reading(column_map(columns or config.get("map")), config.get("format"), *how)


def _trained_on(run: RunDirectory, encoder: Any) -> set[int]:
    """Keys of the prompts that a run was trained on."""
    from prefine.packing.store import prompt_key
    from prefine.preferences.convert import PairSource

    config = run.config()
    reading = _reading(config)
    held = set(run.data().get("held_out_prompts", []))
    groups = (encoder.encode_pair(p) for p in PairSource(config["data"], reading, config.get("data_weights")))
    keys = {prompt_key(g) for g in groups if g is not None}
    return {k for k in keys if f"{k:016x}" not in held}


def _questions(given: EvalOptions, pairs: Sequence[Pair]) -> list[Question]:
    from prefine.evaluation.questions import Question, read_questions
    from prefine.preferences.draws import prompt_text_key, share

    if given.prompts:
        found = read_questions(given.prompts)
    else:
        keys = {f"{prompt_text_key(p):016x}": p for p in pairs}
        found = [Question(key, p.prompt, cluster=key, tools=p.tools, template_kwargs=p.template_kwargs) for key, p in keys.items()]
    if len(found) <= given.max_prompts:
        return found
    drawn = sorted(found, key=lambda q: share(prompt_text_key(q), given.seed))
    kept = {q.key for q in drawn[: given.max_prompts]}
    return [q for q in found if q.key in kept]


def _print(given: EvalOptions, found: Evaluation) -> None:
    from prefine.cli.data.reading import shown_text
    from prefine.cli.judge import print_agreement

    for c in found.comparisons[: given.samples]:
        print(f"---\nprompt: {shown_text(c.prompt)}\nbase:   {shown_text(c.base[-1])}\ntuned:  {shown_text(c.tuned[-1])}\n")
    s = found.summary
    lines = [*evaluation_lines(found, given.verbose), *skill_lines(s), *(summary_details(s) if given.verbose else [])]
    print(printable("\n".join(lines)))
    if s.get("agreement"):
        print_agreement(s["agreement"])
    for reason in list(dict.fromkeys(s["failed_answers"]))[:3]:
        print(printable(f"  unanswered: {reason}"))


def trained_sides(trainer: Any, run: RunDirectory) -> Sides:
    """Base and tuned right after training, the base loaded again where training let it go, moved it, or never needed it."""
    from prefine.evaluation.sides import Sides
    from prefine.scoring.loading import load_model
    from prefine.scoring.reference import Reference

    base, reference = str(run.config()["model"]), trainer.reference
    moved = getattr(trainer.args, "sync_ref_model", False)
    if reference is None or moved or next(reference.scorer.unwrapped.parameters()).is_meta:
        args = trainer.args
        model = load_model(base, trust_remote_code=args.trust_remote_code, **args.init_kwargs())
        reference = Reference(trainer.scorer, model.to(args.device))
        # Scored as the policy is: at the temperature that it was sampled with, in its precision.
        reference.scorer.scaling, reference.scorer.autocast = trainer.scorer.scaling, trainer.scorer.autocast
    return Sides(trainer.processing_class, trainer.scorer, reference, (base, str(run.path)))
