"""How many tokens a forward pass may hold, and splitting a batch into packs under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefine.errors import ConfigError
from prefine.packing.group import PromptGroup

AUTO_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Where ``auto`` begins. On a CPU larger packs only leave the caches; on CUDA out-of-memory halves it."""
CPU_ACTIVATION_BYTES, LEAST_CPU_TOKENS = 2**28, 512
"""On a CPU memory is never refused, only swapped: ``auto`` keeps a pack's activations under this, measured to cost no time."""
ACTIVATIONS_PER_VALUE = 180
"""Bytes that backward keeps for each token, layer and hidden value, in float32: 45 numbers, measured on Qwen 2."""


@dataclass
class TokenBudget:
    """The most tokens of a pack. Halved on out-of-memory; never changes a result."""

    tokens: int

    @classmethod
    def of(cls, setting: str | int, device_type: str, values_per_token: int = 0) -> TokenBudget:
        """``"auto"`` or a number of tokens.

        Args:
            values_per_token: layers times hidden size of what will be trained; 0 where nothing is.
        """
        if setting == "auto":
            most = AUTO_TOKENS.get(device_type, AUTO_TOKENS["cuda"])
            if device_type == "cpu" and values_per_token:
                most = max(LEAST_CPU_TOKENS, min(most, CPU_ACTIVATION_BYTES // (ACTIVATIONS_PER_VALUE * values_per_token)))
            return cls(most)
        try:
            tokens = int(setting)
        except ValueError:
            tokens = 0
        if tokens < 1:
            raise ConfigError(f"token_budget is {setting!r}; expected 'auto' or a positive number of tokens")
        return cls(tokens)

    def halve(self, largest: int) -> bool:
        """Halve, at most down to below ``largest``, the biggest pack just tried; False if that is one group already."""
        self.tokens = max(1, min(self.tokens, largest) // 2)
        return self.tokens > 1

    def split(self, groups: Sequence[PromptGroup], shared: bool = True) -> list[list[PromptGroup]]:
        """Cut a batch into consecutive runs within the budget; a group larger than it stands alone."""
        packs: list[list[PromptGroup]] = []
        used = self.tokens + 1
        for group in groups:
            size = group.num_tokens(shared)
            if used + size > self.tokens:
                packs.append([])
                used = 0
            packs[-1].append(group)
            used += size
        return packs
