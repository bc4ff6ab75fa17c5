"""A model's responses to prompts, into a file that judges read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from prefine.api.calls import call
from prefine.api.options import options_of
from prefine.api.progress import Progress
from prefine.api.prompts import questions_of
from prefine.api.quiet import quiet_transformers
from prefine.api.reading import column_map, prompt_lines
from prefine.api.tables import Shows
from prefine.cluster import ClusterOptions
from prefine.errors import ConfigError, nearest, printable
from prefine.preferences.convert import Reading
from prefine.runs import model_of


@dataclass
class GenerateOptions:
    """Options of ``prefine generate``."""

    model: str = field(default="", metadata={"help": "Folder, Hub id, finished run, or the name of a model on --server."})
    prompts: str = field(default="", metadata={"help": "File, folder, Hub id or database with prompts.", "objects": True})
    output: str = field(default="answers.jsonl", metadata={"help": "File for the responses (.jsonl)."})
    adapter: bool = field(default=True, metadata={"help": "--no-adapter: respond as the base under the model's adapter."})
    engine: str = field(default="transformers", metadata={"help": "transformers, or vllm where it is installed."})
    server: str | None = field(default=None, metadata={"help": "Ask an OpenAI-compatible server, as http://127.0.0.1:8000/v1, instead."})
    key_variable: str = field(default="OPENAI_API_KEY", metadata={"help": "Environment variable that holds the server's key."})
    concurrency: int = field(default=8, metadata={"help": "Maximum requests to the server under way."})
    max_new_tokens: int = field(default=512, metadata={"help": "Maximum tokens of a response."})
    temperature: float = field(default=0.0, metadata={"help": "0 for greedy."})
    top_p: float = field(default=1.0, metadata={"help": "Nucleus: the share of probability that is drawn from."})
    seed: int = field(default=0, metadata={"help": "Each prompt draws from this seed and its own text: the batch makes no difference."})
    batch_size: int = field(default=128, metadata={"help": "Maximum prompts at once; halved when memory runs out."})
    limit: int | None = field(default=None, metadata={"help": "Only the first prompts."})
    references: str | None = field(default=None, metadata={"help": "MT-Bench's reference answers, kept with the responses for the judge."})
    raw: bool = field(default=False, metadata={"help": "Ask prompts of a list as they stand, without the chat template."})
    map: list[str] | dict[str, str] | None = field(default=None, metadata={"help": "Columns by another name: --map prompt=question."})
    format: str | None = field(default=None, metadata={"help": "The data's format. Unset: found from its rows."})
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
            raise ConfigError(f"--no-adapter: {given.model} has no adapter to leave out", code="PF-M04")
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


@dataclass(repr=False)
class Generated(Shows):
    """What :func:`generate` made.

    Attributes:
        file: of responses; answered, failures: how many prompts have them, and why others do not, by prompt.
    """

    file: Path
    answered: int
    failures: Mapping[str, str]
    lines: Sequence[str]

    def parts(self) -> list[Any]:
        """What there is to see."""
        return [*self.lines]


@call(GenerateOptions, ClusterOptions, positional=("model", "prompts", "output"))
def generate(given: GenerateOptions, cluster: ClusterOptions, progress: Progress) -> Generated:
    """Have a model respond to prompts, into a file that judges read. A killed call goes on where it was.

    Raises:
        PrefineError: options, prompts or a model that cannot be used.
    """
    _check(given)
    cluster.check_cluster()
    if cluster.ray is not None and given.server is not None:
        raise ConfigError("--ray would be ignored: --server responds, to --concurrency requests at once; leave one out", code="PF-C04")
    from prefine.evaluation.answers import answer_questions
    from prefine.evaluation.questions import with_references
    from prefine.generation.engine import Sampling
    from prefine.packing.rendering import read_template_kwargs

    if given.chat_template_kwargs is not None:
        read_template_kwargs(given.chat_template_kwargs)
    sampling = Sampling(given.max_new_tokens, given.temperature, given.top_p)
    heard: list[dict[str, Any]] = []
    questions = questions_of(given.prompts, Reading(column_map(given.map), given.format), given.raw, heard)[: given.limit]
    if given.server is not None and given.chat_template_kwargs is not None:
        kwargs = read_template_kwargs(given.chat_template_kwargs)
        questions = [replace(q, template_kwargs=kwargs | dict(q.template_kwargs or {})) for q in questions]
    if given.references:
        questions = with_references(questions, given.references)
    name = given.model
    given.model = model_of(given.model)
    if not given.adapter:
        name += " without adapter"
    progress.stage("loading the model")
    quiet_transformers()
    engine = _engine(given) if cluster.ray is None else _spread(given, cluster)
    total = sum(1 + len(q.later_turns) for q in questions)
    output = Path(given.output)
    with getattr(engine, "workers", nullcontext()):
        done, failures = answer_questions(
            engine, questions, sampling, given.seed, output, name, lambda n: progress.advance("responses", n, total)
        )
    ended = [e for a in done for e in a.ended]
    share = f"; {100 * sum(ended) / len(ended):.0f} % of responses ended by themselves" if ended else ""
    lines = prompt_lines(heard, dict(engine.encoder.report.notes) if hasattr(engine, "encoder") else {})
    lines.append(f"{given.output}: {len(done)} of {len(questions)} prompts answered by {name}{share}")
    lines += [f"  failed: {key}: {reason}" for key, reason in list(failures.items())[:5]]
    if failures:
        lines.append(f"  {len(failures)} failed; the same command tries them again")
    return Generated(output, len(done), failures, [printable(line) for line in lines])


def check_asked(given: Any) -> None:
    """Refuse options of generation that name no model, no prompts or no engine that there is.

    Raises:
        ConfigError: which, and what there is.
    """
    for name in ("model", "prompts"):
        if not getattr(given, name):
            raise ConfigError(f"--{name} is missing ({options_of(type(given))[name].help})", code="PF-C07")
    if given.engine not in ENGINES:
        raise ConfigError(
            f"--engine is {given.engine!r}; expected one of {', '.join(ENGINES)}{nearest(given.engine, ENGINES)}", code="PF-C03"
        )


def _check(given: GenerateOptions) -> None:
    """Refuse what cannot be, before anything is loaded."""
    check_asked(given)
    if not given.output.endswith(".jsonl"):
        raise ConfigError(f"--output {given.output}: expected a name that ends in .jsonl")
    if given.limit is not None and given.limit < 1:
        raise ConfigError(f"--limit is {given.limit}; expected at least 1", code="PF-C03")


def _spread(given: GenerateOptions, cluster: ClusterOptions) -> Any:
    from prefine.api.side_by_side import SpreadEngine
    from prefine.packing.encoding import Encoder
    from prefine.scoring.loading import load_tokenizer

    encoder = Encoder(load_tokenizer(given.model, given.trust_remote_code, given.chat_template_kwargs))
    return SpreadEngine(cluster, _engine, (given,), encoder, given.batch_size)


def _engine(given: GenerateOptions) -> Any:
    if given.server is not None:
        from prefine.evaluation.chat_client import ChatClient, ServerEngine

        return ServerEngine(ChatClient(given.model, given.server, given.key_variable, given.concurrency))
    return ENGINES[given.engine](given)
