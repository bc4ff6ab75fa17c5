"""Checks that need one record alone; pure functions of its text."""

from __future__ import annotations

import re
import unicodedata

from prefine.audit.broken import is_broken
from prefine.audit.loops import loops
from prefine.audit.personal import has_personal_data
from prefine.audit.refusals import refuses
from prefine.audit.remains import templated
from prefine.audit.secrets import kinds_of_secret
from prefine.preferences.convert import answers_of
from prefine.preferences.draws import normalised
from prefine.preferences.records import Labelled, Pair, Record, plain_text

CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u034f\u115f\u1160\u180e\u200b\u2028\u2029\u202a-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0"
    "\ufff0-\uffff\ufdd0-\ufdef\ue000-\uf8ff\U000f0000-\U0010ffff]|\r(?!\n)|[\u0300-\u036f\u0483-\u0489]{3}"
    # joiners beside Latin letters, marks of direction between them, selectors of a variant in a row or behind a letter
    "|[\u200c\u200d](?:(?<=[A-Za-z0-9 .,].)|(?=[A-Za-z0-9 ]))|[\u200e\u200f](?:(?<=[A-Za-z .,].)|(?=[A-Za-z ]))"
    "|[\ufe00-\ufe0e\U000e0100-\U000e01ef](?:(?<=[A-Za-z .,].)|[\ufe00-\ufe0f\U000e0100-\U000e01ef])|\ufe0f(?<=[A-Za-z .,].)"
    # tags outside of the flags of England, Scotland and Wales
    "|[\U000e0000-\U000e007f](?<![\U0001f3f4\U000e0020-\U000e007f].)"
)
FIRST_WORDS = 4
LEAST_LETTERS, SHORT = 8, 12
"""A prompt of fewer letters is none to repeat; one of fewer words, without a stop or a question's word, is as likely a title."""
LABEL = re.compile(r"[\W_]*(?:(?:question|q|prompt|user|human|input|query|instruction|you asked|the question)\s*:)?[\W_]*", re.IGNORECASE)
LONGEST_LABEL = 16
WORD = re.compile(r"\w+")
STRAIGHT = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "\u200b": None, "\u2060": None, "\ufeff": None})
ASKS = frozenset((
    "how", "what", "why", "when", "where", "who", "whom", "whose", "which", "is", "are", "do", "does", "can", "could", "should",
    "would", "will", "name", "list", "write", "explain", "give", "tell", "describe", "make", "find", "fix", "sort", "compare",
    "summarise", "summarize", "translate", "please",
))  # fmt: skip


def flags(record: Record) -> list[str]:
    """Names of the row checks that a record fails."""
    prompt = plain_text(record.prompt)
    answers = [plain_text(a) for a in answers_of(record)]
    texts = [prompt, *answers]
    whole = "\n".join(texts)
    words = whole.split()
    untyped = whole if whole.isascii() else without_typed(whole)
    found = []
    if isinstance(record, Pair) and _equal(*answers):
        found.append("equal-normalised")
    if isinstance(record, Pair) and record.scores is not None and record.scores[0] < record.scores[1]:
        found.append("reversed-scores")
    if any(map(templated, texts)):
        found.append("templated")
    if any(repeats_prompt(record, prompt, answer) for answer in answers):
        found.append("prompt-repeated")
    if not (untyped.isascii() and untyped.replace("\n", " ").isprintable()) and CONTROL.search(whole):
        found.append("control-characters")
    if is_broken(untyped if untyped.isascii() else whole):
        found.append("broken-text")
    if kinds_of_secret(whole, words):
        found.append("secrets")
    if has_personal_data(whole):
        found.append("personal-data")
    if any(loops(a) for a in (answers[:1] if isinstance(record, Pair) else answers if _wanted(record) else [])):
        found.append("looping-answer")
    if (isinstance(record, Pair) or _wanted(record)) and refuses(answers[0]) and not (len(answers) > 1 and refuses(answers[1])):
        found.append("chosen-refuses")
    return found


def without_typed(text: str) -> str:
    """A text without well-typed quotes and dashes: in English nothing else but them is beyond ASCII."""
    for letter in "’“”–—":
        text = text.replace(letter, "")
    return text


def _wanted(record: Record) -> bool:
    return isinstance(record, Labelled) and record.label


def _equal(first: str, second: str) -> bool:
    """Whether two answers are the same but for case, white space, kinds of quotes and punctuation at the ends."""
    a, b = (_even(" ".join(text.split(maxsplit=FIRST_WORDS)[:FIRST_WORDS])) for text in (first, second))
    return (a.startswith(b) or b.startswith(a)) and _even(first) == _even(second)


def _even(text: str) -> str:
    return normalised(text if text.isascii() else unicodedata.normalize("NFKC", text.translate(STRAIGHT)))


def repeats_prompt(record: Record, prompt: str, answer: str) -> bool:
    """Whether an answer begins with its whole prompt or the prompt's last message; case, punctuation, quotation and a label aside."""
    last = prompt if isinstance(record.prompt, str) else plain_text(record.prompt[-1:])
    opening = _opening(answer)
    return any(opening == _opening(asked) and _begins(answer, asked) for asked in {prompt, last})


def _opening(text: str) -> str:
    """The first letters of the first word."""
    head = text[:80]
    if head[:3].isalnum() and ":" not in head[:LONGEST_LABEL]:
        return head[:3].casefold()
    at = LABEL.match(head)
    return head[at.end() if at else 0 :][:3].casefold()


def _begins(answer: str, asked: str) -> bool:
    """A short prompt must be a question or a sentence: an answer may well open with the few words that it was asked about."""
    wanted = WORD.findall(asked.casefold())
    letters = sum(map(len, wanted))
    if letters < LEAST_LETTERS or (len(wanted) < SHORT and not (re.search(r"[.?!:;。？！]", asked) or wanted[0] in ASKS)):
        return False
    at = LABEL.match(answer)
    given = answer[at.end() if at else 0 :][: 2 * len(asked) + 200]
    words = WORD.findall(given.casefold())
    if len(wanted) > 1:
        return words[: len(wanted)] == wanted
    return given.casefold().startswith(asked.strip().casefold())  # a script without spaces
