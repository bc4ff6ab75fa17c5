"""Draws that depend on what is drawn, not on its place: stable when rows are added or their order changes."""

from __future__ import annotations

from collections.abc import Iterable

from prefine.preferences.records import Asked, PromptText, identity, prompt_identity


def _hash(data: bytes) -> int:
    import hashlib  # a fortieth of the time that a small command takes to start

    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def text_key(text: str) -> int:
    """64 bits of a text's hash."""
    return _hash(text.encode("utf-8", "surrogatepass"))


def prompt_text_key(record: Asked) -> int:
    """64 bits of the hash of a record's prompt as :func:`prefine.preferences.records.prompt_identity` has it."""
    return text_key(prompt_identity(record))


def record_key(record: Asked, answers: Iterable[PromptText]) -> int:
    """64 bits of the hash of a record's prompt and these answers; case, white space and punctuation at the ends do not count."""
    return texts_key(map(normalised, (prompt_identity(record), *map(identity, answers))))


def share(key: int, seed: int) -> float:
    """A number in [0, 1) that key and seed decide."""
    return _hash(f"{seed} {key}".encode()) / 2**64


def normalised(text: str) -> str:
    """Case, white space and punctuation at the ends do not count."""
    return " ".join(text.split()).strip(" .!?,;:\"'").casefold()


def texts_key(texts: Iterable[str]) -> int:
    """64 bits of the hash of several texts in order."""
    return text_key("\0".join(texts))


LEAST_HELD_OUT = 30
"""Prompts to hold out where nobody says how many: with fewer an interval is too wide to tell anything."""


def held_out_count(prompts: int, fraction: float | None, most: int) -> int:
    """How many prompts are held out; without a fraction one in twenty, at least :data:`LEAST_HELD_OUT`, at most one in five."""
    if fraction is not None:
        return min(most, round(prompts * fraction))
    return min(most, max(round(0.05 * prompts), min(LEAST_HELD_OUT, prompts // 5)))
