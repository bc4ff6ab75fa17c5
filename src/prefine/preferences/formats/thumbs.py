"""What a value, or several named ones, say of a response: yes, no, or nothing that is sure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from prefine.preferences.formats.format import Skip, number_of

GOOD = frozenset(
    (
        *("good", "great", "yes", "true", "pass", "passed", "correct", "right", "like", "liked", "up", "positive", "helpful"),
        *("accept", "accepted", "approve", "approved", "desirable", "upvote", "upvoted", "👍"),
    )
)
BAD = frozenset(
    (
        *("bad", "poor", "no", "false", "fail", "failed", "incorrect", "wrong", "dislike", "disliked", "down", "negative", "unhelpful"),
        *("reject", "rejected", "undesirable", "downvote", "downvoted", "👎"),
    )
)
BESIDE = frozenset(("a", "an", "the", "answer", "response", "reply", "thumb", "thumbs", "this", "is", "was", "very", "vote", "voted"))
"""Words that may stand beside one that decides."""
PEOPLE = frozenset(
    ("feedback", "thumb", "thumbs", "user", "human", "rating", "ratings", "annotator", "customer", "vote", "upvote", "downvote")
)
"""In the names of scores: those that people gave go before those of graders."""
TWO_STEPS = frozenset(
    (
        *("feedback", "thumb", "thumbs", "like", "liked", "vote", "upvote", "pass", "passed", "correct", "correctness"),
        *("accept", "accepted", "approve", "approved", "approval", "down", "downvote", "dislike", "disliked", "label"),
    )
)
"""In the names of numbers that are 1 or 0, beside nothing but :data:`PLAIN` words: a number of another name may be a count or a star."""
PLAIN = frozenset(
    (
        *("score", "value", "answer", "response", "reply", "output", "the", "is", "was", "a", "up", "by", "of", "from", "end", "explicit"),
        *("user", "human"),
    )
)
JUDGES = frozenset(
    (
        *("verdict", "quality", "choice", "judgement", "judgment", "evaluation", "assessment", "grade", "helpful", "helpfulness", "useful"),
        *("ok", "okay", "good", "preference", "relevant", "relevance", "accurate", "accuracy", "faithful", "grounded", "complete"),
        *("satisfied", "satisfies", "resolved", "solved", "acceptable"),
    )
)
"""In the names of what is yes where a response is good."""
BARE = frozenset(("yes", "no", "true", "false"))
"""Words that say nothing by themselves: yes is good of what is helpful, and bad of what is off topic."""
AGAINST = frozenset(("down", "downvote", "dislike", "disliked"))
"""In names of what is yes where a response is bad, and says nothing where it is no."""
OTHER = (
    *("halluc", "toxic", "bias", "error", "harm", "fail", "refus", "unsafe", "risk", "offens", "wrong", "incorrect", "problem", "issue"),
    *("unhelpful", "irrelev", "inaccura", "pii", "leak", "jailbreak", "injection", "spam", "comment", "reason", "explanation", "note"),
    *("correction", "expected", "reference", "gold"),
)
"""In the names of what is yes where something is bad, and of what is no opinion at all."""
UNCLEAR = "no rating that is yes or no"
DIFFER = "its ratings differ"
UNRATED = "nobody rated it"
"""Why a row is left out of which nobody said anything, as is usual of most that a chat tool logs."""


def thumb(value: Any) -> bool | None:
    """What a value says of a response: True, False, or None where it is neither yes nor no."""
    value = value.item() if hasattr(value, "item") else value  # numpy's
    if isinstance(value, bool):
        return value
    number = number_of(value)
    if number is not None:
        return {1.0: True, 0.0: False, -1.0: False}.get(number)
    if not isinstance(value, str):
        return None
    words = [word for word in re.split(r"[\s_\-/]+", value.strip().lower().rstrip(".!")) if word] if len(value) <= 60 else []
    if not words or "not" in words:
        return None
    found = {True for w in words if w in GOOD} | {False for w in words if w in BAD}
    known = all(w in GOOD | BAD | BESIDE for w in words)
    return found.pop() if known and len(found) == 1 else None


def agreed(opinions: Iterable[Any]) -> bool:
    """What all opinions that are yes or no say.

    Raises:
        Skip: there are none, or they differ.
    """
    given = [value for value in opinions if value is not None and value != ""]
    if not given:
        raise Skip(UNRATED)
    found = {known for value in given if (known := thumb(value)) is not None}
    if not found:
        raise Skip(UNCLEAR)
    if len(found) > 1:
        raise Skip(DIFFER)
    return found.pop()


def rated(scores: Sequence[tuple[str, Any]], by_people: bool = False) -> bool:
    """What named scores say of a response: those that people gave, where one of them is yes or no, else all.

    Args:
        by_people: all of them are people's, whatever their names.

    Raises:
        Skip: there are none, or none that is yes or no, or they differ.
    """
    given = [(words_of(name), name, value) for name, value in scores if value is not None and value != ""]
    if not given:
        raise Skip(UNRATED)
    if any(words & PEOPLE and 0 < (_number(words, value) or 0) < 1 for words, _, value in given):
        raise Skip(DIFFER)  # a mean between yes and no
    said = [(words, yes) for words, name, value in given if (yes := _opinion(name, words, value)) is not None]
    if not said:
        raise Skip(UNCLEAR)
    return agreed([yes for words, yes in said if by_people or words & PEOPLE] or [yes for _, yes in said])


def words_of(name: str) -> set[str]:
    """The words of a name, lower case."""
    return set(re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()))


def _number(words: set[str], value: Any) -> float | None:
    """A number, where its name says that it is between 1 and 0."""
    is_named = words & TWO_STEPS and words <= TWO_STEPS | PLAIN
    is_users = words & {"user", "human"} and words <= PLAIN
    return number_of(value) if not isinstance(value, bool) and (is_named or is_users) else None


def _opinion(name: str, words: set[str], value: Any) -> bool | None:
    """What one named score says; yes, no and numbers only where the name says what they are of."""
    if any(part in name.lower() for part in OTHER):
        return None
    yes = thumb(value)
    if words & AGAINST and "up" not in words:
        return False if yes else None
    if not isinstance(value, bool) and number_of(value) is not None:
        return yes if _number(words, value) is not None else None
    is_bare = isinstance(value, bool) or str(value).strip().lower().rstrip(".!") in BARE
    return yes if not is_bare or words & (TWO_STEPS | JUDGES | PEOPLE) else None
