"""Judges as Python objects: each stands for the options that would choose it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any


class JudgeSpec:
    """A judge as a Python object: which one, and how it judges."""

    def choice(self) -> dict[str, Any]:
        """The fields of :class:`JudgeChoice` that it stands for."""
        raise NotImplementedError


@dataclass
class OpenAIJudge(JudgeSpec):
    """A model on an OpenAI-compatible server.

    Args:
        model: its name there; server: as ``http://127.0.0.1:8000/v1``, OpenAI's own where None.
        mode: ``pairwise`` (both orders), ``single`` (1 to 10) or ``logprob`` (AlpacaEval 2's).
        prompt: file with your own words; key_variable: environment variable that holds the key.
        concurrency: maximum requests under way; timeout: seconds; retries: of a failed request.
    """

    model: str
    server: str | None = None
    mode: str = "pairwise"
    prompt: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    structured: bool = True
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 6

    def choice(self) -> dict[str, Any]:
        """As flags would say it."""
        renamed = {"model": "judge_model", "prompt": "judge_prompt"}
        return {"judge": "openai"} | {renamed.get(f.name, f.name): getattr(self, f.name) for f in fields(self)}


class RewardModelJudge(JudgeSpec):
    """One or several one-label classifiers; the response with the higher reward wins.

    Args:
        models: folders, Hub ids or runs of ``prefine reward``; aggregate: several as ``mean``, ``min`` or ``mean-std``.
    """

    def __init__(self, *models: str, aggregate: str = "mean") -> None:
        self.models, self.aggregate = models, aggregate

    def choice(self) -> dict[str, Any]:
        """As flags would say it."""
        return {"judge": "reward-model", "reward_model": [str(m) for m in self.models], "aggregate": self.aggregate}


@dataclass
class FunctionJudge(JudgeSpec):
    """A function that scores: (prompt, response) -> number, lists of both -> list, or TRL's (prompts, completions, ...) -> list."""

    function: Callable[..., Any]

    def choice(self) -> dict[str, Any]:
        """As flags would say it."""
        return {"judge": "python", "function": self.function}


class ExactJudge(JudgeSpec):
    """The response that equals the prompt's reference wins."""

    def choice(self) -> dict[str, Any]:
        """As flags would say it."""
        return {"judge": "exact"}


@dataclass
class HumanJudge(JudgeSpec):
    """Verdicts that people gave, in a file of any format that is counted."""

    file: str

    def choice(self) -> dict[str, Any]:
        """As flags would say it."""
        return {"judge": "human", "human": str(self.file)}
