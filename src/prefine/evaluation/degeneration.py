"""What goes wrong with answers when training goes wrong, told as the tuned model's difference from its base. No torch.

Each sign is a number for one answer, or a number for a whole set of them; both are compared prompt by
prompt with an interval. What is left out: anything that needs a model to read the answers.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefine.evaluation.interval import CHANGE, GROUPS, Interval, jackknife, mean_interval, p_value
from prefine.evaluation.verdict import Suspect, find_broken

WORD = re.compile(r"\w+|[^\w\s]")
NGRAM = 4


@functools.lru_cache(maxsize=65_536)
def words(text: str) -> tuple[str, ...]:
    """Words and punctuation marks, lower case; in scripts without spaces, characters."""
    lowered = text.lower()
    found = WORD.findall(lowered)
    unspaced = len(lowered) > 40 and len(lowered) > 20 * max(1, len(found))
    return tuple(lowered.replace(" ", "")) if unspaced else tuple(found)


def _ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[i:] for i in range(n)), strict=False))


def repeated_ngrams(text: str) -> float:
    """Share of an answer's 4-grams that it has said before (1 - distinct/all), as "seq-rep-4" of arXiv 1908.04319."""
    grams = _ngrams(words(text), NGRAM)
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def ends_in_loop(text: str) -> bool:
    """Whether the answer's end is one piece said three times or more, filling at least twelve words or half of it."""
    tokens = words(text)
    for period in range(1, min(40, len(tokens) // 3) + 1):
        count = 1
        last = tokens[-period:]
        while tokens[-(count + 1) * period : -count * period] == last:
            count += 1
        if count >= 3 and count * period >= min(12, max(6, math.ceil(len(tokens) / 2))):
            return True
    return False


@dataclass(frozen=True)
class Text:
    """An answer as far as these signs look at it; ``ended`` None where nobody knows, ``reasoning`` where neither model thinks."""

    prompt: str
    answer: str
    ended: bool | None = None
    num_tokens: int | None = None
    reasoning: str | None = None


def _language(text: str) -> str:
    import py3langid

    return str(py3langid.classify(text)[0])


@dataclass(frozen=True)
class Sign:
    """One thing that is measured of an answer.

    Attributes:
        bad: +1 where more of it is worse, 0 where neither way is.
        is_share: whether it lies between 0 and 1.
        alarm: how much more of it is called broken, when surely more.
    """

    name: str
    about: str
    measure: Callable[[Text], float | None]
    bad: int
    alarm: float
    is_share: bool = True


SIGNS = (
    Sign("empty", "share of responses without a word", lambda t: float(not t.answer.strip()), 1, 0.02),
    Sign(
        "not ended",
        "share of responses truncated at the limit, without an end token",
        lambda t: None if t.ended is None else float(not t.ended),
        1,
        0.05,
    ),
    Sign("loop", "share of responses that end in a loop", lambda t: float(ends_in_loop(t.answer)), 1, 0.02),
    Sign("repetition", "share of a response's 4-grams that are repeats", lambda t: repeated_ngrams(t.answer), 1, 0.05),
    Sign("other language", "share of long responses in another language than their prompt", lambda t: _drifted(t), 1, 0.02),
    Sign(
        "words",
        "mean length of a response in words and punctuation marks",
        lambda t: float(len(words(t.answer))),
        0,
        math.inf,
        is_share=False,
    ),
    Sign(
        "words of reasoning",
        "mean length of what a response thinks before it answers",
        lambda t: None if t.reasoning is None else float(len(words(t.reasoning))),
        0,
        math.inf,
        is_share=False,
    ),
)
LEAST_PROMPTS = 10
"""A sign of all answers together says nothing of fewer."""
LEAST_LETTERS = 80
"""A guess of the language of less text than this is not to be relied on."""


def _drifted(text: Text) -> float | None:
    letters = [sum(c.isalpha() for c in part) for part in (text.prompt, text.answer)]
    if letters[1] < LEAST_LETTERS or letters[0] < LEAST_LETTERS // 2:
        return None
    return float(_language(text.answer) != _language(text.prompt))


@dataclass(frozen=True)
class Finding:
    """A sign's value for base and tuned, and the paired change.

    Attributes:
        worse: one-sided p-value that it changed for the worse; 1 where neither way is.
        alarming: the change is for the worse and beyond the alarm, sure or not.
        broken: alarming, and surely not chance, all signs taken together.
    """

    name: str
    about: str
    base: float
    tuned: float
    change: Interval
    worse: float
    alarming: bool
    broken: bool = False

    @property
    def suspect(self) -> Suspect:
        """As the verdict weighs it."""
        return Suspect(self.name, f"{self.name} went from {self.base:.3g} to {self.tuned:.3g}", self.worse, self.alarming)

    def summary(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def compare_texts(base: Sequence[Text], tuned: Sequence[Text], clusters: Sequence[str]) -> list[Finding]:
    """All signs of two models' answers to the same prompts, in the same order; a sign that no answer tells is left out."""
    out = []
    for sign in SIGNS:
        values = [(sign.measure(b), sign.measure(t), c) for b, t, c in zip(base, tuned, clusters, strict=True)]
        known = [(b, t, c) for b, t, c in values if b is not None and t is not None]
        if not known or (not sign.is_share and len({c for _, _, c in known}) < 2):
            continue
        b, t, c = zip(*known, strict=True)
        changes = np.subtract(t, b)
        change = mean_interval(changes, c, bounds=CHANGE if sign.is_share else None, each_end=True)
        worse = p_value(changes, c, CHANGE, 0.0, "above") if sign.bad else 1.0
        alarming = bool(sign.bad) and change.estimate > sign.alarm
        out.append(Finding(sign.name, sign.about, float(np.mean(b)), float(np.mean(t)), change, worse, alarming))
    out += _sets(base, tuned, clusters)
    broken, _ = find_broken((), [f.suspect for f in out])
    return [replace(f, broken=f.name in broken) for f in out]


def _sets(base: Sequence[Text], tuned: Sequence[Text], clusters: Sequence[str]) -> list[Finding]:
    from scipy.stats import t

    names = {c: i for i, c in enumerate(dict.fromkeys(clusters))}
    if len(names) < LEAST_PROMPTS:
        return []
    owner = np.array([names[c] for c in clusters])
    members = [np.flatnonzero(owner == i) for i in range(len(names))]
    tokens = [[words(t.answer) for t in side] for side in (base, tuned)]
    out = []
    for kind in SETS:
        of_base, of_tuned = (kind.prepare(side) for side in tokens)

        def change(places: NDArray[np.int64], a: Any = of_base, b: Any = of_tuned, kind: SetSign = kind) -> float:
            return kind.value(b, places) - kind.value(a, places)

        everything = np.arange(len(base))
        before, after = kind.value(of_base, everything), kind.value(of_tuned, everything)
        low, high = jackknife(change, members)
        freedom = min(GROUPS, len(members)) - 1
        error, moved = (high - low) / 2 / float(t.ppf(0.975, freedom)), (after - before) * kind.bad
        worse = float(t.sf(moved / error, freedom)) if error > 0 else float(moved <= 0)
        interval = Interval(after - before, low, high, len(base), len(names))
        out.append(Finding(kind.name, kind.about, before, after, interval, worse, moved > kind.alarm))
    return out


@dataclass(frozen=True)
class SetSign:
    """One thing that is measured of all answers together.

    Attributes:
        prepare: once a side; value: of some of the answers, by place.
        bad: the sign of a change for the worse.
    """

    name: str
    about: str
    prepare: Callable[[Sequence[Sequence[str]]], Any]
    value: Callable[[Any, NDArray[np.int64]], float]
    bad: int
    alarm: float


def _gram_table(n: int, side: Sequence[Sequence[str]]) -> list[NDArray[np.int64]]:
    known: dict[tuple[str, ...], int] = {}
    return [np.array([known.setdefault(g, len(known)) for g in _ngrams(tokens, n)], dtype=np.int64) for tokens in side]


def _counts(table: list[NDArray[np.int64]], places: NDArray[np.int64]) -> NDArray[np.int64]:
    picked = [table[i] for i in places]
    return np.bincount(np.concatenate(picked)) if sum(map(len, picked)) else np.zeros(1, np.int64)


def _distinct(table: list[NDArray[np.int64]], places: NDArray[np.int64]) -> float:
    counts = _counts(table, places)
    return float((counts > 0).sum() / max(1, counts.sum()))


def _entropy(table: list[NDArray[np.int64]], places: NDArray[np.int64]) -> float:
    counts = _counts(table, places)
    shares = counts[counts > 0] / max(1, counts.sum())
    return float(-(shares * np.log2(shares)).sum()) if len(shares) else 0.0


def _bags(side: Sequence[Sequence[str]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each answer's words as a unit vector of 1,024 hashed dimensions; and its square, 0 for an answer without words."""
    import zlib

    out = np.zeros((len(side), 1024), np.float32)
    for row, tokens in zip(out, side, strict=True):
        for word, count in Counter(tokens).items():
            row[zlib.crc32(word.encode("utf-8", "surrogatepass")) % 1024] += 1 + math.log(count)
    norms = np.linalg.norm(out, axis=1, keepdims=True)
    return out / np.where(norms > 0, norms, 1), (norms[:, 0] > 0).astype(float)


def _similarity(prepared: tuple[NDArray[np.float64], NDArray[np.float64]], places: NDArray[np.int64]) -> float:
    """Mean cosine of two different answers: |sum|^2 is the sum over all pairs, an answer's own included."""
    bags, squares = prepared
    here = np.zeros(len(bags))
    here[places] = 1
    count = here.sum()
    if count < 2:
        return 0.0
    total, own = float(((here @ bags) ** 2).sum()), float(here @ squares)
    return float((total - own) / (count * (count - 1)))


SETS = (
    SetSign(
        "distinct-2", "distinct word pairs over all word pairs (arXiv 1510.03055)", functools.partial(_gram_table, 2), _distinct, -1, 0.2
    ),
    SetSign("vocabulary entropy", "entropy of the words used, bits", functools.partial(_gram_table, 1), _entropy, -1, 2.0),
    SetSign("self-similarity", "mean cosine of the words of responses to different prompts", _bags, _similarity, 1, 0.3),
)
