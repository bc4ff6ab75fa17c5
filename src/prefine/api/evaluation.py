"""Base against tuned: of a finished run, or of two models that anybody trained; responses, verdicts, degeneration, drift, skills."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefine.api.calls import call
from prefine.api.judges import (
    Gates,
    JudgeChoice,
    Stopping,
    build_judge,
    check_demands,
    check_ready,
    people_beside,
    qualification,
)
from prefine.api.progress import Progress
from prefine.api.prompts import questions_of
from prefine.api.quiet import quiet_transformers
from prefine.api.reading import column_map, shown_text
from prefine.api.results import EvaluationResult
from prefine.api.summaries import agreement_line, evaluation_lines, skill_lines, summary_details
from prefine.errors import ConfigError, DataError
from prefine.preferences.draws import prompt_text_key
from prefine.runs import HELD_OUT_PROMPTS, RunDirectory, model_of

if TYPE_CHECKING:
    from prefine.evaluation.evaluate import Evaluation
    from prefine.evaluation.judge import Judge
    from prefine.evaluation.model_pair import ModelPair
    from prefine.evaluation.questions import Question
    from prefine.packing.group import PromptGroup
    from prefine.preferences.convert import Reading
    from prefine.preferences.records import Pair


@dataclass
class EvalOptions:
    """Options of ``prefine eval`` beside the judge's."""

    run: str = field(default="", metadata={"help": "Run directory (also as the first word)."})
    name: str | None = field(default=None, metadata={"help": "Name of the evaluation. Unset: the judge's."})
    data: str | None = field(default=None, metadata={"help": "Other pairs to judge on. Unset: those the run held out."})
    map: list[str] | dict[str, str] | None = field(default=None, metadata={"help": "Columns by another name."})
    prompts: str | None = field(default=None, metadata={"help": "Prompts to respond to, in any format. Unset: those of the pairs."})
    max_prompts: int = field(default=200, metadata={"help": "Maximum prompts to respond to; which ones, their text decides."})
    max_new_tokens: int = field(default=256, metadata={"help": "Maximum tokens of a response."})
    temperature: float = field(default=0.0, metadata={"help": "0 for greedy."})
    seed: int = field(default=0, metadata={"help": "Seed of sampling."})
    batch_size: int = field(default=128, metadata={"help": "Maximum prompts at once."})
    verbose: bool = field(default=False, metadata={"help": "Print everything that the page shows."})
    samples: int = field(default=3, metadata={"help": "Responses of base and tuned to print side by side."})
    perplexity: list[str] | None = field(default=None, metadata={"help": "Text files whose perplexity is compared."})
    tasks: list[str] | None = field(
        default=None, metadata={"help": "lm-eval's tasks, or .yaml files of your own (needs prefine[lm-eval])."}
    )
    include_path: str | None = field(default=None, metadata={"help": "Folder with lm-eval tasks of your own."})
    task_limit: int | None = field(default=None, metadata={"help": "Maximum items a task."})
    chat_template_kwargs: str | None = field(
        default=None, metadata={"help": "What the chat template is given beside the messages: enable_thinking=false. Unset: as trained."}
    )
    dtype: str = field(default="auto", metadata={"help": "auto, float32, bfloat16 or float16."})


@call(EvalOptions, JudgeChoice, Stopping, Gates, positional=("run",))
def evaluate_run(given: EvalOptions, choice: JudgeChoice, stopping: Stopping, gates: Gates, progress: Progress) -> EvaluationResult:
    """Answer held-out prompts with a finished run's base and tuned model, have a judge compare the responses, measure the rest.

    Without a judge there is no verdict: reward accuracy, drift and degeneration are told. Writes RUN/eval/NAME, the report
    and the model card.

    Raises:
        PrefineError: no such run, options that contradict each other, a judge that cannot judge, nothing held out.
    """
    if not given.run:
        raise ConfigError("eval needs a RUN: the --output-dir of a training run")
    run = RunDirectory.open(given.run)
    thresholds = gates.thresholds()
    if choice.judge == "implicit" and choice.reward_run is None:
        choice.judge = None  # the run's own reward is what is reported without a judge
    until = stopping.stopping(choice, thresholds, given.seed)
    judge = _ready_judge(given, run, choice, gates)
    people = people_beside(choice)
    progress.stage("loading the models")
    quiet_transformers()
    from prefine.evaluation.evaluate import Extras, evaluate
    from prefine.evaluation.model_pair import ModelPair
    from prefine.generation.engine import Sampling
    from prefine.report.run_page import write_report

    sampling = Sampling(given.max_new_tokens, given.temperature)
    models = ModelPair.load(run, given.dtype, given.chat_template_kwargs)
    chosen = _fitting(_held_out(given, run, models.tokenizer, progress), models, progress)
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
        run.beta(),
        people=people,
    )
    name = given.name or re.sub(r"[^\w.-]+", "-", judge.name if judge else "held-out").strip("-")[:60]
    hint = "" if judge else f"prefine eval {run.path} --judge ..."
    progress.stage("evaluating")
    found = evaluate(
        models,
        questions,
        judge,
        run.evaluation(name),
        sampling,
        given.seed,
        extras,
        thresholds,
        progress.advance,
        given.batch_size,
        hint=hint,
        until=until,
        qualified=qualification(judge, choice),
    )
    looks = run.add_look(name, found.summary)
    lines = _lines(given, found)
    if looks > 1 and judge is not None:
        chance = min(100, 5 * looks)
        lines.append(f"  look {looks} at this run: the chance that one of {looks} looks is wrong is up to {chance} %, not 5 %")
    return _result(found, lines, run.evaluation(name), write_report(run), given.samples, gates)


def _result(found: Evaluation, lines: list[str], folder: Path, report: Path | None, samples: int, gates: Gates) -> EvaluationResult:
    shown = [(shown_text(c.prompt), shown_text(c.base[-1]), shown_text(c.tuned[-1])) for c in found.comparisons[:samples]]
    return EvaluationResult(found.summary, lines, folder, report, not gates.exit_code({found.found.outcome}), shown)


def _ready_judge(given: EvalOptions, run: RunDirectory, choice: JudgeChoice, gates: Gates) -> Judge | None:
    """The judge, found wanting before a model is loaded; None where there is to be none.

    Raises:
        ConfigError: the run has nothing to judge, or options contradict each other.
    """
    check_demands(choice, gates)
    if run.command() == "reward":
        raise ConfigError(
            f"{given.run} trained a reward model, which gives no responses; its held-out accuracy was measured when it was trained"
        )
    if "model" not in run.config():
        raise ConfigError(f"{given.run} is not a run of prefine dpo; its config.yaml names no model")
    judge = build_judge(choice, (str(run.config()["model"]), str(run.path)))
    if judge is not None:
        check_ready(judge)
    return judge


@dataclass
class CompareModelsOptions:
    """Options of :func:`evaluate`."""

    base: Any = field(default=None, metadata={"help": "The model that is compared with: a folder, a Hub id, a run, or one in memory."})
    tuned: Any = field(default=None, metadata={"help": "The model that was trained, whoever trained it; the same kinds."})
    prompts: Any = field(default=None, metadata={"help": "A source of prompts by name, or a list of texts or of lists of messages."})
    tokenizer: Any = field(default=None, metadata={"help": "Of both. Unset: of tuned, by its name."})
    output_dir: str | None = field(default=None, metadata={"help": "Folder for responses, verdicts and report. Unset: nothing is kept."})
    max_new_tokens: int = field(default=256, metadata={"help": "Maximum tokens of a response."})
    temperature: float = field(default=0.0, metadata={"help": "0 for greedy."})
    seed: int = field(default=0, metadata={"help": "Seed of sampling."})
    batch_size: int = field(default=128, metadata={"help": "Maximum prompts at once."})
    samples: int = field(default=3, metadata={"help": "Responses of base and tuned to show side by side."})


@call(CompareModelsOptions, JudgeChoice, Stopping, Gates, positional=("base", "tuned", "prompts"))
def evaluate(given: CompareModelsOptions, choice: JudgeChoice, stopping: Stopping, gates: Gates, progress: Progress) -> EvaluationResult:
    """Have two models answer prompts and a judge compare the responses.

    Raises:
        PrefineError: something is missing, or a judge that cannot judge.
        TypeError: a model in memory whose tokenizer is not known.
    """
    import tempfile

    if given.base is None or given.tuned is None or given.prompts is None:
        raise ConfigError("evaluate needs base, tuned and prompts")
    check_demands(choice, gates)
    thresholds = gates.thresholds()
    until = stopping.stopping(choice, thresholds, given.seed)
    names = (model_name(given.base, "base"), model_name(given.tuned, "tuned"))
    judge = build_judge(choice, names)
    if judge is not None:
        check_ready(judge)
    questions = questions_of(given.prompts)
    progress.stage("loading the models")
    quiet_transformers()
    from prefine.evaluation.evaluate import Extras
    from prefine.evaluation.evaluate import evaluate as measure
    from prefine.generation.engine import Sampling
    from prefine.report.run_page import write_judged

    sampling = Sampling(given.max_new_tokens, given.temperature)
    people = people_beside(choice)
    with tempfile.TemporaryDirectory() as temporary, as_they_were(given.base, given.tuned):
        folder = Path(given.output_dir or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        models = model_pair(given.base, given.tuned, given.tokenizer, names)
        known, advance = qualification(judge, choice), progress.advance
        found = measure(
            models,
            questions,
            judge,
            folder,
            sampling,
            given.seed,
            Extras(people=people),
            thresholds,
            advance,
            given.batch_size,
            until=until,
            qualified=known,
        )
        report = write_judged(folder) if given.output_dir else None
    lines = evaluation_lines(found)
    if found.summary.get("agreement"):
        lines.append(agreement_line(found.summary["agreement"]))
    result = _result(found, lines, folder, report, given.samples, gates)
    result.folder = folder if given.output_dir else None
    return result


@contextmanager
def as_they_were(*models: Any) -> Iterator[None]:
    """Within the block models may be frozen and put into evaluation; behind it those in memory are as they were."""
    held = [m for m in models if hasattr(m, "parameters")]
    before = [(m, m.training, [(p, p.requires_grad) for p in m.parameters()]) for m in held]
    try:
        yield
    finally:
        for model, training, flags in before:
            model.train(training)
            for parameter, flag in flags:
                parameter.requires_grad_(flag)


def model_name(model: Any, otherwise: str) -> str:
    """What to call a model."""
    return str(model) if isinstance(model, str | os.PathLike) else otherwise


def model_pair(base: Any, tuned: Any, tokenizer: Any, names: tuple[str, str]) -> ModelPair:
    """Two models by name or in memory; a PEFT model and the base in it are one set of weights.

    Raises:
        TypeError: the tokenizer of a model in memory is not known.
    """
    import torch

    from prefine.evaluation.model_pair import ModelPair
    from prefine.scoring.loading import load_model, load_tokenizer
    from prefine.scoring.proof import prove_layout
    from prefine.scoring.reference import Reference
    from prefine.scoring.scorer import Scorer

    named = [m if isinstance(m, str | os.PathLike) else getattr(m, "name_or_path", "") for m in (tuned, base)]
    where = next((model_of(str(m)) for m in named if m), None)
    if tokenizer is None and where is None:
        raise TypeError("models in memory need their tokenizer: give tokenizer=...")
    if tokenizer is None:
        assert where is not None
        tokenizer = load_tokenizer(where)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loaded = [load_model(model_of(str(m))).to(device) if isinstance(m, str | os.PathLike) else m for m in (base, tuned)]
    before, after = loaded
    if hasattr(after, "peft_config") and (before is after or before is after.get_base_model()):
        policy = Scorer(after, prove_layout(after).layout)
        return ModelPair(tokenizer, policy, Reference.adapter_off(policy), names)
    return ModelPair.of(tokenizer, before, after, names)


def _held_out(given: EvalOptions, run: RunDirectory, tokenizer: Any, progress: Progress) -> list[tuple[Any, PromptGroup]]:
    """The pairs, or labelled responses, that are judged on, with their encodings; none where there are none to be had."""
    from prefine.packing.encoding import Encoder
    from prefine.packing.store import prompt_key

    config = run.config()
    if not given.data and (run.path / HELD_OUT_PROMPTS).exists():
        return []  # it was trained on prompts: what it held out are no pairs
    other = given.data or config.get("eval_data")
    held = set() if other else set(run.data().get("held_out_prompts", []))
    if not other and not held:
        return []
    reading = _reading(config if not given.data else config | {"format": None}, given.map)
    kind, encode = _kind(run)
    pairs = kind(other or config["data"], reading, None if other else config.get("data_weights"))
    limits = (config.get("max_length", 1024), config.get("max_prompt_length"), config.get("truncation_mode", "keep_start"))
    encoder = Encoder(tokenizer, *limits, mask_reasoning=bool(config.get("mask_reasoning")))
    chosen = [(p, g) for p in pairs if (g := encode(encoder, p)) is not None and (not held or f"{prompt_key(g):016x}" in held)]
    if other and config.get("data"):
        seen = _trained_on(run, encoder)
        unseen = [(p, g) for p, g in chosen if prompt_key(g) not in seen]
        if len(unseen) < len(chosen):
            progress.say(f"{len(chosen) - len(unseen)} of {len(chosen)} rows have prompts that the run was trained on, and are left out")
        chosen = unseen
        if not chosen:
            raise DataError(f"{other}: the run was trained on all of these prompts; give others")
    if not chosen:
        raise DataError("none of what the run held out is in its data any more; give some with --data", code="PF-D04")
    return chosen


def _kind(run: RunDirectory) -> tuple[Any, Any]:
    """What a run reads its data by, and how a record of it is encoded."""
    from prefine.packing.encoding import Encoder
    from prefine.preferences.convert import PairSource
    from prefine.preferences.labels import LabelledSource

    return (LabelledSource, Encoder.encode_labelled) if run.command() == "kto" else (PairSource, Encoder.encode_pair)


def _fitting(chosen: list[tuple[Any, PromptGroup]], models: ModelPair, progress: Progress) -> list[tuple[Any, PromptGroup]]:
    """The pairs that the model can take."""
    from prefine.scoring.limits import Limits, whole_ids

    limits = Limits.of(models.policy.unwrapped)
    reasons = [next((r for i in range(len(group.completion_ids)) if (r := limits.misfit(whole_ids(group, i)))), "") for _, group in chosen]
    told = [r for r in reasons if r]
    if told:
        progress.say(f"{len(told)} of {len(chosen)} rows are left out ({told[0]})")
    if chosen and len(told) == len(chosen):
        raise DataError(f"the model can take none of the rows ({told[0]}); give others with --data", code="PF-D04")
    return [c for c, r in zip(chosen, reasons, strict=True) if not r]


def _reading(config: dict[str, Any], columns: list[str] | dict[str, str] | None = None) -> Reading:
    """How a run read its pairs."""
    from prefine.preferences.convert import Reading

    how = (config.get("pairing", "best-vs-worst"), config.get("min_gap", 0.0), config.get("seed", 42))
    return Reading(column_map(columns or config.get("map")), config.get("format"), *how)


def _trained_on(run: RunDirectory, encoder: Any) -> set[int]:
    """Keys of the prompts that a run was trained on."""
    from prefine.packing.store import prompt_key

    config = run.config()
    reading = _reading(config)
    held = set(run.data().get("held_out_prompts", []))
    kind, encode = _kind(run)
    groups = (encode(encoder, p) for p in kind(config["data"], reading, config.get("data_weights")))
    keys = {prompt_key(g) for g in groups if g is not None}
    return {k for k in keys if f"{k:016x}" not in held}


def _questions(given: EvalOptions, pairs: Sequence[Pair]) -> list[Question]:
    from prefine.evaluation.questions import Question, read_questions
    from prefine.preferences.draws import share

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


def _lines(given: EvalOptions, found: Evaluation) -> list[str]:
    s = found.summary
    lines = [*evaluation_lines(found, given.verbose), *skill_lines(s), *(summary_details(s) if given.verbose else [])]
    if s.get("agreement"):
        lines.append(agreement_line(s["agreement"]))
    return [*lines, *(f"  unanswered: {reason}" for reason in list(dict.fromkeys(s["failed_answers"]))[:3])]


def trained_pair(trainer: Any, run: RunDirectory) -> ModelPair:
    """Base and tuned right after training, the base loaded again where training let it go, moved it, or never needed it; both, where their
    weights are shared out over processes.
    """
    from prefine.evaluation.model_pair import ModelPair
    from prefine.scoring.loading import load_model
    from prefine.scoring.reference import Reference

    if trainer.together.sharded:
        return ModelPair.load(run)
    base, reference = str(run.config()["model"]), trainer.reference
    moved = getattr(trainer.args, "sync_ref_model", False)
    if reference is None or moved or next(reference.scorer.unwrapped.parameters()).is_meta:
        args = trainer.args
        model = load_model(base, trust_remote_code=args.trust_remote_code, **args.init_kwargs())
        reference = Reference(trainer.scorer, model.to(args.device))
        # Scored as the policy is: at the temperature that it was sampled with, in its precision.
        reference.scorer.scaling, reference.scorer.autocast = trainer.scorer.scaling, trainer.scorer.autocast
    return ModelPair(trainer.processing_class, trainer.scorer, reference, (base, str(run.path)))
