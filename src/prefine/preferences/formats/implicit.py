"""Two whole conversations that share their beginning: the prompt is what they have in common."""

from __future__ import annotations

from prefine.preferences.formats.format import Format, Row, Skip, is_messages, messages_of, one, refuse_images, scores_of, tools_of
from prefine.preferences.records import Message, Pair


def split_common(chosen: tuple[Message, ...], rejected: tuple[Message, ...], number: int) -> Pair:
    """Cut two conversations after their last common message.

    Raises:
        Skip: they do not differ in the last turn alone.
    """
    same = 0
    while same < min(len(chosen), len(rejected)) and chosen[same] == rejected[same]:
        same += 1
    if same == len(chosen) == len(rejected):
        raise Skip("chosen equals rejected")
    if same < len(chosen) - 1:
        raise Skip("transcripts diverge before the last turn")
    if same < len(rejected) - 1:
        raise Skip("rejected goes on for more turns than chosen")
    if same == 0:
        raise Skip("the two sides share no prompt")
    return Pair(chosen[:same], chosen[same:], rejected[same:], number)


def _convert(row: Row, number: int) -> Pair:
    refuse_images(row)
    pair = split_common(messages_of(row["chosen"]), messages_of(row["rejected"]), number)
    if pair.chosen[-1:] and pair.chosen[-1]["role"] == "user":  # type: ignore[index]
        raise Skip("the last turn is not the assistant's")
    return Pair(pair.prompt, pair.chosen, pair.rejected, number, scores_of(row), tools_of(row))


def _is_implicit(row: Row) -> bool:
    sides = is_messages(row.get("chosen")) and is_messages(row.get("rejected"))
    return sides and not is_messages(row.get("prompt")) and "conversations" not in row


IMPLICIT = Format(
    "implicit-prompt",
    "chosen, rejected as messages that begin with the prompt (UltraFeedback binarized, Tulu's mixture, argilla's cleaned set)",
    ("chosen", "rejected"),
    _is_implicit,
    one(_convert),
)
