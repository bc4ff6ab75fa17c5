"""``prefine generate``: a model's answers to prompts, into a file that judges read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefine.cli.data.reading import column_map, prompt_lines
from prefine.cli.judging import stages
from prefine.cli.options import help_text, options_of, parse
from prefine.errors import ConfigError, nearest, printable
from prefine.preferences.convert import Reading
from prefine.runs import model_of

ABOUT = (
    "Answers prompts: of preference data in any form, of a list (one a line in .txt; prompt, messages), of MT-Bench or AlpacaEval. "
    "A killed command goes on where it was; failed prompts are tried again."
)


@dataclass
class GenerateOptions:
    """Options of ``prefine generate``."""

    model: str = field(default="", metadata={"help": "Folder, Hub id, finished run, or the name of a model on --server."})
    prompts: str = field(default="", metadata={"help": "File, folder, Hub id or database with prompts."})
    output: str = field(default="answers.jsonl", metadata={"help": "File for the answers (.jsonl)."})
    adapter: bool = field(default=True, metadata={"help": "--no-adapter: answer as the base under the model's adapter."})
    engine: str = field(default="transformers", metadata={"help": "transformers, or vllm where it is installed."})
    server: str | None = field(default=None, metadata={"help": "Ask an OpenAI-compatible server, as http://127.0.0.1:8000/v1, instead."})
    key_variable: str = field(default="OPENAI_API_KEY", metadata={"help": "Environment variable that holds the server's key."})
    concurrency: int = field(default=8, metadata={"help": "Most requests to the server under way."})
    max_new_tokens: int = field(default=512, metadata={"help": "Most tokens of an answer."})
    temperature: float = field(default=0.0, metadata={"help": "0 for greedy."})
    top_p: float = field(default=1.0, metadata={"help": "Nucleus: the share of probability that is drawn from."})
    seed: int = field(default=0, metadata={"help": "Each prompt draws from this seed and its own text: the batch makes no difference."})
    batch_size: int = field(default=32, metadata={"help": "Most prompts at once; halved when memory runs out."})
    limit: int | None = field(default=None, metadata={"help": "Only the first prompts."})
    references: str | None = field(default=None, metadata={"help": "MT-Bench's reference answers, kept with the answers for the judge."})
    raw: bool = field(default=False, metadata={"help": "Ask prompts of a list as they stand, without the chat template."})
    map: list[str] | None = field(default=None, metadata={"help": "Columns by another name: --map prompt=question."})
    format: str | None = field(default=None, metadata={"help": "The data's form. Unset: found from its rows."})
    chat_template_kwargs: str | None = field(
        default=None, metadata={"help": "What the chat template is given beside the messages: enable_thinking=false. Unset: as trained."}
    )
    dtype: str = field(default="auto", metadata={"help": "auto, float32, bfloat16 or float16."})
    trust_remote_code: bool = field(default=False, metadata={"help": "Run code that comes with the model."})


def _transformers(given: GenerateOptions) -> Any:
    import torch

    from prefine.generation.generate import TransformersEngine
    from prefine.scoring.limits import FittedEncoder, fit_tokenizer
    from prefine.scoring.loading import load_model, load_tokenizer, pick_dtype

    tokenizer = load_tokenizer(given.model, given.trust_remote_code, given.chat_template_kwargs)
    model = load_model(given.model, pick_dtype(given.dtype)[0], trust_remote_code=given.trust_remote_code)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    if not given.adapter:
        if not hasattr(model, "unload"):
            raise ConfigError(f"--no-adapter: {given.model} has no adapter to leave out")
        model = model.unload()
    limits = fit_tokenizer(model, tokenizer)
    engine = TransformersEngine(model, tokenizer, given.batch_size)
    engine.encoder = FittedEncoder(tokenizer, limits)
    return engine


def _vllm(given: GenerateOptions) -> Any:
    from prefine.generation.vllm_engine import VllmEngine
    from prefine.scoring.loading import check_base, load_tokenizer

    tokenizer = load_tokenizer(given.model, given.trust_remote_code, given.chat_template_kwargs)
    config = Path(given.model) / "adapter_config.json"
    if not config.exists():
        return VllmEngine(given.model, tokenizer)
    return VllmEngine(str(check_base(given.model)), tokenizer, given.model if given.adapter else None)


ENGINES: dict[str, Callable[[GenerateOptions], Any]] = {"transformers": _transformers, "vllm": _vllm}


def main(argv: list[str]) -> int:
    """Read prompts, answer, write."""
    options = options_of(GenerateOptions, "options")
    if not argv or "--help" in argv or "-h" in argv:
        print(help_text("generate --model M --prompts P", ABOUT, options))
        return 0
    given = GenerateOptions(**parse(argv, options))
    for name in ("model", "prompts"):
        if not getattr(given, name):
            raise ConfigError(f"--{name} is missing ({options[name].help})")
    if given.engine not in ENGINES:
        raise ConfigError(f"--engine is {given.engine!r}; expected one of {', '.join(ENGINES)}{nearest(given.engine, ENGINES)}")
    if not given.output.endswith(".jsonl"):
        raise ConfigError(f"--output {given.output}: expected a name that ends in .jsonl")
    from prefine.evaluation.answers import answer_questions
    from prefine.evaluation.questions import read_questions, with_references
    from prefine.generation.engine import Sampling
    from prefine.packing.rendering import read_template_kwargs

    if given.limit is not None and given.limit < 1:
        raise ConfigError(f"--limit is {given.limit}; expected at least 1")
    if given.chat_template_kwargs is not None:
        read_template_kwargs(given.chat_template_kwargs)
    sampling = Sampling(given.max_new_tokens, given.temperature, given.top_p)
    heard: list[dict[str, Any]] = []
    questions = read_questions(given.prompts, Reading(column_map(given.map), given.format), given.raw, heard)[: given.limit]
    if given.server is not None and given.chat_template_kwargs is not None:
        kwargs = read_template_kwargs(given.chat_template_kwargs)
        questions = [replace(q, template_kwargs=kwargs | dict(q.template_kwargs or {})) for q in questions]
    if given.references:
        questions = with_references(questions, given.references)
    name = given.model
    given.model = model_of(given.model)
    if not given.adapter:
        name += " without adapter"
    if given.server is not None:
        from prefine.evaluation.chat_client import ChatClient, ServerEngine

        engine: Any = ServerEngine(ChatClient(given.model, given.server, given.key_variable, given.concurrency))
    else:
        engine = ENGINES[given.engine](given)
    total = sum(1 + len(q.later_turns) for q in questions)
    with stages() as advance:
        output = Path(given.output)
        done, failures = answer_questions(engine, questions, sampling, given.seed, output, name, lambda n: advance("answers", n, total))
    ended = [e for a in done for e in a.ended]
    share = f"; {100 * sum(ended) / len(ended):.0f} % of answers ended by themselves" if ended else ""
    for line in prompt_lines(heard, dict(engine.encoder.report.notes) if hasattr(engine, "encoder") else {}):
        print(printable(line))
    print(printable(f"{given.output}: {len(done)} of {len(questions)} prompts answered by {name}{share}"))
    for key, reason in list(failures.items())[:5]:
        print(printable(f"  failed: {key}: {reason}"))
    if failures:
        print(f"  {len(failures)} failed; the same command tries them again")
    return int(not done)
