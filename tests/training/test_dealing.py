"""Rows dealt to processes by tokens: the same batches, as many rows each, less waiting."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefine.training.dealing import DealtByTokens, dealt


@given(st.lists(st.integers(1, 500), max_size=40), st.integers(1, 9))
def test_every_place_is_dealt_once(costs: list[int], processes: int) -> None:
    parts = dealt(costs, processes)
    assert sorted(i for part in parts for i in part) == list(range(len(costs)))
    sums = [sum(costs[i] for i in part) for part in parts]
    assert max(sums) <= sum(costs) / processes + max(costs, default=0)  # what is longest comes first (Graham 1969)


def test_by_hand() -> None:
    assert dealt([5, 9, 1, 7], 2) == [[1, 2], [0, 3]]  # 9 | 7, then 5 to the 7, then 1 to the 9
    assert dealt([9, 1, 1, 1], 2) == [[0], [1, 2, 3]]
    assert dealt([9, 1, 1, 1], 2, most=2) == [[0, 3], [1, 2]]


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
def test_a_batch_holds_the_same_rows(processes: int) -> None:
    rng = random.Random(0)
    costs = [round(rng.lognormvariate(5, 1)) for _ in range(1000)]
    each = 4
    size = each * processes
    order = rng.sample(range(1000), 1000)
    got = list(DealtByTokens(order, costs.__getitem__, each, processes))
    waits = {"count": 0, "tokens": 0}
    for start in range(0, 1000, size):
        assert sorted(got[start : start + size]) == sorted(order[start : start + size])
        if start + size <= 1000:
            for how, places in (("count", order), ("tokens", got)):
                parts = [places[start + each * p : start + each * (p + 1)] for p in range(processes)]
                waits[how] += max(sum(costs[i] for i in part) for part in parts)
    assert waits["tokens"] < 0.85 * waits["count"] or processes == 1
    assert got[1000 - 1000 % size :] == order[1000 - 1000 % size :]  # the last, which is not full, is as it was


def test_the_epoch_is_the_samplers() -> None:
    class Shuffled:
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __len__(self) -> int:
            return 8

        def __iter__(self) -> object:
            return iter(random.Random(self.epoch).sample(range(8), 8))

    found = DealtByTokens(Shuffled(), lambda i: 1, 2, 2)  # type: ignore[arg-type]
    first = list(found)
    found.set_epoch(1)
    assert len(found) == 8
    assert list(found) != first
    found.set_epoch(0)
    assert list(found) == first
