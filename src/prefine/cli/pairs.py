"""``prefine pairs``: a model's own answers, scored by a judge, as preference pairs for ``prefine dpo``."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefine.cli.data.reading import column_map, prompt_lines
from prefine.cli.generate import ENGINES, GenerateOptions
from prefine.cli.judging import JudgeChoice, build_judge, check_ready, pick, stages
from prefine.cli.options import help_text, options_of, parse
from prefine.errors import ConfigError, nearest, printable
from prefine.evaluation.judge import ByScore
from prefine.preferences.convert import Reading, canonical
from prefine.preferences.ranking import POLICIES, to_pairs
from prefine.preferences.records import Ranked
from prefine.preferences.writing import RowWriter
from prefine.runs import model_of

ABOUT = (
    "Samples several answers to each prompt, has --judge score them (reward-model, python, exact, or openai with --mode single), "
    "and writes pairs with their scores. A killed command goes on where it was."
)


@dataclass
class PairsOptions:
    """Options of ``prefine pairs`` beside those of ``generate`` and the judge."""

    model: str = field(default="", metadata={"help": "Folder, Hub id or finished run whose answers are taken."})
    prompts: str = field(default="", metadata={"help": "File, folder, Hub id or database with prompts."})
    output: str = field(default="pairs.jsonl", metadata={"help": "File for the pairs (.jsonl, .jsonl.gz or .parquet)."})
    num_samples: int = field(default=4, metadata={"help": "Answers to each prompt."})
    pairing: str = field(default="best-vs-worst", metadata={"help": "best-vs-worst, best-vs-random, adjacent or all."})
    min_gap: float = field(default=0.0, metadata={"help": "Least difference of scores in a pair."})
    min_reward: float | None = field(default=None, metadata={"help": "Least score of a pair's chosen answer."})
    max_new_tokens: int = field(default=512, metadata={"help": "Most tokens of an answer."})
    temperature: float = field(default=1.0, metadata={"help": "Of sampling; above 0."})
    top_p: float = field(default=1.0, metadata={"help": "Nucleus: the share of probability that is drawn from."})
    seed: int = field(default=0, metadata={"help": "Seed of sampling."})
    batch_size: int = field(default=32, metadata={"help": "Most answers at once."})
    limit: int | None = field(default=None, metadata={"help": "Only the first prompts."})
    engine: str = field(default="transformers", metadata={"help": "transformers, or vllm where it is installed."})
    map: list[str] | None = field(default=None, metadata={"help": "Columns by another name: --map prompt=question."})
    format: str | None = field(default=None, metadata={"help": "The data's form. Unset: found from its rows."})
    chat_template_kwargs: str | None = field(
        default=None, metadata={"help": "What the chat template is given beside the messages: enable_thinking=false. Unset: as trained."}
    )
    dtype: str = field(default="auto", metadata={"help": "auto, float32, bfloat16 or float16."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the model."})


def main(argv: list[str]) -> int:
    """Sample, score, pair, write."""
    options = options_of(PairsOptions, "options") | options_of(JudgeChoice, "judge")
    if not argv or "--help" in argv or "-h" in argv:
        print(help_text("pairs --model M --prompts P --judge NAME", ABOUT, options))
        return 0
    words = parse(argv, options)
    given, choice = pick(PairsOptions, words), pick(JudgeChoice, words)
    for name in ("model", "prompts"):
        if not getattr(given, name):
            raise ConfigError(f"--{name} is missing ({options[name].help})")
    if given.num_samples < 2 or given.temperature <= 0:
        raise ConfigError("pairs need --num-samples of at least 2 and a --temperature above 0: greedy answers are all the same")
    if given.pairing not in POLICIES:
        raise ConfigError(f"--pairing is {given.pairing!r}; expected one of {', '.join(POLICIES)}{nearest(given.pairing, POLICIES)}")
    if given.engine not in ENGINES:
        raise ConfigError(f"--engine is {given.engine!r}; expected one of {', '.join(ENGINES)}{nearest(given.engine, ENGINES)}")
    writer = RowWriter(given.output)
    judge = build_judge(choice, (given.model, given.model))
    if not isinstance(judge, ByScore):
        raise ConfigError("pairs need a judge that scores: --judge reward-model, python, exact, or openai with --mode single")
    check_ready(judge)
    from prefine.evaluation.answers import Answered, answer_questions
    from prefine.evaluation.questions import read_questions
    from prefine.generation.engine import Sampling

    heard: list[dict[str, Any]] = []
    questions = read_questions(given.prompts, Reading(column_map(given.map), given.format), heard=heard)[: given.limit]
    questions = [replace(q, later_turns=()) for q in questions]
    given.model = model_of(given.model)
    engine: Any = ENGINES[given.engine](pick(GenerateOptions, vars(given)))
    asked = [replace(q, key=f"{q.key}#{i}") for q in questions for i in range(given.num_samples)]
    sampling = Sampling(given.max_new_tokens, given.temperature, given.top_p)
    scores: dict[int, Any] = {}
    with stages() as advance:
        samples = Path(f"{given.output}.samples.jsonl")
        done, failures = answer_questions(
            engine, asked, sampling, given.seed, samples, given.model, lambda n: advance("answers", n, len(asked))
        )
        for place, score in judge.scorer.score(done):
            scores[place] = score
            advance("scores", 1, len(done))
    by_prompt: dict[str, list[tuple[Answered, float]]] = {}
    unscored = 0
    for place, answered in enumerate(done):
        value = scores[place].value
        if value is None:
            unscored += 1
        else:
            by_prompt.setdefault(answered.question.key.rpartition("#")[0], []).append((answered, value))
    for line in prompt_lines(heard, dict(engine.encoder.report.notes) if hasattr(engine, "encoder") else {}):
        print(printable(line))
    without = 0
    with writer:
        for row, q in enumerate(questions, 1):
            found = {a.answers[0]: (a, s) for a, s in by_prompt.get(q.key, [])}  # equal words once
            sides = tuple(
                a.answers[0] if isinstance(q.prompt, str) else ({"role": "assistant", "content": a.answers[0]},) for a, _ in found.values()
            )
            pairs = to_pairs(
                Ranked(q.prompt, sides, tuple(s for _, s in found.values()), row, q.tools, q.template_kwargs),
                given.pairing,
                given.min_gap,
                given.seed,
            )
            pairs = [p for p in pairs if given.min_reward is None or (p.scores is not None and p.scores[0] >= given.min_reward)]
            without += not pairs
            for pair in pairs:
                writer.write(canonical(pair))
    print(
        printable(
            f"{given.output}: {writer.count} pairs from {len(questions)} prompts and {len(done)} answers; "
            f"{without} prompts give none; {unscored} answers without a score, {len(failures)} without an answer"
        )
    )
    return int(not writer.count)
