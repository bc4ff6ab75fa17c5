"""Text that was decoded wrongly."""

from __future__ import annotations

import re

LOST = re.compile(
    "\ufffd|锟斤拷|烫烫烫|ï»¿|ï¿½"
    "|ΓÇ[^\\s\\w]|ΓÇ[Öô£¥ö]|√[†©®™´¨≠Æ≥¢°§∂±º]"  # read as code page 437, as MacRoman
    "|Õ(?<=[a-z]Õ)(?=[a-z]{1,2}\\b)"  # MacRoman's apostrophe, read as Latin-1
    "|(?:[ÐÑØÙ][\u0080-\u00bf…‡ƒ†ˆ‰Š‹Œ‘’“”•–—˜™š›œžŸ]){2}"
)
"""What ftfy leaves alone: letters that are lost, and short runs."""
TYPED = "’“”–—"
"""Well-typed punctuation, which is most of what is not ASCII in English; in broken text other letters stand beside it."""
EAST_ASIAN = re.compile("[\u3000-\u9fff\uff61-\uff9f\uf900-\ufaff]{2,}")
EAST_ASIAN_CODES = ("gb18030", "cp932", "big5")
TYPOGRAPHIC = re.compile("[\u2010-\u2026]")


def is_broken(text: str) -> bool:
    """Whether a text shows letters that come of reading UTF-8 as another encoding.

    The judge is ftfy: its sign of badness, and that undoing the wrong decoding makes another text.
    """
    if text.isascii():
        return False
    rest = text
    for letter in TYPED:
        rest = rest.replace(letter, "")
    if rest.isascii():
        return False
    text = "\n".join(line for line in text.split("\n") if not line.isascii())
    if LOST.search(text):
        return True
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    if is_bad(text) and any(is_bad(line) and fix_encoding(line) != line for line in text.split("\n")):
        return True
    return any(_was_utf8(found.group()) for found in EAST_ASIAN.finditer(text))


def _was_utf8(run: str) -> bool:
    """Whether Chinese or Japanese letters are the bytes of UTF-8 text in an East Asian encoding."""
    for code in EAST_ASIAN_CODES:
        try:
            meant = run.encode(code).decode("utf-8")
        except UnicodeError:
            continue
        if TYPOGRAPHIC.search(meant) or len(run) >= 4:
            return True
    return False
