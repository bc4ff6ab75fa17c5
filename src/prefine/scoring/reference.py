"""The reference policy: adapter off, a frozen copy, a model of the user's, or log-probs from disk."""

from __future__ import annotations

import copy
import functools
import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from prefine.errors import ModelError
from prefine.packing.budget import TokenBudget
from prefine.packing.checksum import damaged, keep, kept
from prefine.packing.group import PromptGroup
from prefine.packing.pack import Pack
from prefine.scoring.adapter_start import takes_from_base
from prefine.scoring.adapters import switched
from prefine.scoring.held_in_half import hold_frozen_linears
from prefine.scoring.scorer import Scorer

PRECOMPUTE_WINDOW = 2048
"""Groups that are sorted by length together, so that packs are full and memory bounded."""


class Reference:
    """Log-probs of the model that training started from.

    With a peft policy and no model given, the policy with its adapter off (or, where an
    adapter was already trained, a frozen copy of it named ``reference``); with a plain
    policy, a frozen copy *of the weights in memory*, never of the folder they once came from.
    """

    def __init__(self, policy: Scorer, model: nn.Module | None = None) -> None:
        self.policy = policy
        self.adapter: str | None = None
        self.scorer: Scorer
        if model is not None:
            check_matches(policy.unwrapped, model)
            self.scorer = Scorer(freeze(model), policy.layout)
        elif _is_peft(policy.unwrapped):
            self.scorer = policy
            self.adapter = _frozen_adapter(policy.unwrapped)
        else:
            self.scorer = Scorer(freeze(copy.deepcopy(policy.unwrapped)), policy.layout)

    @classmethod
    def adapter_off(cls, policy: Scorer) -> Reference:
        """The bare base under a trained adapter, in the same weights: what a finished run is compared with."""
        out = cls.__new__(cls)
        out.policy = out.scorer = policy
        out.adapter = None
        return out

    @property
    def is_policy(self) -> bool:
        """Whether the reference is the policy's own weights with the adapter off."""
        return self.scorer is self.policy

    def hold_in(self, dtype: torch.dtype) -> None:
        """Keep a model of its own in mixed precision's dtype, as far as that scores the same."""
        if not self.is_policy:
            hold_frozen_linears(self.scorer.unwrapped, dtype)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of its weights as they are when first asked for: before training. An adapter that is off has no part in it."""
        model = self.scorer.unwrapped
        off = list(model.peft_config) if self.is_policy and self.adapter is None else []
        with self.active():
            return model_fingerprint(model, off) + str(self.adapter)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within the block ``self.scorer`` scores as the reference."""
        model = self.scorer.unwrapped
        was_training = model.training
        model.eval()
        try:
            if not self.is_policy:
                yield
                return
            with switched(model, self.adapter):
                yield
        finally:
            model.train(was_training)

    @torch.no_grad()
    def token_logps(self, pack: Pack) -> torch.Tensor:
        """Reference log-prob of every completion token of a pack, shape (N,)."""
        with self.active(), self.scorer.attending(pack):
            return self.scorer.token_logps(pack)

    @torch.no_grad()
    def hidden(self, pack: Pack) -> torch.Tensor:
        """The reference's head inputs, shape (N, D)."""
        with self.active(), self.scorer.attending(pack):
            return self.scorer.hidden(pack)


def _is_peft(model: Any) -> bool:
    return hasattr(model, "peft_config") and hasattr(model, "disable_adapter")


def _frozen_adapter(model: Any) -> str | None:
    """Copy an adapter that is not at its zero start, so that it can be the reference."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    name = model.active_adapter
    state = get_peft_model_state_dict(model, adapter_name=name)
    fresh = all(not bool(v.any()) for k, v in state.items() if "lora_B" in k) and any("lora_B" in k for k in state)
    if fresh:
        return None
    config = copy.deepcopy(model.peft_config[name])
    if takes_from_base(config):  # which it did; a copy takes nothing
        config.init_lora_weights = True
    model.add_adapter("reference", config)
    set_peft_model_state_dict(model, {k: v.clone() for k, v in state.items()}, adapter_name="reference")
    model.set_adapter(name)
    for parameter_name, parameter in model.named_parameters():
        if ".reference." in parameter_name:
            parameter.requires_grad_(False)
    return "reference"


def freeze(model: nn.Module) -> nn.Module:
    """Evaluation mode, no gradients."""
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return model


def check_matches(policy: Any, reference: Any) -> None:
    """Refuse a reference that cannot be compared with the policy.

    Raises:
        ModelError: another vocabulary size.
    """
    ours, theirs = (m.get_input_embeddings().weight.shape[0] for m in (policy, reference))
    if ours != theirs:
        raise ModelError(
            f"the reference has {theirs} token embeddings, the policy {ours}: their log-probs cannot be compared; "
            "give a reference with the policy's tokenizer, or leave it out to use the policy's start",
            code="PF-M10",
        )
    if policy.config.model_type != reference.config.model_type:
        warnings.warn(
            f"the reference is a {reference.config.model_type}, the policy a {policy.config.model_type}: "
            "comparable only if both use the same tokenizer",
            stacklevel=2,
        )
    if policy is reference:
        raise ModelError(
            "model and ref_model are the same object: the reference would move with the policy; leave ref_model out", code="PF-M10"
        )


def model_fingerprint(model: nn.Module, adapters_off: Sequence[str] = ()) -> str:
    """A hash of all weights (values, not names of files) but those of some adapters."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if any(f".{adapter}." in f".{name}." for adapter in adapters_off):
            continue
        digest.update(name.encode())
        flat = tensor.detach().contiguous().flatten()
        digest.update(flat.view(torch.uint8).cpu().numpy().tobytes())
    return digest.hexdigest()


def groups_fingerprint(groups: Sequence[PromptGroup]) -> str:
    """A hash of token ids, so that any change of data, template or length changes it."""
    digest = hashlib.sha256()
    for group in groups:
        for ids in (group.prompt_ids, *group.completion_ids):
            digest.update(len(ids).to_bytes(4, "little"))
            digest.update(ids.tobytes())
    return digest.hexdigest()


class WithReference(Sequence[PromptGroup]):
    """Groups with their reference log-probs.

    Args:
        logps: of all groups' completion tokens, end to end, shape (N,), float32.
    """

    def __init__(self, groups: Sequence[PromptGroup], logps: NDArray[np.float32]) -> None:
        self.groups = groups
        self.logps = logps
        self.ends = np.cumsum([g.num_completion_tokens for g in groups])

    def __len__(self) -> int:
        return len(self.groups)

    @overload
    def __getitem__(self, at: int) -> PromptGroup: ...
    @overload
    def __getitem__(self, at: slice) -> list[PromptGroup]: ...
    def __getitem__(self, at: int | slice) -> PromptGroup | list[PromptGroup]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        group = self.groups[at]
        end = int(self.ends[at])
        return replace(group, ref_logps=self.logps[end - group.num_completion_tokens : end])


def precompute(
    reference: Reference,
    groups: Sequence[PromptGroup],
    budget: TokenBudget,
    cache_dir: Path | None,
    progress: Callable[[int], None] = lambda done: None,
) -> WithReference:
    """Groups with reference log-probs, from the cache or computed.

    The cache's key is the model's weights and the groups' token ids: a changed learning
    rate reuses it, a changed ``max_length`` does not.
    """
    path, count = None, sum(g.num_completion_tokens for g in groups)
    if cache_dir is not None:
        key = hashlib.sha256((reference.fingerprint + groups_fingerprint(groups)).encode()).hexdigest()[:24]
        path = cache_dir / f"reference-{key}.npy"
        found = kept(path)
        if found is not None:
            try:
                logps = np.load(found, mmap_mode="r", allow_pickle=False)
                if (logps.dtype, logps.shape) == (np.float32, (count,)):
                    return WithReference(groups, logps)
            except ValueError:  # no array, or one of Python objects
                pass
            damaged(found)
            found.unlink()
    out = WithReference(groups, np.empty(count, np.float32))
    for start in range(0, len(groups), PRECOMPUTE_WINDOW):
        part = range(start, min(start + PRECOMPUTE_WINDOW, len(groups)))
        _precompute_part(reference, out, sorted(part, key=lambda i: groups[i].num_tokens()), budget)
        progress(len(part))
    if path is not None:
        keep(path, lambda temporary: np.save(temporary, out.logps))
    return out


def _precompute_part(reference: Reference, out: WithReference, places: list[int], budget: TokenBudget) -> None:
    def one(batch: list[PromptGroup]) -> NDArray[np.float32]:
        logps: NDArray[np.float32] = reference.token_logps(reference.scorer.pack(batch)).cpu().numpy()
        return logps

    for batch, logps in budget.each([out.groups[i] for i in places], reference.scorer.shares, one):
        at = 0
        for place, group in zip(places, batch, strict=False):
            size = group.num_completion_tokens
            end = int(out.ends[place])
            out.logps[end - size : end] = logps[at : at + size]
            at += size
        places = places[len(batch) :]
