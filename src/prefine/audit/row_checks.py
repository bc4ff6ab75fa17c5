"""Checks that need one record alone; pure functions of its text."""

from __future__ import annotations

import re
from collections import Counter

from prefine.preferences.convert import answers_of
from prefine.preferences.draws import normalised
from prefine.preferences.records import Labelled, Pair, Record, plain_text

TEMPLATE_MARKS = (
    *("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|endoftext|>", "<|assistant|>", "<|user|>", "<|end|>"),
    *("<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]", "<<SYS>>", "### Instruction:", "### Response:", "\n\nAssistant:"),
)
TEMPLATED = re.compile("|".join(map(re.escape, TEMPLATE_MARKS)))
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff]")
BROKEN = re.compile("\ufffd|Ã[\u0080-\u00bf©¨ª«¤¢¡¼¶±³]|â€[™œ\u009d“”¦˜]|Â[\u00a0°·»«]")
SECRETS = {
    "AWS key": re.compile(r"\bAKIA[0-9A-Z]{16}\b"),
    "GitHub token": re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36}\b"),
    "Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{20,}"),
    "OpenAI key": re.compile(r"\bsk-(?:proj-)?[A-Za-z0-9_-]{32,}"),
    "Google key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"),
    "JWT": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
}
SECRET_HINTS = ("AKIA", "gh", "xox", "sk-", "AIza", "-----BEGIN", "eyJ")
EMAIL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){0,4}\.[A-Za-z]{2,12}\b")
DIGITS = re.compile(r"\d{3}")
PHONE = re.compile(r"(?<![\d.])(?:\+\d{1,3}[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?!\d)")
SOCIAL = re.compile(r"(?<![\d-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])")
CARD = re.compile(r"(?<!\d)(?:\d{4}[ -]?){3}\d{4}(?!\d)")
SORRY = r"(?:I'm|I am|I’m) (?:very |really |so )?sorry,? (?:but )?(?:I|as an)"
WONT = r"(?:unfortunately,? )?I (?:can't|cannot|can’t|won't|will not|am unable|am not able) (?:to )?"
DO = r"(?:help|assist|provide|do|answer|fulfill|comply|engage|support|write|create|give)"
REFUSAL = re.compile(rf"^\W*(?:{SORRY}|{WONT}{DO}|as an AI(?: language model)?,? I (?:can|do|am|'m not|won))", re.IGNORECASE)


def flags(record: Record) -> list[str]:
    """Names of the row checks that a record fails."""
    prompt = plain_text(record.prompt)
    answers = [plain_text(a) for a in answers_of(record)]
    texts = [prompt, *answers]
    whole = "\n".join(texts)
    found = []
    if isinstance(record, Pair) and normalised(answers[0]) == normalised(answers[1]):
        found.append("equal-normalised")
    if TEMPLATED.search(whole):
        found.append("templated")
    start = prompt.strip()
    if len(start) > 20 and any(a.startswith(start) for a in answers):
        found.append("prompt-repeated")
    if CONTROL.search(whole):
        found.append("control-characters")
    if not whole.isascii() and BROKEN.search(whole):
        found.append("broken-text")
    if kinds_of_secret(whole):
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


def kinds_of_secret(text: str) -> list[str]:
    """Kinds of keys and tokens that a text seems to hold; never the keys themselves."""
    if not any(hint in text for hint in SECRET_HINTS):
        return []
    return [kind for kind, pattern in SECRETS.items() if pattern.search(text)]


def has_personal_data(text: str) -> bool:
    """Whether a text holds an address, a number or a card of someone."""
    if "@" in text and any(not m.group().lower().endswith(("example.com", "example.org")) for m in EMAIL.finditer(text)):
        return True
    if not DIGITS.search(text):
        return False
    return bool(PHONE.search(text) or SOCIAL.search(text) or any(_luhn(m.group()) for m in CARD.finditer(text)))


def _luhn(text: str) -> bool:
    digits = [int(c) for c in text if c.isdigit()]
    total = sum(digits[-1::-2]) + sum(sum(divmod(2 * d, 10)) for d in digits[-2::-2])
    return total % 10 == 0 and len(set(digits)) > 1


def refuses(text: str) -> bool:
    """Whether an answer begins as a refusal."""
    return bool(REFUSAL.match(text[:200]))


def loops(text: str) -> bool:
    """Whether a text repeats lines, or ends in a phrase said four times."""
    lines = [line for line in text.split("\n") if len(line) > 12]
    if len(lines) >= 4 and Counter(lines).most_common(1)[0][1] >= max(4, len(lines) / 2):
        return True
    words = text.split()
    tail = words[-80:]
    # Of a repeated phrase every word stands at least four times at the end; most texts stop here.
    if len(tail) < 8 or tail.count(tail[-1]) < 4:
        return False
    for period in range(1, 21):
        need = max(4 * period, 12)
        if len(tail) >= need and all(tail[-i] == tail[-i - period] for i in range(1, need - period + 1)):
            return True
    return False
