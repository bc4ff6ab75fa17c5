"""Token ids to prompt groups to packs; attention that shares the prompt; the token budget."""

from prefine.packing.budget import TokenBudget
from prefine.packing.encoding import Encoder, EncodingReport
from prefine.packing.group import PromptGroup
from prefine.packing.pack import Pack

__all__ = ["Encoder", "EncodingReport", "Pack", "PromptGroup", "TokenBudget"]
