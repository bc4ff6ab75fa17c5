"""Checks that need one record alone; pure functions of its text."""

from __future__ import annotations

import re

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
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
    # tags outside of the flags of England, Scotland and Wales
    "|[\U000e0000-\U000e007f](?<![\U0001f3f4\U000e0020-\U000e007f].)"
)
FIRST_WORDS = 4
LEAST_REPEATED, SHORT = 3, 12
"""Words: fewer are no prompt to repeat; with fewer than these a title is as likely."""
QUOTING = " \n\t>\"'“*"


def flags(record: Record) -> list[str]:
    """Names of the row checks that a record fails."""
    prompt = plain_text(record.prompt)
    answers = [plain_text(a) for a in answers_of(record)]
    texts = [prompt, *answers]
    whole = "\n".join(texts)
    words = whole.split()
    found = []
    if isinstance(record, Pair) and _equal(*answers):
        found.append("equal-normalised")
    if isinstance(record, Pair) and record.scores is not None and record.scores[0] < record.scores[1]:
        found.append("reversed-scores")
    if any(map(templated, texts)):
        found.append("templated")
    if any(repeats_prompt(record, prompt, answer) for answer in answers):
        found.append("prompt-repeated")
    if not whole.replace("\n", " ").isprintable() and CONTROL.search(whole):
        found.append("control-characters")
    if is_broken(whole):
        found.append("broken-text")
    if kinds_of_secret(whole, words):
        found.append("secrets")
    if has_personal_data(whole):
        found.append("personal-data")
    if any(loops(a) for a in (answers[:1] if isinstance(record, Pair) else answers if _wanted(record) else [])):
        found.append("looping-answer")
    if isinstance(record, Pair) and refuses(answers[0]) and not refuses(answers[1]):
        found.append("chosen-refuses")
    return found


def _wanted(record: Record) -> bool:
    return isinstance(record, Labelled) and record.label


def _equal(first: str, second: str) -> bool:
    """Whether two answers are the same but for case, white space and punctuation at the ends; most differ in their first words."""
    a, b = (normalised(" ".join(text.split(maxsplit=FIRST_WORDS)[:FIRST_WORDS])) for text in (first, second))
    return (a.startswith(b) or b.startswith(a)) and normalised(first) == normalised(second)


def repeats_prompt(record: Record, prompt: str, answer: str) -> bool:
    """Whether an answer begins with its whole prompt or the prompt's last message, case, white space and a quotation's marks aside."""
    opening = answer[:80].lstrip(QUOTING).casefold()[:4]
    last = prompt if isinstance(record.prompt, str) else plain_text(record.prompt[-1:])
    return any(opening == asked[:80].lstrip()[:4].casefold() and _begins(answer, asked) for asked in {prompt, last})


def _begins(answer: str, asked: str) -> bool:
    """A short prompt must come with its stop: an answer may well open with the few words that it was asked about."""
    words = asked.split()
    if len(words) < LEAST_REPEATED or (len(words) < SHORT and not words[-1].endswith((".", "?", "!", ":"))):
        return False
    plain = " ".join(words).casefold()
    return " ".join(answer.split()).lstrip(QUOTING).casefold().startswith(plain if len(words) < SHORT else plain.rstrip(".?! "))
