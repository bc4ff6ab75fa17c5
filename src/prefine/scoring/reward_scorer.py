"""A sequence classifier with one label on packs: a reward for each completion, the prompt computed once.

Legend: T input tokens, N completion tokens, M completions, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

from prefine.errors import ModelError
from prefine.packing.group import PromptGroup, as_ids
from prefine.packing.pack import Pack
from prefine.scoring.loading import as_in_training, cannot_load, check_base, check_exists, whole
from prefine.scoring.scorer import Layout, Scorer, unwrap
from prefine.scoring.token_logps import as_head_input, call_head


def load_reward_model(
    model: str, dtype: torch.dtype = torch.float32, trust_remote_code: bool = False, new_head: bool = False, **kwargs: Any
) -> Any:
    """Load a classifier with one label; whether it has one, its weights say, for its config may not.

    Args:
        new_head: take a causal language model too, and give it a head to be trained.

    Raises:
        MissingFile, ModelError: nothing there, not loadable, or a classifier of other than one label.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification

    check_exists(model)
    base = check_base(model)
    kwargs |= {"trust_remote_code": trust_remote_code}
    try:
        if base:
            with whole():
                return as_in_training(AutoModelForSequenceClassification.from_pretrained(model, num_labels=1, dtype=dtype, **kwargs))
        where = {k: kwargs[k] for k in ("revision", "subfolder", "token") if k in kwargs}
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code, **where)
        told = {"output_loading_info": True, "ignore_mismatched_sizes": True}
        with whole():
            loaded, info = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1, dtype=dtype, **kwargs | told)
    except Exception as error:  # a model's code, its files and its packages: anything
        raise cannot_load(model, base, "a reward model", error) from error
    for key, saved, ours in info["mismatched_keys"]:
        if key.endswith("score.weight"):
            raise ModelError(f"{model}: a classifier of {saved[0]} labels; reward models require `num_labels=1`", code="PF-M09")
        raise ModelError(f"{model}: {key} is saved as {tuple(saved)}, and the config asks for {tuple(ours)}; mend the config")
    if not new_head and any("score" in key for key in info["missing_keys"]):
        raise ModelError(
            f"{model}: no reward model but a {', '.join(config.architectures or ['model without a head named score'])}", code="PF-M09"
        )
    return as_in_training(loaded)


class RewardScorer(Scorer):
    """Runs a sequence classifier's trunk on packs, and its head on each completion's last token.

    Packs are of :func:`with_last` groups: a pack leaves every completion's last token out of its input, and a
    reward is read from that very token.

    Raises:
        ModelError: the model has no head named ``score``, or more than one label.
    """

    def __init__(self, model: nn.Module, layout: Layout = "shared") -> None:
        self.model = model
        self.layout: Layout = layout
        self.unwrapped = unwrap(model)
        classifier = self.unwrapped.get_base_model() if hasattr(self.unwrapped, "get_base_model") else self.unwrapped
        self.trunk: nn.Module = getattr(classifier, classifier.base_model_prefix)
        if not hasattr(classifier, "score"):
            raise ModelError(
                f"{type(classifier).__name__}: no head named 'score', as transformers' decoder classifiers have", code="PF-M09"
            )
        self.head: nn.Module = classifier.score
        if classifier.config.num_labels != 1:
            raise ModelError(f"a classifier of {classifier.config.num_labels} labels; reward models require `num_labels=1`", code="PF-M09")
        self.wants_aux_loss = False
        self.aux_loss = None
        self.autocast = nullcontext

    def pack(self, groups: list[PromptGroup]) -> Pack:
        """A pack whose input holds whole completions."""
        return super().pack([with_last(g) for g in groups])

    def rewards(self, pack: Pack) -> torch.Tensor:
        """Each completion's reward, shape (M,), float32. Call inside :meth:`attending`."""
        last_M = pack.lengths_M.cumsum(0) - 1

        def work(hidden_ND: torch.Tensor) -> tuple[torch.Tensor]:
            return (call_head(self.head, hidden_ND[last_M]).squeeze(-1).float(),)

        rewards_M: torch.Tensor = self.read(pack, work)[0]
        return rewards_M

    def values(self, pack: Pack) -> torch.Tensor:
        """What a proof compares: the rewards, shape (M,)."""
        return self.rewards(pack)

    def plain_values(self, group: PromptGroup) -> torch.Tensor:
        """The same by ordinary forwards of prompt + completion, one at a time, shape (M,)."""
        device = next(self.unwrapped.parameters()).device
        out = []
        for completion in group.completion_ids:
            ids = torch.from_numpy(np.concatenate((group.prompt_ids, completion)).astype(np.int64)).to(device)
            hidden = self.trunk(input_ids=ids[None], use_cache=False).last_hidden_state[0, -1]
            out.append(self.head(as_head_input(hidden, self.head)).float())
        return torch.cat(out)

    @torch.no_grad()
    def completion_rewards(self, groups: Sequence[PromptGroup]) -> torch.Tensor:
        """Rewards of all completions, shape (M,), without gradient, in one pack."""
        pack = self.pack(list(groups))
        with self.attending(pack):
            return self.rewards(pack)


def with_last(group: PromptGroup) -> PromptGroup:
    """The group with a token more at each completion's end, which stands for nothing and is never looked at."""
    filler = as_ids([0])
    return PromptGroup(group.prompt_ids, tuple(np.concatenate((c, filler)) for c in group.completion_ids), group.index)


def without_last(group: PromptGroup) -> PromptGroup:
    """What :func:`with_last` was given."""
    return PromptGroup(group.prompt_ids, tuple(c[:-1] for c in group.completion_ids), group.index)
