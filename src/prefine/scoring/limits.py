"""What a model can take: the token ids that it has embeddings of, and how many positions."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from prefine.errors import DataError, ModelError
from prefine.packing.encoding import Encoder
from prefine.packing.group import Ids, PromptGroup
from prefine.packing.store import GroupStore

TABLES = ("wpe", "embed_positions", "position_embeddings", "position_embedding")
"""What modules and buffers are called that hold a row a position."""


def whole_ids(group: PromptGroup, completion: int = 0) -> Ids:
    """A prompt's ids with one of its completions', shape (tokens,)."""
    return np.concatenate((group.prompt_ids, group.completion_ids[completion]))


@dataclass(frozen=True)
class Limits:
    """A model's limits.

    Attributes:
        ids: how many token ids have an embedding.
        positions: how many it has, where it looks them up in a table; None where it computes them (rotary, ALiBi), for any number.
        trained: how many positions it is made for; None where it does not say.
    """

    ids: int
    positions: int | None
    trained: int | None

    @classmethod
    def of(cls, model: Any) -> Limits:
        """Read from the model's modules."""
        config = model.config.get_text_config()
        embedding = model.get_input_embeddings()
        rows = int(embedding.weight.shape[0]) or int(config.vocab_size)  # sharded weights are empty here
        trained = getattr(config, "max_position_embeddings", None)
        tables = [m.num_embeddings for n, m in model.named_modules() if n.rpartition(".")[2] in TABLES and isinstance(m, nn.Embedding)]
        tables += [len(b) for n, b in model.named_buffers() if n.rpartition(".")[2] in TABLES]
        return cls(rows, min(t for t in (trained, *tables) if t is not None) if tables else None, trained)

    def misfit(self, ids: Ids, more: int = 0) -> str:
        """Why the model cannot take a sequence with ``more`` tokens to come; empty where it can."""
        if len(ids) and ids.max() >= self.ids:
            return f"a token has id {ids.max()}, and the model has embeddings of {self.ids} ids"
        if self.positions is not None and len(ids) + more > self.positions:
            return f"{len(ids) + more} tokens, and the model has {self.positions} positions"
        return ""


class FittedEncoder(Encoder):
    """An encoder whose prompts the model can take.

    Args:
        limits: those of the model.
    """

    def __init__(self, tokenizer: Any, limits: Limits) -> None:
        super().__init__(tokenizer)
        self.limits = limits

    def prompt_ids(self, *args: Any, **kwargs: Any) -> Ids:
        """Ids to generate from.

        Raises:
            DataError: the template refuses the prompt, or the model cannot take it.
        """
        ids = super().prompt_ids(*args, **kwargs)
        reason = self.limits.misfit(ids)
        if reason:
            raise DataError(reason)
        return ids


def fit_tokenizer(model: Any, tokenizer: Any) -> Limits:
    """Hold a tokenizer against a model's embeddings; a pad token beyond them, which is never read, gives way to the end token.

    Tokens that were added beyond the embeddings are no fault as long as they do not occur.

    Raises:
        ModelError: an ordinary token, the end token or one of the chat template's has no embedding.
    """
    limits = Limits.of(model)
    ordinary = min(tokenizer.vocab_size, len(tokenizer))
    beyond = [i for i in (*_written(tokenizer), ordinary - 1) if i >= limits.ids]
    if beyond:
        name = getattr(model.config, "_name_or_path", "") or type(model).__name__
        raise ModelError(
            f"{name}: its tokenizer has {len(tokenizer)} tokens ({tokenizer.convert_ids_to_tokens(beyond[0])!r} is id {beyond[0]}), "
            f"and the model has embeddings of {limits.ids}: give the tokenizer that belongs to the model, or call "
            "model.resize_token_embeddings(len(tokenizer)) and save both",
            code="PF-M03",
        )
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= limits.ids:
        warnings.warn(
            f"the pad token {tokenizer.pad_token} (id {tokenizer.pad_token_id}) is beyond the model's {limits.ids} embeddings; "
            f"the end token {tokenizer.eos_token} pads in its place",
            stacklevel=2,
        )
        tokenizer.pad_token = tokenizer.eos_token
    return limits


def _written(tokenizer: Any) -> Iterable[int]:
    """Ids that every conversation has: the end token's and the template's."""
    try:
        group = Encoder(tokenizer).encode(({"role": "user", "content": "a"},), [({"role": "assistant", "content": "a"},)])
    except DataError:  # a template that wants more than that; what it writes is seen in the data
        group = None
    found = [] if group is None else whole_ids(group).tolist()
    return [tokenizer.eos_token_id, *found]


def check_groups(limits: Limits, groups: Sequence[PromptGroup], name: str, more: int = 0) -> None:
    """Refuse data that a model cannot take, before it trains; warn of more positions than the model is made for.

    Args:
        more: tokens that are sampled after each sequence.

    Raises:
        DataError: a token without an embedding, or more tokens than positions; names the row.
    """
    known = limits.positions or limits.trained
    if isinstance(groups, GroupStore) and groups.most_id() < limits.ids and (known is None or groups.most_tokens() + more <= known):
        return
    longest = 0
    for group in groups:
        for completion in range(len(group.completion_ids)):
            ids = whole_ids(group, completion)
            reason = limits.misfit(ids, more)
            if reason and "positions" in reason:
                room = f", of which response_length {more} are sampled: lower it, or" if more else ";"
                raise DataError(
                    f"{name}, row {group.index}: {reason}{room} give --max-length {limits.positions} (max_length) or less", code="PF-M17"
                )
            if reason:
                todo = "leave such rows out, or call model.resize_token_embeddings(len(tokenizer)) and save the model"
                raise DataError(f"{name}, row {group.index}: {reason}; {todo}")
            longest = max(longest, len(ids) + more)
    if known is not None and longest > known:
        warnings.warn(
            f"{name}: sequences of up to {longest} tokens, and the model is made for {known} positions; it may not follow that far "
            f"(--max-length {known} cuts them)",
            stacklevel=2,
        )
