"""Answers side by side, surest verdicts first, differences marked; searched and filtered by a small script, readable without it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

Row = Mapping[str, Any]
WORDS = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")
DIFF_WORK = 60_000
"""Differences are sought where the product of two answers' words is at most this."""
PAGE_WORK = 30_000_000
"""And so long as a page's sum of these products is at most this, surest verdicts first: about three seconds."""

SCRIPT = """
(() => {
  const form = document.querySelector('form.filter');
  if (!form) return;
  form.hidden = false;
  const rows = [...document.querySelectorAll('article.answer')];
  const [text, verdict, category] = ['text', 'verdict', 'category'].map(n => form.elements[n]);
  const count = form.querySelector('output');
  const words = new Map();
  const said = r => { if (!words.has(r)) words.set(r, r.textContent.toLowerCase()); return words.get(r); };
  let timer;
  const apply = () => {
    const sought = text.value.toLowerCase().trim();
    let shown = 0;
    for (const r of rows) {
      const keep = (!verdict.value || r.dataset.verdict === verdict.value)
        && (!category || !category.value || r.dataset.category === category.value)
        && (!sought || said(r).includes(sought));
      r.hidden = !keep;
      shown += keep;
    }
    count.textContent = shown + ' of ' + rows.length + ' answers';
  };
  form.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(apply, 120); });
  form.addEventListener('submit', e => e.preventDefault());
  apply();
})();
"""

VERDICTS = {"tuned": "the tuned model wins", "base": "the base wins", "tie": "tie", "none": "no verdict"}


@dataclass(frozen=True)
class Shown:
    """One comparison of a page: its answers, how far the tuned one wins on average, and what was said."""

    row: Row
    win: float | None
    sureness: float
    raw: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """A key of :data:`VERDICTS`."""
        if self.win is None:
            return "none"
        return "tie" if self.win == 0.5 else "tuned" if self.win > 0.5 else "base"


def join(generations: Sequence[Row], verdicts: Sequence[Row]) -> list[Shown]:
    """Answers with their verdicts, surest first: by how far votes agree, then by the gap of scores."""
    votes: dict[tuple[str, Any], list[Row]] = {}
    for v in verdicts:
        votes.setdefault((str(v.get("key")), v.get("turn")), []).append(v)
    out = []
    for row in generations:
        given = votes.get((str(row.get("key")), row.get("turn")), [])
        wins = [float(v["tuned_wins"]) for v in given if v.get("tuned_wins") is not None]
        win = sum(wins) / len(wins) if wins else None
        gaps = [abs(v["scores"][1] - v["scores"][0]) for v in given if v.get("scores")]
        sure = -1.0 if win is None else abs(win - 0.5) * 2 + (gaps[0] / (1 + gaps[0]) if gaps else 0)
        raw = tuple(str(r) for v in given for r in v.get("raw", ())) + tuple(str(v["failure"]) for v in given if v.get("failure"))
        out.append(Shown(row, win, sure, raw))
    return sorted(out, key=lambda s: -s.sureness)


def marked(first: str, second: str) -> tuple[str, str]:
    """Both texts as HTML, with what only one of them has in ``<mark>``."""
    a, b = WORDS.findall(first), WORDS.findall(second)
    left: list[str] = []
    right: list[str] = []
    for kind, a0, a1, b0, b1 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        for part, tokens in ((left, a[a0:a1]), (right, b[b0:b1])):
            text = escape("".join(tokens))
            part.append(text if kind == "equal" or not text.strip() else f"<mark>{text}</mark>")
    return "".join(left), "".join(right)


def _both(shown: Sequence[Shown]) -> Iterator[tuple[str, str]]:
    """Each comparison's answers as HTML, differences marked while there is time."""
    left = PAGE_WORK
    for s in shown:
        base, tuned = str(s.row["base"]), str(s.row["tuned"])
        work = len(WORDS.findall(base)) * len(WORDS.findall(tuned))
        left -= work if work <= DIFF_WORK else 0
        yield marked(base, tuned) if work <= DIFF_WORK and left >= 0 else (escape(base), escape(tuned))


def answers_section(title: str, shown: Sequence[Shown], models: tuple[str, str]) -> str:
    """The section; every text of a model, a prompt or a judge is escaped."""
    if not shown:
        return ""
    categories = list(dict.fromkeys(str(s.row["category"]) for s in shown if s.row.get("category")))
    present = [v for v in VERDICTS if any(s.verdict == v for s in shown)]
    rows = "\n".join(_answer(s, both, models) for s, both in zip(shown, _both(shown), strict=True))
    return (
        f"<section><h2>Answers: {escape(title)}</h2>"
        '<form class="filter" hidden role="search" aria-label="filter answers">'
        '<label>Search<input type="search" name="text" autocomplete="off"></label>'
        f'<label>Verdict<select name="verdict">{_choices({v: VERDICTS[v] for v in present})}</select></label>'
        + (f'<label>Category<select name="category">{_choices({c: c for c in categories})}</select></label>' if len(categories) > 1 else "")
        + '<output aria-live="polite"></output></form>'
        f'<p class="soft">Surest verdicts first; marked: what only one of the two says.</p>{rows}</section>'
    )


def _choices(values: Mapping[str, str]) -> str:
    return '<option value="">all</option>' + "".join(f'<option value="{escape(v)}">{escape(t)}</option>' for v, t in values.items())


def _prompt(prompt: Any) -> str:
    if isinstance(prompt, str):
        return f'<p class="said">{escape(prompt)}</p>'
    return "".join(
        f'<p class="said"><b>{escape(str(m.get("role")))}:</b> {escape(str(m.get("content") or m.get("tool_calls") or ""))}</p>'
        for m in prompt
    )


def _answer(s: Shown, both: tuple[str, str], models: tuple[str, str]) -> str:
    base, tuned = both
    ended = s.row.get("ended") or (None, None)
    cut = [' <span class="look">cut</span>' if e is False else "" for e in ended]
    category = escape(str(s.row.get("category") or ""))
    turn = f", turn {int(s.row['turn'])}" if s.row.get("turn") else ""
    said = "".join(f'<p class="said">{escape(r)}</p>' for r in s.raw)
    score = "" if s.win is None else f" ({s.win:.2f})"
    return (
        f'<article class="answer" data-verdict="{s.verdict}" data-category="{category}">'
        f'<h3>{VERDICTS[s.verdict]}{score}<span class="soft">{" · " + category if category else ""}{turn}</span></h3>'
        f"{_prompt(s.row['prompt'])}"
        f'<div class="two"><div><h4>{escape(models[0])}{cut[0]}</h4><div class="said">{base}</div></div>'
        f'<div><h4>{escape(models[1])}{cut[1]}</h4><div class="said">{tuned}</div></div></div>'
        + (f"<details><summary>what the judge said</summary>{said}</details>" if said else "")
        + "</article>"
    )
