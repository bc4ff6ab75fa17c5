"""What writes answers: one protocol, so that a model in memory, vLLM and a server are told apart nowhere else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from prefine.errors import ConfigError
from prefine.preferences.records import PromptText


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: 0 for greedy.
        top_p: nucleus (arXiv 1904.09751); 1 for all of the distribution.
        top_k: so many of the likeliest tokens; 0 for all.
        min_p: tokens of at least this share of the likeliest one's probability (arXiv 2407.01082); 0 for all.
        repetition_penalty: logits of tokens that were there before are divided by it, or multiplied where below 0 (arXiv 1909.05858).
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ConfigError(f"max_new_tokens is {self.max_new_tokens}; expected at least 1", code="PF-C03")
        if self.temperature < 0:
            raise ConfigError(f"temperature is {self.temperature}; expected 0 for greedy, or above", code="PF-C03")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; expected above 0, at most 1", code="PF-C03")
        if self.top_k < 0 or not 0 <= self.min_p <= 1 or self.repetition_penalty <= 0:
            raise ConfigError(
                f"top_k is {self.top_k}, min_p {self.min_p}, repetition_penalty {self.repetition_penalty}; "
                "expected 0 or above, 0 to 1, above 0"
            )


@dataclass(frozen=True)
class Request:
    """What is asked: a prompt, the functions it offers, and the seed of this answer alone."""

    prompt: PromptText
    seed: int = 0
    tools: tuple[Any, ...] | None = None
    template_kwargs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Answer:
    """An answer: its text, its tokens' number and ids (with the end token; a server tells none), and whether it ended.

    Attributes:
        logps: of the sampled tokens as the sampler drew them, nats; empty where it does not tell.
    """

    text: str
    ids: list[int]
    ended: bool
    num_tokens: int
    logps: tuple[float, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Failure:
    """A request that got no answer, and why."""

    reason: str


class Engine(Protocol):
    """Writes answers."""

    name: str

    def answers(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Answer | Failure]]:
        """Each request's place with its answer, as they come."""
        ...
