"""What a user's function raises is shown: its kind, its words, its file and line."""

from __future__ import annotations

import inspect

import pytest

from prefine.errors import ModelError
from prefine.scoring.roles import score_texts
from prefine.scoring.score_function import scores_or_reasons


def lists(prompts: list[str], responses: list[str]) -> list[float]:
    raise KeyError("lost")


def one(prompt: str, response: str) -> float:
    raise KeyError("lost")


def trl(prompts: list[str], completions: list[str], **columns: object) -> list[float]:
    raise KeyError("lost")


@pytest.mark.parametrize("function", [lists, one, trl])
def test_it_is_shown(function) -> None:  # type: ignore[no-untyped-def]
    line = inspect.getsourcelines(function)[1] + 1
    with (
        pytest.warns(UserWarning, match=f"KeyError: 'lost' .*test_function_errors.py, line {line}"),
        pytest.raises(ModelError, match=f"{function.__name__} raised KeyError: 'lost' .*test_function_errors.py, line {line}"),
    ):
        score_texts(function, ["a", "b"], ["c", "d"])
    kind = {"lists": "lists", "one": "one", "trl": "trl"}[function.__name__]
    for score, reason in scores_or_reasons(function, ["a", "b"], ["c", "d"], kind):  # type: ignore[arg-type]
        assert score is None
        assert f"KeyError: 'lost' ({__file__}, line {line})" in reason
