"""A model's own responses, scored by a judge, as preference pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefine.api.calls import call
from prefine.api.generating import ENGINES, GenerateOptions, check_asked
from prefine.api.judges import JudgeChoice, build_judge, check_ready
from prefine.api.options import pick
from prefine.api.progress import Progress
from prefine.api.prompts import questions_of
from prefine.api.quiet import quiet_transformers
from prefine.api.reading import column_map, prompt_lines
from prefine.api.tables import Shows
from prefine.errors import ConfigError, nearest, printable
from prefine.evaluation.judge import ByScore
from prefine.preferences.convert import Reading, canonical
from prefine.preferences.ranking import POLICIES, to_pairs
from prefine.preferences.records import Pair, Ranked
from prefine.preferences.writing import RowWriter
from prefine.runs import model_of

if TYPE_CHECKING:
    from prefine.evaluation.answers import Answered
    from prefine.evaluation.questions import Question


@dataclass
class PairsOptions:
    """Options of ``prefine pairs`` beside those of ``generate`` and the judge."""

    model: str = field(default="", metadata={"help": "Folder, Hub id or finished run whose responses are taken."})
    prompts: str = field(default="", metadata={"help": "File, folder, Hub id or database with prompts.", "objects": True})
    output: str = field(default="pairs.jsonl", metadata={"help": "File for the pairs (.jsonl, .jsonl.gz or .parquet)."})
    num_samples: int = field(default=4, metadata={"help": "Responses to each prompt."})
    pairing: str = field(default="best-vs-worst", metadata={"help": "best-vs-worst, best-vs-random, adjacent or all."})
    min_gap: float = field(default=0.0, metadata={"help": "Minimum difference of scores in a pair."})
    min_reward: float | None = field(default=None, metadata={"help": "Minimum score of a pair's chosen response."})
    max_new_tokens: int = field(default=512, metadata={"help": "Maximum tokens of a response."})
    temperature: float = field(default=1.0, metadata={"help": "Of sampling; above 0."})
    top_p: float = field(default=1.0, metadata={"help": "Nucleus: the share of probability that is drawn from."})
    seed: int = field(default=0, metadata={"help": "Seed of sampling."})
    batch_size: int = field(default=128, metadata={"help": "Maximum responses at once."})
    limit: int | None = field(default=None, metadata={"help": "Only the first prompts."})
    keep_cut: bool = field(
        default=False, metadata={"help": "Pair responses that --max-new-tokens cut, too: training takes them as ending there."}
    )
    engine: str = field(default="transformers", metadata={"help": "transformers, or vllm where it is installed."})
    map: list[str] | dict[str, str] | None = field(default=None, metadata={"help": "Columns by another name: --map prompt=question."})
    format: str | None = field(default=None, metadata={"help": "The data's format. Unset: found from its rows."})
    chat_template_kwargs: str | None = field(
        default=None, metadata={"help": "What the chat template is given beside the messages: enable_thinking=false. Unset: as trained."}
    )
    dtype: str = field(default="auto", metadata={"help": "auto, float32, bfloat16 or float16."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the model."})


@dataclass(repr=False)
class MadePairs(Shows):
    """What :func:`make_pairs` wrote: the file, how many pairs it holds, and what there is to say."""

    file: Path
    count: int
    lines: Sequence[str]

    def parts(self) -> list[Any]:
        """What there is to see."""
        return [*self.lines]


@call(PairsOptions, JudgeChoice, positional=("model", "prompts", "output"))
def make_pairs(given: PairsOptions, choice: JudgeChoice, progress: Progress) -> MadePairs:
    """Sample several responses to each prompt, have a judge score them, write preference pairs with their scores.

    Raises:
        PrefineError: options, prompts, a model or a judge that cannot be used.
    """
    _check(given)
    writer = RowWriter(given.output)
    judge = build_judge(choice, (given.model, given.model))
    if not isinstance(judge, ByScore):
        raise ConfigError("pairs need a judge that scores: --judge reward-model, python, exact, or openai with --mode single")
    check_ready(judge)
    from prefine.evaluation.answers import answer_questions, without_reasoning
    from prefine.generation.engine import Sampling

    heard: list[dict[str, Any]] = []
    questions = questions_of(given.prompts, Reading(column_map(given.map), given.format), heard=heard)[: given.limit]
    questions = [replace(q, later_turns=()) for q in questions]
    given.model = model_of(given.model)
    progress.stage("loading the model")
    quiet_transformers()
    engine: Any = ENGINES[given.engine](pick(GenerateOptions, vars(given)))
    asked = [replace(q, key=f"{q.key}#{i}") for q in questions for i in range(given.num_samples)]
    sampling = Sampling(given.max_new_tokens, given.temperature, given.top_p)
    samples = Path(f"{given.output}.samples.jsonl")
    done, failures = answer_questions(
        engine, asked, sampling, given.seed, samples, given.model, lambda n: progress.advance("responses", n, len(asked))
    )
    usable = [a for a in done if given.keep_cut or not a.ended or a.ended[-1]]
    cut, done = len(done) - len(usable), usable
    scores: dict[int, Any] = {}
    for place, score in judge.scorer.score(without_reasoning(done)):
        scores[place] = score
        progress.advance("scores", 1, len(done))
    by_prompt: dict[str, list[tuple[Answered, float]]] = {}
    unscored = 0
    for place, answered in enumerate(done):
        value = scores[place].value
        if value is None:
            unscored += 1
        else:
            by_prompt.setdefault(answered.question.key.rpartition("#")[0], []).append((answered, value))
    lines = prompt_lines(heard, dict(engine.encoder.report.notes) if hasattr(engine, "encoder") else {})
    without = 0
    with writer:
        for row, q in enumerate(questions, 1):
            pairs = _pairs(given, q, row, by_prompt.get(q.key, []))
            without += not pairs
            for pair in pairs:
                writer.write(canonical(pair))
    lines.append(
        f"{given.output}: {writer.count} pairs from {len(questions)} prompts and {len(done) + cut} responses; "
        f"{without} prompts give none; {unscored} responses without a score, {len(failures)} prompts without a response"
    )
    if cut:
        lines.append(
            f"{cut} responses were cut at --max-new-tokens {given.max_new_tokens} and are in no pair: training would take them as ending "
            "there; allow more tokens, or --keep-cut"
        )
    return MadePairs(Path(given.output), writer.count, [printable(line) for line in lines])


def _check(given: PairsOptions) -> None:
    """Refuse what cannot be, before anything is loaded."""
    check_asked(given)
    if given.num_samples < 2 or given.temperature <= 0:
        raise ConfigError("pairs need --num-samples of at least 2 and a --temperature above 0: greedy responses are all the same")
    if given.pairing not in POLICIES:
        raise ConfigError(
            f"--pairing is {given.pairing!r}; expected one of {', '.join(POLICIES)}{nearest(given.pairing, POLICIES)}", code="PF-C03"
        )


def _pairs(given: PairsOptions, q: Question, row: int, scored: list[tuple[Answered, float]]) -> list[Pair]:
    """The pairs of one prompt's scored responses."""
    found = {a.answers[0]: (a, s) for a, s in scored}  # equal words once
    if len(found) < 2:
        return []
    sides = tuple(
        a.answers[0] if isinstance(q.prompt, str) else ({"role": "assistant", "content": a.answers[0]},) for a, _ in found.values()
    )
    ranked = Ranked(q.prompt, sides, tuple(s for _, s in found.values()), row, q.tools, q.template_kwargs)
    pairs = to_pairs(ranked, given.pairing, given.min_gap, given.seed)
    return [p for p in pairs if given.min_reward is None or (p.scores is not None and p.scores[0] >= given.min_reward)]
