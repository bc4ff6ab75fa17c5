"""A response's reasoning and what is said in the end: models that think write both into one text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

TAGS = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"), ("<seed:think>", "</seed:think>"))
"""What opens and closes reasoning: Qwen, DeepSeek and SmolLM; Claude's exports; Magistral; Seed-OSS."""
CHANNEL = "<|channel|>"
HARMONY = (CHANNEL, "<|message|>", "<|start|>", "<|end|>", "<|constrain|>")
"""Marks of GPT-OSS's format, in which each part of a response names its channel."""
_PART = re.compile(
    r"<\|channel\|>\s*(\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>(.*?)(?=<\|end\|>|<\|start\|>|<\|channel\|>|$)", re.DOTALL
)


def split_reasoning(text: str) -> tuple[str | None, str]:
    """Reasoning, None where there is none, and the final response, empty where the text was cut before it.

    Reasoning that the prompt opened, as other tools' files have it, is known by its closing mark alone on a line.
    """
    begun = text.lstrip()
    for start, end in TAGS:
        if begun.startswith(start):
            thought, _, final = begun.removeprefix(start).partition(end)
            return thought.strip(), final.strip()
        closed = re.search(rf"^[ \t]*{re.escape(end)}[ \t]*$", text, re.MULTILINE) if end in text else None
        if closed and start not in text[: closed.start()]:
            return text[: closed.start()].strip(), text[closed.end() :].strip()
    return None, text


def reasoning_is_open(prompt: str) -> bool:
    """Whether a prompt's text ends within reasoning that it opens."""
    return bool(_opened(prompt))


def reasoning_end(text: str, opened: bool = False) -> int:
    """Where reasoning ends in a response as a template writes it, behind the mark that ends it; 0 where there is none.

    What nothing ends is reasoning to its end.
    """
    begun = text.lstrip()
    for start, end in TAGS:
        if begun.startswith(start) or (opened and end in text):
            return text.index(end) + len(end) if end in text else len(text)
    if opened:
        return len(text)
    if not begun.startswith((CHANNEL, "<|start|>")):
        return 0
    last = text.rfind("<|end|>", 0, max(0, text.rfind(f"{CHANNEL}final")))
    return last + len("<|end|>") if last >= 0 else 0


def said(tokenizer: Any, ids: Sequence[int], prompt: Any = ()) -> str:
    """A response's text without special tokens but for those that mark reasoning; channels are written as ``<think>``.

    Args:
        prompt: its ids, a sequence or an array; where it opens reasoning, that mark is written before the response.
    """
    text = _text(tokenizer, ids)
    opened = "" if not len(prompt) else next(iter(_opened(tokenizer.decode(list(prompt[-PROMPT_END:]), skip_special_tokens=False))), "")
    return f"{opened}\n{text}" if opened and not text.startswith(opened) else text


PROMPT_END = 16
"""Tokens of a prompt's end in which a mark is looked for."""


def _opened(prompt: str) -> list[str]:
    return [start for start, _ in TAGS if prompt.rstrip().endswith(start)]


def _text(tokenizer: Any, ids: Sequence[int]) -> str:
    marks = _marks(tokenizer)
    if not any(i in marks for i in ids):
        return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
    text = ""
    part: list[int] = []
    for i in ids:
        if i in marks:
            text += tokenizer.decode(part, skip_special_tokens=True) + marks[i]
            part = []
        else:
            part.append(i)
    text += tokenizer.decode(part, skip_special_tokens=True)
    return (_from_channels(text) if CHANNEL in text else text).strip()


def has_channels(tokenizer: Any) -> bool:
    """Whether a model speaks in GPT-OSS's channels."""
    return CHANNEL in _marks(tokenizer).values()


def _marks(tokenizer: Any) -> dict[int, str]:
    """Special tokens that are kept in a response's text, by id."""
    special = {str(t) for t in getattr(tokenizer, "added_tokens_decoder", {}).values() if t.special}
    special |= set(map(str, getattr(tokenizer, "all_special_tokens", ())))
    names = [tag for pair in TAGS for tag in pair if tag in special]
    names += [mark for mark in HARMONY if mark in special] if CHANNEL in special else []
    return {tokenizer.convert_tokens_to_ids(name): name for name in names}


def _from_channels(text: str) -> str:
    parts = _PART.findall(text)
    thought = "\n".join(words.strip() for channel, words in parts if channel != "final")
    final = "".join(words for channel, words in parts if channel == "final").strip()
    if not thought:
        return final
    return f"<think>\n{thought}\n</think>\n\n{final}" if final else f"<think>\n{thought}"
