"""Two answers and who won: Chatbot Arena, SHP, HelpSteer, summaries with a choice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prefine.preferences.formats.format import (
    Format,
    Row,
    Skip,
    assistant,
    chat_prompt,
    is_messages,
    messages_of,
    number_of,
    one,
)
from prefine.preferences.formats.implicit import split_common
from prefine.preferences.formats.rated import ranked
from prefine.preferences.records import Dropped, Pair, Ranked

FIRST, SECOND = ("model_a", "a", "A", "[[A]]", "1", 1), ("model_b", "b", "B", "[[B]]", "2", 2)


def _first_wins(winner: Any) -> bool:
    if winner in FIRST:
        return True
    if winner in SECOND:
        return False
    raise Skip("a tie" if "tie" in str(winner).lower() else "winner is none of model_a, model_b and tie")


def _arena(row: Row, number: int) -> Pair:
    sides = messages_of(row["conversation_a"]), messages_of(row["conversation_b"])
    better, worse = sides if _first_wins(row["winner"]) else sides[::-1]
    return split_common(better, worse, number)


ARENA = Format(
    "arena",
    "conversation_a, conversation_b, winner (lmsys/chatbot_arena_conversations)",
    ("conversation_a", "conversation_b", "winner"),
    lambda r: {"conversation_a", "conversation_b", "winner"} <= r.keys() and is_messages(r["conversation_a"]),
    one(_arena),
)


def _shp(row: Row, number: int) -> Pair:
    label = number_of(row["labels"])
    if label not in (0, 1):
        raise Skip("label is neither 1 (A is preferred) nor 0")
    names = ("A", "B") if label == 1 else ("B", "A")
    scores = tuple(number_of(row.get(f"score_{n}")) for n in names)
    known = (scores[0], scores[1]) if scores[0] is not None and scores[1] is not None else None
    answers = tuple(assistant(row[f"human_ref_{n}"]) for n in names)
    return Pair(chat_prompt(row["history"]), answers[0], answers[1], number, known)


SHP = Format(
    "shp",
    "history, human_ref_A, human_ref_B, labels (stanfordnlp/SHP)",
    ("history", "human_ref_A", "human_ref_B", "labels"),
    lambda r: {"history", "human_ref_A", "human_ref_B", "labels"} <= r.keys(),
    one(_shp),
)


def _helpsteer(rows: Sequence[tuple[int, Row]]) -> Iterator[Ranked | Dropped]:
    yield from ranked(chat_prompt(rows[0][1]["prompt"]), ((row["response"], row["helpfulness"], number, row) for number, row in rows))


HELPSTEER = Format(
    "helpsteer",
    "prompt, response, helpfulness: a prompt's responses in rows one after another (nvidia/HelpSteer2)",
    ("prompt", "response", "helpfulness"),
    lambda r: {"prompt", "response", "helpfulness"} <= r.keys(),
    _helpsteer,
    gather=lambda r: r["prompt"] if isinstance(r["prompt"], str) else repr(r["prompt"]),
)


def _strength(row: Row, number: int) -> Pair:
    strength = number_of(row["preference_strength"])
    if not strength:
        raise Skip("a tie" if strength == 0 else "preference_strength is not a number")
    names = ("response_2", "response_1") if strength > 0 else ("response_1", "response_2")
    return Pair(chat_prompt(row["prompt"]), assistant(row[names[0]]), assistant(row[names[1]]), number, (abs(strength), 0.0))


HELPSTEER_PREFERENCE = Format(
    "helpsteer-preference",
    "prompt, response_1, response_2, preference_strength, positive for the second (nvidia/HelpSteer2's preference part)",
    ("prompt", "response_1", "response_2", "preference_strength"),
    lambda r: {"prompt", "response_1", "response_2", "preference_strength"} <= r.keys(),
    one(_strength),
)


def _summaries(row: Row, number: int) -> Pair:
    info, summaries, number_chosen = row["info"], row["summaries"], number_of(row["choice"])
    if number_chosen not in (0, 1) or len(summaries) != 2 or not isinstance(info, dict):
        raise Skip("choice is neither 0 nor 1, or there are not two summaries")
    choice = int(number_chosen)
    text = info.get("post") or info.get("article")
    head = f"SUBREDDIT: r/{info['subreddit']}\nTITLE: {info['title']}\nPOST: " if info.get("subreddit") and info.get("title") else ""
    answers = tuple(assistant(s.get("text")) for s in (summaries[choice], summaries[1 - choice]))
    return Pair(chat_prompt(f"{head}{text}\nTL;DR:" if isinstance(text, str) else None), answers[0], answers[1], number)


SUMMARIES = Format(
    "summaries",
    "info with a post, two summaries, choice (openai/summarize_from_feedback)",
    ("info", "summaries", "choice"),
    lambda r: {"info", "summaries", "choice"} <= r.keys(),
    one(_summaries),
)
