"""Judges that ask a language model on a server: pairs in both orders, single ratings, and AlpacaEval's log-prob preference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from prefine.evaluation.answers import Answered
from prefine.evaluation.chat_client import Ask, ChatClient, Reply, ReplyCache
from prefine.evaluation.judge import Comparison, Score, Vote
from prefine.evaluation.judge_replies import (
    LETTER_SYSTEM,
    PAIR_SCHEMA,
    PAIR_SYSTEM,
    SINGLE_SCHEMA,
    SINGLE_SYSTEM,
    pair_text,
    parse_pair,
    parse_rating,
    preference_of,
    response_format,
    single_text,
)
from prefine.generation.engine import Failure

ATTEMPTS = 3
"""How often an unparsable reply is asked for again, the first time included."""
REASON_TOKENS = 1024
ORDERS = ("base first", "model first")
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """What judging would take: requests not yet in the cache, and their tokens, estimated at four characters each."""

    calls: int
    cached: int
    prompt_tokens: int
    completion_tokens: int

    def cost(self, price_in: float, price_out: float) -> float:
        """Money at prices a million tokens."""
        return (self.prompt_tokens * price_in + self.completion_tokens * price_out) / 1e6


class Asker:
    """Asks a client through a cache, and again where a reply says nothing.

    What is paid for is asked once: a reply is kept as soon as it parses, two equal asks are one, and
    an unparsable one is asked for again under another attempt number and never kept.
    """

    def __init__(self, client: ChatClient, cache: ReplyCache) -> None:
        self.client = client
        self.cache = cache

    def key(self, ask: Ask) -> str:
        """The cache's key of an ask, whatever its attempt."""
        return replace(ask, attempt=0).key(self.client.model, self.client.server)

    def plan(self, asks: Sequence[Ask]) -> Plan:
        """What asking would take; asks nothing."""
        distinct = {self.key(a): a for a in asks}
        new = [a for key, a in distinct.items() if self.cache.get(key) is None]
        letters = sum(len(str(m["content"])) for a in new for m in a.messages if isinstance(m, dict))
        most = sum(min(int(a.parameters["max_tokens"]), 200) for a in new)
        return Plan(len(new), len(distinct) - len(new), letters // 4, most)

    def replies(self, asks: Sequence[Ask], parse: Callable[[Reply], T | None]) -> Iterator[tuple[int, T | None, tuple[str, ...], str]]:
        """Each ask's place, what its reply says, every attempt's text, and why there is nothing."""
        places: dict[str, list[int]] = {}
        for place, ask in enumerate(asks):
            places.setdefault(self.key(ask), []).append(place)
        open_keys = []
        for key, shared in places.items():
            kept = self.cache.get(key)
            said = parse(kept) if kept is not None else None
            if kept is not None and said is not None:
                yield from ((place, said, (kept.text,), "") for place in shared)
            else:
                open_keys.append(key)
        texts: dict[int, list[str]] = {}

        def handle(at: int, reply: Reply | Failure) -> Ask | None:
            if isinstance(reply, Failure):
                return None
            texts.setdefault(at, []).append(reply.text)
            if parse(reply) is not None:
                self.cache.put(open_keys[at], reply)
                return None
            ask = asks[places[open_keys[at]][0]]
            return replace(ask, attempt=len(texts[at]), parameters=_varied(ask, len(texts[at]))) if len(texts[at]) < ATTEMPTS else None

        first = [asks[places[key][0]] for key in open_keys]
        for at, reply in self.client.ask_all(first, handle):
            said = None if isinstance(reply, Failure) else parse(reply)
            failure = "" if said is not None else reply.reason if isinstance(reply, Failure) else "no verdict in the reply"
            yield from ((place, said, tuple(texts.get(at, ())), failure) for place in places[open_keys[at]])


def _varied(ask: Ask, attempt: int) -> dict[str, Any]:
    """Another try must be able to end otherwise: at temperature 0 the same words would come back."""
    return dict(ask.parameters) | {"temperature": 0.7, "seed": attempt}


class PairJudge:
    """Compares pairs in both orders; equal answers are a tie and are not asked about.

    Args:
        structured: ask for JSON by a schema; left out by itself where the server refuses it.
        template: the user's own words; see :func:`prefine.evaluation.judge_replies.pair_text`.
    """

    def __init__(self, asker: Asker, structured: bool = True, template: str | None = None) -> None:
        self.asker = asker
        self.name = asker.client.model
        self.structured = structured
        self.template = template

    def asks(self, comparisons: Sequence[Comparison]) -> tuple[list[Ask], list[tuple[int, str]]]:
        """What will be asked, and which comparison and order each is of."""
        asks, of = [], []
        for place, c in enumerate(comparisons):
            for order in ORDERS if c.base != c.tuned else ():
                asks.append(self._ask(c, order))
                of.append((place, order))
        return asks, of

    def _ask(self, c: Comparison, order: str) -> Ask:
        first, second = (c.base, c.tuned) if order == ORDERS[0] else (c.tuned, c.base)
        system = [] if self.template else [{"role": "system", "content": PAIR_SYSTEM}]
        user = {"role": "user", "content": pair_text(c.question, first, second, self.template)}
        form = {"response_format": response_format(PAIR_SCHEMA)} if self.structured else {}
        return Ask([*system, user], {"temperature": 0.0, "max_tokens": REASON_TOKENS, **form})

    def parse(self, reply: Reply) -> float | None:
        """How far the answer shown first wins; a reply cut at the limit has not said it."""
        return parse_pair(reply.text) if reply.ended else None

    def judge(self, comparisons: Sequence[Comparison]) -> Iterator[tuple[int, Vote]]:
        """Two votes a comparison, one an order."""
        for place, c in enumerate(comparisons):
            if c.base == c.tuned:
                yield from ((place, Vote(0.5, order, asked=False)) for order in ORDERS)
        asks, of = self.asks(comparisons)
        for at, first_wins, raw, failure in self.asker.replies(asks, self.parse):
            place, order = of[at]
            win = first_wins if first_wins is None or order == ORDERS[1] else 1 - first_wins
            yield place, Vote(win, order, raw, failure)


class LogprobJudge(PairJudge):
    """AlpacaEval 2's preference: how likely the judge is to name either letter, one token a verdict."""

    def __init__(self, asker: Asker, template: str | None = None) -> None:
        super().__init__(asker, structured=False, template=template)

    def _ask(self, c: Comparison, order: str) -> Ask:
        first, second = (c.base, c.tuned) if order == ORDERS[0] else (c.tuned, c.base)
        system = [] if self.template else [{"role": "system", "content": LETTER_SYSTEM}]
        user = {"role": "user", "content": pair_text(c.question, first, second, self.template)}
        return Ask([*system, user], {"temperature": 0.0, "max_tokens": 1, "logprobs": True, "top_logprobs": 5})

    def parse(self, reply: Reply) -> float | None:
        """From the first token's log-probs."""
        return preference_of(reply.first_logprobs)


class RatingScorer:
    """Rates single answers 1 to 10, with the reference answer where the question has one."""

    def __init__(self, asker: Asker, structured: bool = True, template: str | None = None) -> None:
        self.asker = asker
        self.name = asker.client.model
        self.structured = structured
        self.template = template

    def asks(self, answered: Sequence[Answered]) -> list[Ask]:
        """What will be asked, one an answer."""
        system = [] if self.template else [{"role": "system", "content": SINGLE_SYSTEM}]
        form = {"response_format": response_format(SINGLE_SCHEMA)} if self.structured else {}
        parameters = {"temperature": 0.0, "max_tokens": REASON_TOKENS, **form}
        return [
            Ask([*system, {"role": "user", "content": single_text(a.question, a.answers, self.template)}], parameters) for a in answered
        ]

    def score(self, answered: Sequence[Answered]) -> Iterator[tuple[int, Score]]:
        """Ratings as they come."""
        for place, value, raw, failure in self.asker.replies(
            self.asks(answered), lambda reply: parse_rating(reply.text) if reply.ended else None
        ):
            yield place, Score(value, raw, failure)
