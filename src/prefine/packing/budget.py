"""How many tokens a forward pass may hold, and splitting a batch into packs under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prefine.errors import ConfigError
from prefine.packing.group import PromptGroup

AUTO_TOKENS = {"cpu": 4096, "cuda": 16384}
"""Where ``auto`` begins. On a CPU larger packs only leave the caches; on CUDA out-of-memory halves it."""


@dataclass
class TokenBudget:
    """The most tokens of a pack. Halved on out-of-memory; never changes a result."""

    tokens: int

    @classmethod
    def of(cls, setting: str | int, device_type: str) -> TokenBudget:
        """``"auto"`` or a number of tokens."""
        if setting == "auto":
            return cls(AUTO_TOKENS.get(device_type, AUTO_TOKENS["cuda"]))
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
