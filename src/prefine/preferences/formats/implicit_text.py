"""Two plain texts that share their beginning: the prompt is what they have in common."""

from __future__ import annotations

from prefine.preferences.formats.format import Format, Row, Skip, one, refuse_images, scores_of
from prefine.preferences.formats.implicit import common_length
from prefine.preferences.formats.transcripts import is_transcript
from prefine.preferences.records import Pair


def split_text(chosen: str, rejected: str) -> tuple[str, str, str]:
    """Two texts as their common beginning, cut where a word begins, and what follows it in each.

    Raises:
        Skip: they are equal, or share no whole word at their beginning.
    """
    if chosen == rejected:
        raise Skip("chosen equals rejected")
    same = common_length(chosen, rejected)
    # The white space before the first differing word belongs to the answers, as tokenizers write it.
    while same > 0 and not (chosen[same : same + 1].isspace() and not chosen[same - 1].isspace()):
        same -= 1
    if not chosen[:same].strip():
        raise Skip("the two texts share no beginning, so there is no prompt; name the column that holds it (--map prompt=COLUMN)")
    return chosen[:same], chosen[same:], rejected[same:]


def _convert_text(row: Row, number: int) -> Pair:
    refuse_images(row)
    return Pair(*split_text(row["chosen"], row["rejected"]), number, scores_of(row))


def _is_implicit_text(row: Row) -> bool:
    """Text on both sides, no transcript, and no other column that might hold the prompt."""
    sides = [row.get("chosen"), row.get("rejected")]
    if not all(isinstance(s, str) and not is_transcript(s) for s in sides):
        return False
    others = [value for name, value in row.items() if name not in ("chosen", "rejected", "id", "source", "chat_template_kwargs")]
    return all(value is None or isinstance(value, bool | int | float) for value in others) and "prompt" not in row


IMPLICIT_TEXT = Format(
    "implicit-text",
    "chosen, rejected as plain text with the same beginning, which is the prompt (TRL's standard preference without a prompt)",
    ("chosen", "rejected"),
    _is_implicit_text,
    one(_convert_text),
)
