"""Preference data: records, reading, format detection. Imports no torch."""

from prefine.preferences.convert import Dataset, load_pairs, read_pairs
from prefine.preferences.records import Message, Pair, PromptText

__all__ = ["Dataset", "Message", "Pair", "PromptText", "load_pairs", "read_pairs"]
