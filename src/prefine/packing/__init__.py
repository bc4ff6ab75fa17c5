"""Token ids to prompt groups to packs; attention that shares the prompt; the token budget. What is exported here needs no torch."""

from prefine.packing.budget import TokenBudget
from prefine.packing.encoding import Encoder, EncodingReport
from prefine.packing.group import PromptGroup

__all__ = ["Encoder", "EncodingReport", "PromptGroup", "TokenBudget"]
