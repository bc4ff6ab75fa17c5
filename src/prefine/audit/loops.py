"""Answers that say the same over and over: a phrase, a line, a sentence, a syllable."""

from __future__ import annotations

import itertools
import operator
import re
from collections import Counter

MOST_WORDS = 2000
"""Only this many words of each end of a text are looked at."""
LEAST_AGAIN = 6
"""Words that come again in the shortest loop."""
PUNCTUATION = ".,!?;:\"'#"
LEAST_LETTERS = 12
"""Shorter lines and sentences may come often."""
COUNTED = re.compile(r"(?m)^[ \t]*(?:\d{1,4}[.):]|[a-z]\)|[-*•>])[ \t]+")
SENTENCE_END = re.compile(r"[.!?。！？\n]+")
STUTTER = re.compile(r"([^\W\d_]{1,40}?)\1{11,}")
MARKS = re.compile(r"[!?]{20}|(.{1,2})\1{11,}")
"""Shouting, and emoji over and over; rules and dots that lead to a number are none of it."""
PHRASE = re.compile(r"([^\s\d_=*.~#<-][^\s=*~#<>/\\|-]{3,60}?)\1{3,}")
TAIL = re.compile(r"(.{1,6}?)\1{9,}$")
RULES = frozenset("-=_*#|+~`")
"""Characters of which lines are drawn."""
UNSPACED = 24
"""A word longer than this may be a loop without spaces, or a script that has none."""


def repeats_for(period: int) -> int:
    """How often in a row a phrase of so many words is said before it is a loop."""
    return 10 if period == 1 else 5 if period == 2 else 4 if period < 12 else 3


def loops(text: str) -> bool:
    """Whether a text repeats a phrase in a row, or a line or a sentence for half of its length."""
    words = text.split()
    if len(words) - len(set(words)) >= LEAST_AGAIN and _loops_in_words(text):
        return True
    return _tail(words) or any(_stutters(word) for word in words if len(word) > UNSPACED and 3 * len(set(word)) <= len(word))


def _loops_in_words(text: str) -> bool:
    words = _plain(text)
    if sum(map(operator.eq, words, words[1:])) >= max(8, len(words) / 4) and any(map(str.isalpha, words)):  # each word twice
        return True
    often = _often(words)
    if often >= 8 and (_phrase(words) or (COUNTED.search(text) and _phrase(_plain(COUNTED.sub("", text))))):
        return True
    if often >= 4 and _half(text):
        return True
    sentences = text.split(". ")
    twice = (a for a, b in itertools.pairwise(sentences) if a == b)
    return sum(len(a) > LEAST_LETTERS and a[0].isalpha() for a in twice) >= 3


def _plain(text: str) -> list[str]:
    """Words without case and punctuation; of a very long text those of both ends."""
    text = text.casefold()
    for mark in PUNCTUATION:
        text = text.replace(mark, "")
    words = text.split()
    return words if len(words) <= 2 * MOST_WORDS else words[:MOST_WORDS] + words[-MOST_WORDS:]


def _often(words: list[str]) -> int:
    """How many triples of words stand there three times or more: in prose hardly one, in a loop nearly all."""
    counts = Counter(zip(words, words[1:], words[2:], strict=False))
    return sum(count for count in counts.values() if count > 2)


def _phrase(words: list[str]) -> bool:
    """Whether some phrase stands in a row often enough. A period is tried where neighbours come again at its distance."""
    last: dict[tuple[str, str], int] = {}
    distances: Counter[int] = Counter()
    for at, pair in enumerate(itertools.pairwise(words)):
        if pair in last:
            distances[at - last[pair]] += 1
        last[pair] = at
    for period, count in distances.items():
        need = period * (repeats_for(period) - 1)
        if 2 * count >= need and _run(words, period, need):
            return True
    return False


def _run(words: list[str], period: int, need: int) -> bool:
    """Whether ``need`` words in a row equal those ``period`` before them, real words among them."""
    run = 0
    for at in range(period, len(words)):
        run = run + 1 if words[at] == words[at - period] else 0
        if run >= need and any(word.isalpha() for word in words[at - period + 1 : at + 1]):
            return True
    return False


def _half(text: str) -> bool:
    """Whether one line or sentence of some length stands four times and makes up half of the text."""
    parts = [part.strip().casefold() for part in SENTENCE_END.split(COUNTED.sub("", text))]
    parts = [part for part in parts if len(part) > LEAST_LETTERS]
    if len(parts) < 4:
        return False
    ends = Counter(" ".join(part.split()[3:]) for part in parts if len(part.split()) > 6)
    if ends and (most_common := ends.most_common(1)[0])[1] >= max(5, len(parts) / 2) and any(map(str.isalpha, most_common[0])):
        return True  # sentences that differ in how they begin
    most, times = Counter(parts).most_common(1)[0]
    if times < 4:  # lines that differ in a number alone
        most, times = Counter(re.sub(r"\d+", "#", part) for part in parts).most_common(1)[0]
        if times < 6 or sum(map(str.isalpha, most)) < 15:
            return False
    return times * len(most) >= sum(map(len, parts)) / 2 and any(map(str.isalpha, most))


def _tail(words: list[str]) -> bool:
    """Whether the last signs of a text are a few over and over, words or not."""
    end = "".join(words[-40:])[-120:]
    if len(set(end[-12:])) > 6:
        return False
    found = TAIL.search(end)
    if not found or RULES.issuperset(found[1]):
        return False
    return len(found.group()) >= (60 if found[1].isalnum() or "." in found[1] else UNSPACED)


def _stutters(word: str) -> bool:
    """Whether one unspaced word says a syllable a dozen times or a phrase four times."""
    start = word[:600]
    if any(sum(not c.isalnum() and (ord(c) > 0x2600 or c in "!?") for c in found.group()) >= 12 for found in MARKS.finditer(start)):
        return True
    for found in STUTTER.finditer(start):
        if len(found.group()) >= UNSPACED:
            return True
    return any(any(c.isalpha() and not c.isupper() for c in found.group(1)) for found in PHRASE.finditer(start))
