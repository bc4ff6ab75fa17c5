"""Text that was decoded wrongly."""

from __future__ import annotations

import re

LOST = re.compile(
    "\ufffd|锟斤拷|烫烫烫|ï»¿|ï¿½"
    "|ΓÇ[^\\s\\w]|ΓÇ[Öô£¥ö]|√[†©®™´¨≠Æ≥¢°§∂±º]"  # read as code page 437, as MacRoman
    "|Õ(?<=[a-z]Õ)(?=[a-z]{1,2}\\b)"  # MacRoman's apostrophe, read as Latin-1
    "|(?:[ÐÑØÙ][\u0080-\u00bf…‡ƒ†ˆ‰Š‹Œ‘’“”•–—˜™š›œžŸ]){2}|[À-ÿ]{5}"
    "|Г(?<=[A-Za-z]Г)\\S|[ГВ][©ЎЈ±°Ёє§¶Ґ…«»][a-z ]"  # read as Windows-1251
    "|[а-яё](?<=\\s[а-яё])[А-ЯЁ]{2,}\\s(?=[а-яё][А-ЯЁ]{2})|(?:[طظ][^\\sء-ي]){2}"  # KOI8 as Windows-1251, UTF-8 as Windows-1256
)
"""What ftfy leaves alone: letters that are lost, short runs, encodings other than UTF-8."""
SPELT = re.compile(
    r"[A-Za-z]\\u00[c-f][0-9a-f]|\\ud83[c-e]\\ud[c-f]|=C3=[89AB][0-9A-F]|=E2=80=|&amp;(?!lt|gt|amp|quot|nbsp|apos)(?:[A-Za-z]{2,8}"
    r"|#\d{2,5});"
)
"""Escapes of other formats that were not undone."""
EAST_ASIAN = re.compile("[\u3000-\u9fff\uff61-\uff9f\uf900-\ufaff]{2,}")
EAST_ASIAN_CODES = ("gb18030", "cp932", "big5")
TYPOGRAPHIC = re.compile("[\u2010-\u2026]")


def is_broken(text: str) -> bool:
    """Whether a text shows letters that come of reading UTF-8 as another encoding.

    The judge is ftfy: its sign of badness, and that undoing the wrong decoding makes another text.
    """
    if ("\\u" in text or "=C3" in text or "=E2=" in text or "&amp;" in text) and SPELT.search(text):
        return True
    if text.isascii():
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
