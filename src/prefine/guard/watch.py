"""Rules applied to rows as they come: each finding once, and again only where it got worse. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prefine.guard.history import Facts, History
from prefine.guard.rule import SEVERITIES, Finding
from prefine.guard.rules import RULES


class Watch:
    """A run as it is watched, live or afterwards.

    Args:
        rows: what was logged before, of a run that is resumed; nothing is found in it again.
    """

    def __init__(self, facts: Facts, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self.facts = facts
        self.rows: list[Mapping[str, Any]] = []
        self.after = 0
        self._worst: dict[str, int] = {}
        for row in rows:
            self.add(row)

    def start(self) -> list[Finding]:
        """What the facts alone show, before the first step."""
        return self._look(at_start=True)

    def add(self, row: Mapping[str, Any]) -> list[Finding]:
        """What is new with a logged row."""
        self.rows.append(row)
        return self._look(at_start=False)

    def changed(self) -> None:
        """Something was done about the run: what was logged before no longer tells what it does now."""
        self.after = len(self.rows)
        self._worst.clear()

    def _look(self, at_start: bool) -> list[Finding]:
        history = History(self.facts, self.rows, self.after)
        out = []
        for rule in RULES:
            seen = rule.check(history) if rule.at_start == at_start else None
            if seen is None:
                continue
            rank = SEVERITIES.index(seen.severity)
            if rank > self._worst.get(rule.name, -1):
                self._worst[rule.name] = rank
                out.append(Finding(rule.name, seen.severity, history.step, seen.text, rule.advice, rule.action))
        return out


def replay(facts: Facts, rows: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """What would have been found in a run as it went, in order."""
    watch = Watch(facts)
    return [*watch.start(), *(finding for row in rows for finding in watch.add(row))]
