"""What processes agree on, as far as one can show it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prefine.packing.group import PromptGroup, as_ids
from prefine.training.together import divided


def group(number: int, length: int) -> PromptGroup:
    return PromptGroup(as_ids(np.arange(3)), (as_ids(np.arange(length)),), number)


@given(st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=6), max_size=6), st.integers(0, 40))
def test_parts_are_divided_as_far_as_there_are_groups(lengths: list[list[int]], wanted: int) -> None:
    numbers = iter(range(1000))
    parts = [[group(next(numbers), n) for n in part] for part in lengths]
    every = [g for part in parts for g in part]
    found = divided(parts, wanted)
    assert [g.index for part in found for g in part] == [g.index for g in every]
    assert len(found) == max(len(parts), min(wanted, len(every)))
    assert all(found) or not every
    assert parts == [[every[i] for i in range(sum(map(len, parts[:k])), sum(map(len, parts[: k + 1])))] for k in range(len(parts))]


def test_the_longest_part_is_halved_first() -> None:
    parts = [[group(0, 5), group(1, 5)], [group(2, 50), group(3, 50)], [group(4, 90)]]
    assert [[g.index for g in part] for part in divided(parts, 4)] == [[0, 1], [2], [3], [4]]
