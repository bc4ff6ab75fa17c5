"""Preference data: records, reading, format detection. Imports no torch."""

from prefine.preferences.convert import PairSource, Reading, read_pairs
from prefine.preferences.records import Message, Pair, PromptText

__all__ = ["Message", "Pair", "PairSource", "PromptText", "Reading", "read_pairs"]
