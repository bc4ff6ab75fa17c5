"""What an easy judge would say: surface features of answers, and how well each predicts the label."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefine.audit.check import Finding, Grade
from prefine.audit.refusals import refuses

MARKS = ("list", "bold", "heading", "code", "emoji", "exclamation", "refusal")
LIST = re.compile(r"(?m)^ *(?:[-*•] |\d{1,2}[.)] )")
HEADING = re.compile(r"(?m)^#{1,4} ")
EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")
LEAST_PAIRS = 100
"""With fewer pairs a shortcut is not told from chance."""
TELLING = 0.65
"""A judge of one feature that is surely right more often than this has found a shortcut."""


@dataclass(frozen=True)
class Named:
    """What the two sides are called, and two of them together."""

    chosen: str = "chosen"
    rejected: str = "rejected"
    pairs: str = "pairs"


LABELLED = Named("a wanted response", "an unwanted one", "couples")
"""Of single responses: each wanted one beside an unwanted one."""


def marks(text: str) -> int:
    """Which of :data:`MARKS` an answer has, as bits."""
    found = (
        LIST.search(text),
        "**" in text,
        "#" in text and HEADING.search(text),
        "```" in text,
        not text.isascii() and EMOJI.search(text),
        "!" in text,
        refuses(text),
    )
    return sum(1 << i for i, yes in enumerate(found) if yes)


def first_word(text: str) -> str:
    """The first word, without case and punctuation."""
    words = text[:200].split(maxsplit=1)
    return words[0].strip(".,!?:;\"'*#").casefold()[:30] if words else ""


@dataclass(frozen=True)
class Accuracy:
    """How often a judge is right, with a 95 % Wilson interval; ties count half."""

    right: float
    of: int

    @property
    def share(self) -> float:
        """Right by tried."""
        return self.right / self.of if self.of else 0.5

    def interval(self) -> tuple[float, float]:
        """Wilson's score interval (1927)."""
        if not self.of:
            return 0.0, 1.0
        z, n, p = 1.959964, self.of, self.share
        centre, spread = p + z * z / (2 * n), z * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
        return (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)

    def text(self) -> str:
        """Per cent with its interval."""
        low, high = self.interval()
        return f"{100 * self.share:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def shortcut_grade(accuracy: Accuracy, either_way: bool = True) -> Grade:
    """``look`` where the judge is surely right (or wrong, which is as telling) more often than :data:`TELLING`."""
    low, high = accuracy.interval()
    if accuracy.of < LEAST_PAIRS:
        return "fine"
    return "look" if low > TELLING or (either_way and high < 1 - TELLING) else "fine"


def length_finding(chosen: NDArray[np.int32], rejected: NDArray[np.int32], named: Named) -> Finding:
    """A judge that prefers the longer answer."""
    accuracy = Accuracy(float((chosen > rejected).sum() + 0.5 * (chosen == rejected).sum()), len(chosen))
    name = "longer" if accuracy.share >= 0.5 else "shorter"
    shown = accuracy if accuracy.share >= 0.5 else Accuracy(accuracy.of - accuracy.right, accuracy.of)
    means = f"mean {chosen.mean():.0f} against {rejected.mean():.0f} characters"
    detail = f"{named.chosen} is {name} in {shown.text()} of {named.pairs}; {means}"
    return Finding("length-shortcut", shortcut_grade(accuracy), round(shown.right), len(chosen), detail)


def first_word_finding(chosen: list[str], rejected: list[str], named: Named) -> Finding:
    """A judge of the first word: learnt on even pairs, tried on odd ones."""
    wins, seen = Counter(chosen[::2]), Counter(chosen[::2]) + Counter(rejected[::2])

    def score(word: str) -> float:
        return (wins[word] + 1) / (seen[word] + 2)

    tried = [(score(a), score(b)) for a, b in zip(chosen[1::2], rejected[1::2], strict=True)]
    accuracy = Accuracy(sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in tried), len(tried))
    telling = sorted((w for w in seen if seen[w] >= 20), key=lambda w: -abs(score(w) - 0.5) * seen[w] ** 0.5)[:4]
    words = ", ".join(f"{w!r} wins {100 * wins[w] / seen[w]:.0f} % of {seen[w]}" for w in telling) or "no word is common"
    detail = f"the first word alone predicts {accuracy.text()} of held-out labels; {words}"
    if accuracy.of < LEAST_PAIRS:
        detail += f"; {accuracy.of} held-out {named.pairs} are too few to grade it by"
    return Finding("first-word-shortcut", shortcut_grade(accuracy, either_way=False), round(accuracy.right), accuracy.of, detail)


def mark_finding(chosen: NDArray[np.uint8], rejected: NDArray[np.uint8]) -> Finding:
    """Judges that prefer the answer with a mark, over the pairs where one has it and the other has not."""
    grades, parts, most = [], [], (0, 0)
    for bit, name in enumerate(MARKS):
        a, b = (chosen >> bit) & 1, (rejected >> bit) & 1
        accuracy = Accuracy(float((a > b).sum()), int((a != b).sum()))
        telling = shortcut_grade(accuracy) == "look" and accuracy.of > 0.05 * len(chosen)
        grades.append(telling)
        if telling:
            parts.append(f"the response with {name} wins {accuracy.text()} of {accuracy.of}")
            most = max(most, (accuracy.of, round(accuracy.right)))
    detail = "; ".join(parts) or "no list, bold, heading, code, emoji, exclamation mark or refusal tells the label"
    return Finding("mark-shortcut", "look" if any(grades) else "fine", most[1], len(chosen), detail)


PARTS = 10
"""Parts of a set, in the order of its rows, that are compared."""
TURNED = 0.55
"""A feature that surely wins more often than this in one part and surely loses as often in another has turned round."""


def turned_finding(
    rows: NDArray[np.int64],
    lengths: tuple[NDArray[np.int32], NDArray[np.int32]],
    marked: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    named: Named,
) -> Finding:
    """Whether length or a mark speaks for chosen in one part of the rows and for rejected in another.

    Args:
        rows: numbers of the pairs' rows. lengths, marked: of chosen and of rejected answers.
    """
    parts = np.array_split(np.arange(len(rows)), max(1, min(PARTS, len(rows) // LEAST_PAIRS)))
    features = {"the longer response": lengths}
    features |= {f"the response with {name}": ((marked[0] >> bit) & 1, (marked[1] >> bit) & 1) for bit, name in enumerate(MARKS)}
    told, turned = [], np.empty(0, int)
    for name, (chosen, rejected) in features.items():
        wins = [Accuracy(float((chosen[p] > rejected[p]).sum()), int((chosen[p] != rejected[p]).sum())) for p in parts]
        for_it = [p for p, a in zip(parts, wins, strict=True) if a.interval()[0] > TURNED]
        against = [p for p, a in zip(parts, wins, strict=True) if a.interval()[1] < 1 - TURNED]
        if for_it and against:
            spans = ["; ".join(f"{rows[p[0]]} to {rows[p[-1]]}" for p in some) for some in (for_it, against)]
            told.append(f"{name} wins in rows {spans[0]} and loses in rows {spans[1]}")
            turned = np.union1d(turned, np.concatenate(min(for_it, against, key=len)))
    detail = ". ".join(told) or ("no part differs" if len(parts) > 1 else f"{len(rows)} {named.pairs} are too few to compare parts")
    return Finding("turned-part", "look" if told else "fine", len(turned), len(rows), detail)


def probe_finding(chosen: list[str], rejected: list[str], named: Named, seed: int = 0) -> tuple[Finding, dict[str, list[str]]]:
    """Logistic regression on the difference of word counts, tried on pairs that it did not learn from.

    Returns the finding, and the words that speak most for chosen and for rejected.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    count = len(chosen)
    if count < 2 * LEAST_PAIRS:
        return Finding("word-probe", "fine", 0, count, f"{count} {named.pairs} are too few to tell"), {"chosen": [], "rejected": []}
    counter = CountVectorizer(min_df=max(3, count // 500), max_features=20000, binary=True, token_pattern=r"(?u)\b\w+\b")
    try:
        counter.fit([*chosen, *rejected])
    except ValueError:  # no word stands in enough answers (ids, a script without spaces)
        return Finding("word-probe", "fine", 0, count, "too few words are common"), {"chosen": [], "rejected": []}
    difference = counter.transform(chosen) - counter.transform(rejected)
    signs = np.random.default_rng(seed).choice([-1, 1], count)
    difference = difference.multiply(signs[:, None]).tocsr()  # else the label would be the order
    cut = count * 3 // 4
    model = LogisticRegression(C=0.1, max_iter=200, fit_intercept=False).fit(difference[:cut], signs[:cut])
    right = (model.predict(difference[cut:]) == signs[cut:]).sum()
    accuracy = Accuracy(float(right), count - cut)
    weights, words = model.coef_[0], counter.get_feature_names_out()
    order = np.argsort(weights)
    speaks = {
        "chosen": [str(words[i]) for i in order[::-1][:12] if weights[i] > 0],
        "rejected": [str(words[i]) for i in order[:12] if weights[i] < 0],
    }
    low, _ = accuracy.interval()
    detail = (
        f"words alone predict {accuracy.text()} of held-out labels; for {named.chosen}: {', '.join(speaks['chosen'][:6])}; "
        f"for {named.rejected}: {', '.join(speaks['rejected'][:6])}"
    )
    return Finding("word-probe", "look" if low > 0.75 else "fine", round(accuracy.right), accuracy.of, detail), speaks
