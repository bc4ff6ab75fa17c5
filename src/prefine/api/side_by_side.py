"""Responses and verdicts by workers of a Ray cluster: an engine and a judge as any other, of which each worker has one of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prefine.cluster import ClusterOptions, Workers
from prefine.evaluation.judge import Comparison, Vote
from prefine.generation.engine import Answer, Failure, Request, Sampling
from prefine.packing.encoding import Encoder

PARTS = 8
"""Parts a worker: one that is lost costs little, and the slowest ends soon after the others."""

_here: Any = None
"""In a worker: what it asks."""


def _start(make: Callable[..., Any], given: tuple[Any, ...]) -> None:
    from prefine.api.quiet import quiet_transformers

    global _here
    quiet_transformers()
    _here = make(*given)


def _name(_: None) -> str:
    return str(_here.name)


def _answer(part: tuple[Sequence[Request], Sampling]) -> tuple[list[tuple[int, Answer | Failure]], dict[str, int]]:
    found = list(_here.answers(*part))
    notes = dict(_here.encoder.report.notes) if hasattr(_here, "encoder") else {}
    if notes:
        _here.encoder.report.notes.clear()
    return found, notes


def _judge(part: Sequence[Comparison]) -> list[tuple[int, Vote]]:
    return list(_here.judge(part))


def _size(number: int, workers: int, most: int) -> int:
    return min(most, math.ceil(number / (PARTS * workers)))


class SpreadEngine:
    """Responses by workers, each with an engine that ``make`` gives of what is ``given``."""

    def __init__(self, cluster: ClusterOptions, make: Callable[..., Any], given: tuple[Any, ...], encoder: Encoder, most: int) -> None:
        died = "a worker that generates was lost (out of memory?); give a smaller --batch-size"
        self.workers = Workers(cluster, _start, (make, given), died, gpus=True)
        self.encoder = encoder
        self.most = most
        try:
            [self.name] = self.workers.map(_name, [None])
        except BaseException:
            self.workers.close()
            raise

    def answers(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Answer | Failure]]:
        """Part by part, in order."""
        size = _size(len(requests), self.workers.number, self.most)
        starts = range(0, len(requests), size)
        parts = ((requests[start : start + size], sampling) for start in starts)
        for start, (found, notes) in zip(starts, self.workers.map(_answer, parts), strict=True):
            self.encoder.report.notes.update(notes)
            for place, answer in found:
                yield start + place, answer


class SpreadJudge:
    """Verdicts by workers, each with the judge that ``make`` gives of what is ``given``."""

    def __init__(self, cluster: ClusterOptions, name: str, make: Callable[..., Any], given: tuple[Any, ...]) -> None:
        died = "a worker that judges was lost (out of memory?); try fewer with --ray-workers"
        self.workers = Workers(cluster, _start, (make, given), died, gpus=True)
        self.name = name

    def judge(self, comparisons: Sequence[Comparison]) -> Iterator[tuple[int, Vote]]:
        """Part by part, in order."""
        size = _size(len(comparisons), self.workers.number, len(comparisons))
        starts = range(0, len(comparisons), size)
        for start, found in zip(starts, self.workers.map(_judge, (comparisons[s : s + size] for s in starts)), strict=True):
            for place, vote in found:
                yield start + place, vote
