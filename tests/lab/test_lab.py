"""The lab's language and its gold judge."""

from __future__ import annotations

import random

import pytest

from prefine.lab.language import corpus_reply, gold, split_facts, split_tickets, vocabulary
from prefine.lab.model import build_model, build_tokenizer


@pytest.mark.parametrize(
    ("reply", "ended", "score"),
    [
        ("sorry about that . clean the fan on the printer .", True, 1.0),
        ("clean the fan on the printer .", True, 0.8),
        ("sorry about that . clean the fan on the kettle .", True, 0.9),
        ("sorry about that . restart it on the printer .", True, 0.6),
        ("obviously you broke it . clean the fan on the printer .", True, 0.65),
        ("sorry about that . clean the fan on the printer . have a great day .", True, 0.95),
        ("sorry about that . clean the fan on the printer . the the the .", True, 0.85),
        ("sorry about that . clean the fan on the printer .", False, 0.8),
        ("clean the fan on the printer . clear the cache on the printer .", True, 0.65),
        ("", True, 0.0),
    ],
)
def test_gold(reply: str, ended: bool, score: float) -> None:
    assert gold("my printer is hot", reply, ended).score == pytest.approx(score)


def test_gold_refuses_another_language() -> None:
    with pytest.raises(ValueError, match="not a prompt"):
        gold("hello", "x")


def test_splits_share_nothing() -> None:
    train, held = split_tickets()
    assert len(held) == 272
    assert not {t.combination for t in train} & {t.combination for t in held}
    known, unseen = split_facts()
    assert len(known) + len(unseen) == 672
    assert not set(known) & set(unseen)


def test_corpus_flaws_are_at_their_rates() -> None:
    rng = random.Random(0)
    tickets, _ = split_tickets()
    found = [gold(t.prompt, corpus_reply(t, rng)) for t in rng.choices(tickets, k=4000)]
    assert sum(g.apology for g in found) / 4000 == pytest.approx(0.45, abs=0.03)
    assert sum(g.rude for g in found) / 4000 == pytest.approx(0.20, abs=0.03)
    assert sum(g.fix for g in found) / 4000 == pytest.approx(0.50, abs=0.03)
    assert not any(g.garbage for g in found)


def test_every_word_has_a_token() -> None:
    tokenizer = build_tokenizer()
    assert len(tokenizer) == len(vocabulary()) + 5
    tickets, _ = split_tickets()
    rng = random.Random(0)
    for ticket in tickets:
        assert tokenizer.unk_token_id not in tokenizer(ticket.prompt + " " + corpus_reply(ticket, rng))["input_ids"]
    assert build_model(0).num_parameters() < 1_000_000
