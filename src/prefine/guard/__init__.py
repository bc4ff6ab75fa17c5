"""Rules that watch a run: pure decisions over the metrics so far, one table of them, and one thin callback that applies them."""

from prefine.guard.history import Facts, History
from prefine.guard.rule import Finding, Rule, Seen
from prefine.guard.rules import RULES
from prefine.guard.watch import Watch

__all__ = ["RULES", "Facts", "Finding", "History", "Rule", "Seen", "Watch"]
