"""How many tokens a forward pass may hold, splitting a batch into packs under it, and what happens where a pack does not fit."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from prefine.errors import ConfigError, ModelError
from prefine.packing.group import PromptGroup
from prefine.packing.learned_tokens import learned_tokens, remember_tokens
from prefine.packing.out_of_memory import smaller_on_oom

T = TypeVar("T")
TRAINING_ADVICE = "lower max_length, switch gradient_checkpointing on, or train with LoRA or in 4-bit"
SCORING_ADVICE = "lower max_length or the response's length, or load the model in bfloat16 or 4-bit"

AUTO_TOKENS = {"cpu": 2048, "cuda": 16384}
"""Where ``auto`` begins. On a CPU larger packs only leave the caches; on CUDA out-of-memory halves it."""
KEEPING_TOKENS = tuple(AUTO_TOKENS["cuda"] >> n for n in range(4))
"""Tried on a GPU, the largest first, without computing activations again: below, small products cost more than that saves."""
CPU_ACTIVATION_BYTES, LEAST_CPU_TOKENS = 2**28, 512
"""On a CPU memory is never refused, only swapped: ``auto`` keeps a pack's activations under this, measured to cost no time."""
ACTIVATIONS_PER_VALUE = 180
"""Bytes that backward keeps for each token, layer and hidden value, in float32: 45 numbers, measured on Qwen 2."""


@dataclass
class TokenBudget:
    """The most tokens of a pack. Halved on out-of-memory; never changes a result.

    Attributes:
        advice: what to change where a single group does not fit.
        key: what the number is remembered under for the next run, as :func:`prefine.packing.learned_tokens.memory_key` gives it;
            empty: it is not.
    """

    tokens: int
    advice: str = SCORING_ADVICE
    key: str = ""
    _kept: bool = True
    _tried_again: PromptGroup | None = None

    @classmethod
    def of(
        cls, setting: str | int, device_type: str, values_per_token: int = 0, key: str = "", advice: str = SCORING_ADVICE
    ) -> TokenBudget:
        """``"auto"`` or a number of tokens.

        Args:
            values_per_token: layers times hidden size of what will be trained; 0 where nothing is.
            key: of ``auto``: begin where an earlier run ended that ran out of memory, and remember where this one does.
        """
        if setting == "auto":
            most = AUTO_TOKENS.get(device_type, AUTO_TOKENS["cuda"])
            if device_type == "cpu" and values_per_token:
                most = max(LEAST_CPU_TOKENS, min(most, CPU_ACTIVATION_BYTES // (ACTIVATIONS_PER_VALUE * values_per_token)))
            return cls(min(most, learned_tokens(key) or most), advice, key)
        try:
            tokens = int(setting)
        except ValueError:
            tokens = 0
        if tokens < 1:
            raise ConfigError(f"token_budget is {setting!r}; expected 'auto' or a positive number of tokens", code="PF-C03")
        return cls(tokens, advice)

    def halve(self, largest: int) -> bool:
        """Halve, at most down to below ``largest``, the biggest pack just tried; False if that is one group already."""
        self.tokens, self._kept = max(1, min(self.tokens, largest) // 2), False
        return self.tokens > 1

    def split(self, groups: Sequence[PromptGroup], shared: bool = True) -> list[list[PromptGroup]]:
        """Cut a batch into consecutive runs within the budget; a group larger than it stands alone."""
        packs: list[list[PromptGroup]] = []
        at = 0
        while at < len(groups):
            packs.append(self._first(groups, at, shared))
            at += len(packs[-1])
        return packs

    def _first(self, groups: Sequence[PromptGroup], at: int, shared: bool) -> list[PromptGroup]:
        """The longest run from place ``at`` on within the budget; one group at least."""
        run, used = [groups[at]], groups[at].num_tokens(shared)
        for place in range(at + 1, len(groups)):
            used += groups[place].num_tokens(shared)
            if used > self.tokens:
                break
            run.append(groups[place])
        return run

    def shrink(self, tried: Sequence[PromptGroup], shared: bool = True) -> None:
        """Halve, since these groups did not fit together. One that stood alone already is tried again, since memory was freed.

        Raises:
            ModelError: it was tried again already.
        """
        before, largest = self.tokens, max(tried, key=lambda g: g.num_tokens(shared))
        size = largest.num_tokens(shared)
        if before <= size or not self.halve(sum(g.num_tokens(shared) for g in tried)):
            if self._tried_again is not largest:
                self._tried_again = largest
                return
            row = f"row {largest.index} alone, " if largest.index > 0 else ""
            raise ModelError(f"out of memory with {row}a single prompt of {size} tokens with its responses; {self.advice}", code="PF-M07")
        warnings.warn(f"out of memory at {before} tokens a pass; going on with {self.tokens}, same result", stacklevel=3)

    def keep(self) -> None:
        """Remember a number that was halved and has proven to fit."""
        if not self._kept and self.key:
            remember_tokens(self.key, self.tokens)
        self._kept, self._tried_again = True, None

    def each(
        self, groups: Sequence[PromptGroup], shared: bool, work: Callable[[list[PromptGroup]], T]
    ) -> Iterator[tuple[list[PromptGroup], T]]:
        """Each run of groups within the budget, in order, with what ``work`` makes of it; a run that does not fit is cut smaller.

        Args:
            work: must leave nothing behind where it fails: it is called again with fewer groups.

        Raises:
            ModelError: a single group does not fit.
        """

        def attempt(at: int) -> tuple[list[PromptGroup], T]:
            part = self._first(groups, at, shared)
            return part, work(part)

        def refuse(at: int) -> None:
            self.shrink(self._first(groups, at, shared), shared)

        at = 0
        while at < len(groups):
            part, found = smaller_on_oom(functools.partial(attempt, at), functools.partial(refuse, at))
            self.keep()
            yield part, found
            at += len(part)
