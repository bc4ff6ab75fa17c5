"""Prompts in whatever way they are given."""

from __future__ import annotations

import os
from typing import Any

from prefine.errors import ConfigError
from prefine.evaluation.questions import Question, read_questions, user_turn
from prefine.preferences.convert import Reading
from prefine.preferences.draws import prompt_text_key
from prefine.preferences.records import Example


def questions_of(
    prompts: Any, reading: Reading | None = None, raw: bool = False, heard: list[dict[str, Any]] | None = None
) -> list[Question]:
    """Questions from a source by name, or from texts or lists of messages.

    Args:
        reading, raw, heard: of a source, as :func:`prefine.evaluation.questions.read_questions` takes them.

    Raises:
        ConfigError: an empty list, or something else in it.
    """
    if isinstance(prompts, str | os.PathLike):
        return read_questions(str(prompts), reading, raw, heard)
    out: dict[str, Question] = {}
    for place, prompt in enumerate(prompts):
        if isinstance(prompt, Question):
            out[prompt.key] = prompt
            continue
        if isinstance(prompt, dict) and "prompt" in prompt:
            prompt = prompt["prompt"]
        messages = isinstance(prompt, list | tuple) and prompt and all(isinstance(m, dict) and "role" in m for m in prompt)
        if not messages and not isinstance(prompt, str):
            raise ConfigError(f"prompt {place}: expected text or a list of messages, found {type(prompt).__name__}")
        said = tuple(prompt) if messages else prompt if raw else user_turn(prompt)
        key = f"{prompt_text_key(Example(said, None, 0)):016x}"
        out[key] = Question(key, said, cluster=key)
    if not out:
        raise ConfigError("no prompts were given")
    return list(out.values())
