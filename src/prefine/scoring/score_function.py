"""A user's function that scores responses, called as its parameters' names say. No torch."""

from __future__ import annotations

import hashlib
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

ScoreFunction = Callable[..., Any]
"""One of three kinds, each of which may be asynchronous: (prompt, response) -> number; (prompts, responses) -> a number each; or TRL's,
which takes ``prompts``, ``completions`` (messages where the prompt is) and other columns by name. None or NaN: no score."""
Kind = Literal["one", "lists", "trl"]


def calls_by(function: Any, otherwise: Kind) -> Kind:
    """How a function wants to be called: TRL's kind takes ``completions``; lists have names in the plural, or are annotated so.

    Args:
        otherwise: what is meant where names do not tell.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return otherwise
    if any(p.name == "completions" for p in parameters):
        return "trl"
    first = next((p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)), None)
    if first is None:
        return otherwise
    annotation = str(first.annotation)
    if first.annotation is str or annotation == "str" or first.name in ("prompt", "question", "instruction", "query"):
        return "one"
    if "list" in annotation.lower() or "Sequence" in annotation or first.name in ("prompts", "questions", "instructions", "queries"):
        return "lists"
    return otherwise


def call_once(
    function: ScoreFunction, prompts: Sequence[Any], responses: Sequence[Any], columns: Mapping[str, Any], kind: Kind
) -> list[Any]:
    """Scores as the function gives them, with whatever it raises."""
    if kind == "one":
        return [_finished(function(p, r)) for p, r in zip(prompts, responses, strict=True)]
    found = function(prompts=prompts, completions=responses, **columns) if kind == "trl" else function(prompts, responses)
    return list(_finished(found))


def _finished(found: Any) -> Any:
    if not inspect.isawaitable(found):
        return found
    import asyncio

    with ThreadPoolExecutor(1) as thread:  # a notebook has a running loop of its own
        return thread.submit(asyncio.run, _awaited(found)).result()


async def _awaited(found: Any) -> Any:
    return await found


def where_raised(error: BaseException) -> str:
    """An exception with the file and line it comes from."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({where.filename}, line {where.lineno})"


def scores_or_reasons(
    function: ScoreFunction, prompts: Sequence[Any], responses: Sequence[Any], kind: Kind
) -> Iterator[tuple[float | None, str]]:
    """A score for each response, or None with the reason, as they come; what raises on lists is asked for each response alone."""
    if kind != "one":
        try:
            scores = call_once(function, prompts, responses, {}, kind)
        except Exception:  # the user's code: each response alone, so that one that raises costs itself only
            scores = []
        if len(scores) == len(responses):
            yield from ((None if s is None else float(s), "") for s in scores)
            return
    for prompt, response in zip(prompts, responses, strict=True):
        try:
            scores = call_once(function, [prompt], [response], {}, kind)
            if len(scores) != 1:
                yield None, f"{len(scores)} scores for one response"
            else:
                yield None if scores[0] is None else float(scores[0]), ""
        except Exception as error:  # a failure of this response alone
            yield None, where_raised(error)


def identity_of(function: Any) -> tuple[str, str]:
    """What to call a function, and a hash of what it does: its code, constants, defaults and what it closes over.

    The hash is empty where that cannot be told, as of an object's address.
    """
    name = getattr(function, "__qualname__", type(function).__qualname__)
    held = getattr(function, "__self__", None)
    owner = function if hasattr(function, "__code__") or held is not None else type(function).__call__
    code = getattr(getattr(owner, "__func__", owner), "__code__", None)
    if code is None:
        return name, ""
    closed = [cell.cell_contents for cell in getattr(owner, "__closure__", None) or ()]
    kept = vars(held if held is not None else function) if not hasattr(function, "__code__") else {}
    what = repr((_code(code), getattr(owner, "__defaults__", None), getattr(owner, "__kwdefaults__", None), closed, kept))
    return name, "" if " at 0x" in what else hashlib.sha256(what.encode()).hexdigest()[:12]


def _code(code: Any) -> Any:
    constants = [_code(c) if hasattr(c, "co_code") else c for c in code.co_consts]
    return code.co_code, constants, code.co_names
