"""A job that people have, with an exact judge: constraints that a program can check; and questions and text to see what else moved."""

from __future__ import annotations

import json
import pydoc_data.topics
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from prefine.evaluation.questions import Question, user_turn
from prefine.preferences.records import PromptText, plain_text

TOPICS = (
    *("rain", "a bicycle", "the moon", "coffee", "a library", "chess", "winter", "a bridge", "honey", "the sea", "a piano", "bread"),
    *("a train", "gardens", "an owl", "salt", "a lighthouse", "maps", "a clock", "apples", "a volcano", "silk", "a kite", "rivers"),
    *("glass", "a violin", "snow", "tea", "a castle", "bees", "a desert", "paper", "a candle", "soccer", "a mirror", "wool"),
    *("a telescope", "rice", "the wind", "a ship", "dancing", "cheese", "an island", "ink", "a horse", "thunder", "a market", "pottery"),
    *("a tunnel", "stars", "a drum", "moss", "a harbor", "pepper", "a fox", "winter coats"),
)
HELD_OUT = 32
"""How many topics, the last ones, are asked about only when training is over."""


@dataclass(frozen=True)
class Constraint:
    """What a prompt demands of a response's form.

    Attributes:
        words: the demand, as the prompt says it; met: whether a text meets it.
    """

    name: str
    words: str
    met: Callable[[str], bool]


def _sentences(text: str) -> int:
    return len(re.findall(r"[.!?]+(?=\s|$)", text.strip()))


def _points(text: str) -> bool:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return len(lines) == 3 and all(line.startswith("- ") for line in lines)


def _keys(text: str) -> bool:
    fenced = re.fullmatch(r"\s*```(?:json)?\n(.*)\n```\s*", text, re.DOTALL)  # as chat models write it
    try:
        found = json.loads(fenced[1] if fenced else text)
    except ValueError:
        return False
    return isinstance(found, dict) and found.keys() == {"name", "use"}


CONSTRAINTS = (
    Constraint("one sentence", "Reply with exactly one sentence.", lambda text: _sentences(text) == 1 and text.strip()[-1:] in ".!?"),
    Constraint("twelve words", "Use at most twelve words.", lambda text: 0 < len(text.split()) <= 12),
    Constraint("lower case", "Write in lower case only.", lambda text: bool(text.strip()) and text == text.lower()),
    Constraint("question", "End your reply with a question mark.", lambda text: text.rstrip().endswith("?")),
    Constraint("three points", 'Reply with exactly three lines, each beginning with "- ".', _points),
    Constraint("no commas", "Do not use any commas.", lambda text: bool(text.strip()) and "," not in text),
    Constraint("JSON", 'Reply in JSON with the keys "name" and "use".', _keys),
)
UNSEEN = Constraint("a word", 'Use the word "because".', lambda text: re.search(r"\bbecause\b", text.lower()) is not None)
"""The constraint that is never trained on."""
_BY_WORDS = {c.words: c for c in (*CONSTRAINTS, UNSEEN)}


def questions(topics: Sequence[str], constraints: Sequence[Constraint], times: int = 1) -> list[Question]:
    """Prompts on topics under constraints, each ``times`` times; counted by topic."""
    return [
        Question(f"{topic}, {c.name}, {i}", user_turn(f"Write something about {topic}. {c.words}"), category=c.name, cluster=topic)
        for topic in topics
        for c in constraints
        for i in range(times)
    ]


def constraint_of(prompt: PromptText) -> Constraint:
    """The constraint that a prompt states.

    Raises:
        ValueError: none of those known.
    """
    text = plain_text(prompt)
    for words, found in _BY_WORDS.items():
        if text.rstrip().endswith(words):
            return found
    raise ValueError(f"no known constraint in {text!r}")


def names_topic(prompt: str, response: str) -> bool:
    """Whether a response names what it was asked to be about."""
    topic = re.search(r"about (.+?)\. ", prompt)
    word = topic[1].split()[-1].removesuffix("s").lower() if topic else ""
    return re.search(rf"\b{re.escape(word)}", response.lower()) is not None


def met(prompt: str, response: str) -> float:
    """1 where a response names its topic and meets the constraint that its prompt ends with, else 0.

    As a judge: ``--judge python --function prefine.lab.constraints:met``. Of the constraint alone a model learns to say next to nothing.
    """
    return float(constraint_of(prompt).met(response) and names_topic(prompt, response))


FACTS: Mapping[str, str] = {
    "What is the capital of France?": "paris",
    "What is the capital of Italy?": "rome",
    "What is the capital of Japan?": "tokyo",
    "What is the capital of Germany?": "berlin",
    "What is the capital of Spain?": "madrid",
    "What is the capital of England?": "london",
    "What is the capital of Russia?": "moscow",
    "What is the capital of Egypt?": "cairo",
    "What is the capital of Greece?": "athens",
    "What is the capital of China?": "beijing",
    "What is the largest planet in the solar system?": "jupiter",
    "Which planet is known as the red planet?": "mars",
    "What is the largest ocean?": "pacific",
    "What is the longest river in Africa?": "nile",
    "What is the highest mountain in the world?": "everest",
    "On which continent is Brazil?": "south america",
    "On which continent is Kenya?": "africa",
    "Who wrote Romeo and Juliet?": "shakespeare",
    "Who painted the Mona Lisa?": "leonardo",
    "Who wrote Don Quixote?": "cervantes",
    "Who developed the theory of relativity?": "einstein",
    "Who was the first president of the United States?": "washington",
    "What gas do plants take in from the air?": "carbon dioxide",
    "What gas do people need to breathe?": "oxygen",
    "What is the chemical formula of water?": "h2o",
    "What is frozen water called?": "ice",
    "What is the opposite of hot?": "cold",
    "What is the opposite of up?": "down",
    "What color is the sky on a clear day?": "blue",
    "What color do you get when you mix blue and yellow?": "green",
    "What animal says moo?": "cow",
    "What insect makes honey?": "bee",
    "How many days are there in a week?": "seven|7",
    "How many legs does a spider have?": "eight|8",
    "How many sides does a triangle have?": "three|3",
    "How many minutes are there in an hour?": "60|sixty",
    "How many months are there in a year?": "12|twelve",
    "What is two plus two?": "four|4",
    "What is ten minus three?": "seven|7",
    "What is three times three?": "nine|9",
}
"""Questions that have nothing to do with the constraints, and what a right response says; one of several words is enough."""


def knows(question: str, response: str) -> bool:
    """Whether a response says what :data:`FACTS` has for the question."""
    return any(re.search(rf"\b{re.escape(word)}(s|\b)", response.lower()) for word in FACTS[question].split("|"))


def ordinary_text(characters: int = 16_000) -> str:
    """Prose whose perplexity is compared: the beginning of what Python ships to explain itself, the same for one version of Python."""
    topics = pydoc_data.topics.topics
    chosen = [topics[name] for name in ("objects", "naming", "exceptions", "execmodel", "dynamic-features", "integers") if name in topics]
    return "\n".join(chosen)[:characters]
