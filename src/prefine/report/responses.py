"""Responses side by side, most confident verdicts first, differences marked; searched and filtered by the page's script."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from prefine.report.evaluation_files import Shown
from prefine.report.page import CONTROLS, render

if TYPE_CHECKING:
    from markupsafe import Markup

WORDS = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")
DIFF_WORK = 60_000
"""Differences are sought where the product of two responses' words is at most this."""
PAGE_WORK = 30_000_000
"""And so long as a page's sum of these products is at most this, most confident verdicts first: about three seconds."""
AT_FIRST = 10
"""Responses that a page shows before it is asked for all."""
VERDICTS = {"tuned": "the tuned model wins", "base": "the base wins", "tie": "tie", "none": "no verdict"}


def marked(first: str, second: str) -> tuple[Markup, Markup]:
    """Both texts as HTML, with what only one of them has in ``<mark>``."""
    from markupsafe import Markup

    a, b = WORDS.findall(first), WORDS.findall(second)
    left: list[str] = []
    right: list[str] = []
    for kind, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        for part, tokens in ((left, a[a0:a1]), (right, b[b0:b1])):
            text = escape("".join(tokens).translate(CONTROLS))
            part.append(text if kind == "equal" or not text.strip() else f"<mark>{text}</mark>")
    return Markup("".join(left)), Markup("".join(right))


def _both(shown: Sequence[Shown]) -> Iterator[tuple[str, str]]:
    """Each comparison's responses, differences marked while there is time."""
    left = PAGE_WORK
    for s in shown:
        base, tuned = str(s.row["base"]), str(s.row["tuned"])
        work = len(WORDS.findall(base)) * len(WORDS.findall(tuned))
        left -= work if work <= DIFF_WORK else 0
        yield marked(base, tuned) if work <= DIFF_WORK and left >= 0 else (base, tuned)


def turns_of(prompt: Any) -> list[tuple[str, str]]:
    """A prompt as (role, text); one role, '', where it is plain text."""
    if not isinstance(prompt, list | tuple):
        return [("", str(prompt))]
    turns = [m if isinstance(m, Mapping) else {"content": m} for m in prompt]
    return [(str(m.get("role", "")), str(m.get("content") or m.get("tool_calls") or "")) for m in turns]


def responses_section(title: str, shown: Sequence[Shown], models: tuple[str, str], others: Sequence[str] = ()) -> str:
    """The section; every text of a model, a prompt or a judge is escaped.

    Args:
        others: what a reader should know of further evaluations, a sentence each.
    """
    if not shown:
        return ""
    articles = [_article(s, both, models) for s, both in zip(shown, _both(shown), strict=True)]
    return render(
        "responses.html",
        title=title,
        articles=articles,
        at_first=AT_FIRST,
        verdicts={v: words for v, words in VERDICTS.items() if any(s.verdict == v for s in shown)},
        categories=list(dict.fromkeys(str(s.row["category"]) for s in shown if s.row.get("category"))),
        others=others,
    )


def _article(s: Shown, both: tuple[str, str], models: tuple[str, str]) -> dict[str, Any]:
    ended = s.row.get("ended") or (None, None)
    thoughts = s.row.get("reasoning") or (None, None)
    scores: Sequence[float | None] = s.scores or (None, None)
    category, turn = str(s.row.get("category") or ""), s.row.get("turn")
    return {
        "verdict": s.verdict,
        "category": category,
        "heading": VERDICTS[s.verdict] + ("" if s.win is None else f" ({s.win:.2f})"),
        "about": [*([category] if category else []), *([f"turn {turn}"] if turn else [])],
        "prompt": turns_of(s.row["prompt"]),
        "sides": [
            {"model": model, "text": text, "truncated": e is False, "reasoning": thought}
            | {"score": "" if score is None else f"score {score:.3g}"}
            for model, text, e, score, thought in zip(models, both, ended, scores, thoughts, strict=True)
        ],
        "raw": s.raw,
    }
