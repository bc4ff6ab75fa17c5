"""The reference policy: adapter off, a frozen copy, a model of the user's, or log-probs from disk."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prefine.errors import ModelError
from prefine.packing.budget import TokenBudget
from prefine.packing.group import PromptGroup
from prefine.packing.pack import Pack
from prefine.scoring.scorer import Scorer


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

    @property
    def is_policy(self) -> bool:
        """Whether the reference is the policy's own weights with the adapter off."""
        return self.scorer is self.policy

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within the block ``self.scorer`` scores as the reference."""
        model = self.scorer.unwrapped
        was_training = model.training
        model.eval()
        try:
            if not self.is_policy:
                yield
            elif self.adapter is None:
                with model.disable_adapter():
                    yield
            else:
                current = model.active_adapter
                model.set_adapter(self.adapter)
                try:
                    yield
                finally:
                    model.set_adapter(current)
                    for name, parameter in model.named_parameters():
                        if f".{self.adapter}." in name:
                            parameter.requires_grad_(False)
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
    model.add_adapter("reference", copy.deepcopy(model.peft_config[name]))
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
            "give a reference with the policy's tokenizer, or leave it out to use the policy's start"
        )
    if policy.config.model_type != reference.config.model_type:
        warnings.warn(
            f"the reference is a {reference.config.model_type}, the policy a {policy.config.model_type}: "
            "comparable only if both use the same tokenizer",
            stacklevel=2,
        )
    if policy is reference:
        raise ModelError("model and ref_model are the same object: the reference would move with the policy; leave ref_model out")


def model_fingerprint(model: nn.Module) -> str:
    """A hash of all weights (values, not names of files)."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
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


def precomputed_token_logps(
    reference: Reference,
    groups: Sequence[PromptGroup],
    budget: TokenBudget,
    cache_dir: Path | None,
    progress: Callable[[int], None] = lambda done: None,
) -> list[np.ndarray]:
    """Reference log-probs of each group's completion tokens, end to end, from the cache or computed.

    The cache's key is the model's weights and the groups' token ids: a changed learning
    rate reuses it, a changed ``max_length`` does not.
    """
    with reference.active():
        weights = model_fingerprint(reference.scorer.unwrapped) + str(reference.adapter)
    key = hashlib.sha256((weights + groups_fingerprint(groups)).encode()).hexdigest()[:24]
    path = cache_dir / f"reference-{key}.npz" if cache_dir else None
    sizes = [sum(len(c) for c in g.completion_ids) for g in groups]
    if path is not None and path.exists():
        flat = np.load(path)["logps"]
        if len(flat) == sum(sizes):
            return np.split(flat, np.cumsum(sizes)[:-1])
    order = sorted(range(len(groups)), key=lambda i: groups[i].num_tokens())
    out: list[np.ndarray] = [np.empty(0, np.float32)] * len(groups)
    done = 0
    for batch in budget.split([groups[i] for i in order], reference.scorer.shares):
        pack = reference.scorer.pack(batch)
        flat = reference.token_logps(pack).cpu().numpy()
        for i, part in zip(
            order[done : done + len(batch)],
            np.split(flat, np.cumsum([sizes[i] for i in order[done : done + len(batch)]])[:-1]),
            strict=True,
        ):
            out[i] = part
        done += len(batch)
        progress(len(batch))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp.npz")
        np.savez(temporary, logps=np.concatenate(out), about=json.dumps({"groups": len(groups)}))
        temporary.replace(path)
    return out
