"""A reward written by hand: complete, to the point, without filler. Used by the examples of online DPO and by the notebook's judge."""

from __future__ import annotations

FILLER = ("basically", "as an ai", "in conclusion", "it is important to note", "certainly", "great question")


def score(prompt: str, response: str) -> float:
    """How good a response is: one number, as a judge or a reward gives it."""
    words = response.split()
    if not words:
        return -1.0
    value = 1.0 if len(words) <= 60 else 60 / len(words)
    value += 0.5 * response.rstrip().endswith((".", "!", "?", "`"))
    value += 0.5 * any(word in response.lower() for word in prompt.lower().split() if len(word) > 4)
    return value - 0.5 * sum(filler in response.lower() for filler in FILLER)


def reward(prompts: list[str], responses: list[str]) -> list[float]:
    """The same for a batch, as training asks for it."""
    return [score(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
