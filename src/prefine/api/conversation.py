"""Base and tuned respond side by side, same seed, turn by turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from prefine.api.calls import call
from prefine.api.progress import Progress
from prefine.api.quiet import quiet_transformers
from prefine.errors import ConfigError
from prefine.runs import RunDirectory


@dataclass
class ChatOptions:
    """Options of ``prefine chat``."""

    run: str = field(default="", metadata={"help": "Run directory (also as the first word)."})
    system: str | None = field(default=None, metadata={"help": "System prompt."})
    max_new_tokens: int = field(default=256, metadata={"help": "Maximum tokens of a response."})
    temperature: float = field(default=0.7, metadata={"help": "0 for greedy."})
    seed: int = field(default=0, metadata={"help": "Seed of sampling; both sides draw by it."})
    chat_template_kwargs: str | None = field(
        default=None, metadata={"help": "What the chat template is given beside the messages: enable_thinking=false. Unset: as trained."}
    )
    dtype: str = field(default="auto", metadata={"help": "auto, float32, bfloat16 or float16."})


@dataclass
class Conversation:
    """Both sides' messages so far."""

    system: str | None = None
    sides: tuple[list[dict[str, str]], list[dict[str, str]]] = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        first = [{"role": "system", "content": self.system}] if self.system else []
        self.sides = (list(first), list(first))

    def say(self, text: str) -> None:
        """The user's turn, to both."""
        for side in self.sides:
            side.append({"role": "user", "content": text})

    def answer(self, answers: Sequence[str]) -> None:
        """Each side's own answer."""
        for side, text in zip(self.sides, answers, strict=True):
            side.append({"role": "assistant", "content": text})


class Chat:
    """A run's base and tuned model, asked the same, each keeping its own conversation."""

    def __init__(self, given: ChatOptions) -> None:
        from prefine.evaluation.model_pair import ModelPair
        from prefine.generation.engine import Sampling

        run = RunDirectory.open(given.run)
        self.sampling = Sampling(given.max_new_tokens, given.temperature)
        self.models = ModelPair.load(run, given.dtype, given.chat_template_kwargs)
        self.talk = Conversation(given.system)
        self.seed = given.seed

    def reset(self) -> None:
        """Begin anew."""
        self.talk.reset()

    def ask(self, text: str) -> tuple[str, str]:
        """The base's and the tuned model's response to the user's next turn; untrusted text."""
        from prefine.generation.engine import Failure, Request

        self.talk.say(text)
        texts = []
        for tuned in (False, True):
            with self.models.engine(tuned) as engine:
                turn = (self.seed << 16) + len(self.talk.sides[0])
                [(_, found)] = engine.answers([Request(tuple(self.talk.sides[tuned]), turn % 2**64)], self.sampling)
            texts.append(f"({found.reason})" if isinstance(found, Failure) else found.text)
        self.talk.answer(texts)
        return texts[0], texts[1]


@call(ChatOptions, positional=("run",))
def chat(given: ChatOptions, progress: Progress) -> Chat:
    """Talk to a finished run's base and tuned model side by side: ``chat("runs/first").ask("Hello")``.

    Raises:
        ConfigError, MissingFile, ModelError: no run, or one without a model.
    """
    if not given.run:
        raise ConfigError("chat needs a RUN: the --output-dir of a training run")
    progress.stage("loading the models")
    quiet_transformers()
    return Chat(given)
