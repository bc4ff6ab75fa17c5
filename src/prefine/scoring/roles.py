"""Rewards and values as roles: a head on a trunk, which is a model of its own or an adapter on the policy's base.

Legend: N completion tokens, M completions.
"""

from __future__ import annotations

import copy
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from prefine.errors import ConfigError, ModelError
from prefine.packing.budget import TokenBudget
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup
from prefine.packing.pack import Pack
from prefine.preferences.records import PromptText, plain_text
from prefine.scoring.adapter_start import takes_from_base
from prefine.scoring.adapters import switched
from prefine.scoring.limits import Limits, fit_tokenizer, whole_ids
from prefine.scoring.proof import prove_layout
from prefine.scoring.reward_scorer import RewardScorer, with_last
from prefine.scoring.score_function import Kind, ScoreFunction, call_once, calls_by, where_raised
from prefine.scoring.scorer import Scorer
from prefine.scoring.token_logps import as_head_input

FAILED = math.inf
"""The score of a response on which a function raised: no number that it could have given."""


def score_texts(
    function: ScoreFunction, prompts: Sequence[Any], answers: Sequence[Any], columns: Mapping[str, Any] | None = None
) -> torch.Tensor:
    """Scores, shape (M,), float64; NaN where the function gives none, :data:`FAILED` where it raises, which is a warning.

    Args:
        columns: lists with a value for each answer, and whatever else a function of TRL's kind is given.

    Raises:
        ConfigError: it does not give one score an answer.
    """
    columns, kind = columns or {}, calls_by(function, "lists")
    try:
        scores = call_once(function, prompts, answers, columns, kind)
    except Exception as error:  # the user's code: then each text alone, so that one that raises costs itself only
        name = getattr(function, "__name__", type(function).__name__)
        warnings.warn(
            f"reward function {name} raised {where_raised(error)}; "
            "each response is now scored alone, and those on which it raises have no score",
            stacklevel=2,
        )
        told = f"reward function {name} raised {where_raised(error)}"
        scores = [
            _one(function, p, a, _part(columns, i, len(answers)), kind) for i, (p, a) in enumerate(zip(prompts, answers, strict=True))
        ]
        if scores and all(s == FAILED for s in scores):
            raise ModelError(f"{told}, and on each of the {len(scores)} responses alone; mend it") from error
    if len(scores) != len(answers):
        raise ConfigError(f"the reward function gave {len(scores)} scores for {len(answers)} responses; expected one each", code="PF-J05")
    return torch.tensor([math.nan if s is None else float(s) for s in scores], dtype=torch.float64)


def _part(columns: Mapping[str, Any], place: int, number: int) -> dict[str, Any]:
    """The columns of one answer."""
    return {name: [v[place]] if isinstance(v, list) and len(v) == number else v for name, v in columns.items()}


def _one(function: ScoreFunction, prompt: Any, answer: Any, columns: Mapping[str, Any], kind: Kind) -> float | None:
    try:
        try:
            [score] = call_once(function, [prompt], [answer], columns, kind)
        except TypeError:
            if kind != "lists":
                raise
            [score] = call_once(function, [prompt], [answer], columns, "one")  # its names did not say that it takes one
    except Exception:  # a failure of this text, counted by who asked
        return FAILED
    return None if score is None else float(score)


@dataclass
class HeadRole:
    """One number a position from a head: a reward at an answer's last token, a value at each token.

    Attributes:
        scorer: runs the trunk; head: hidden size to one.
        adapter: which adapter of the trunk the role is; None for a trunk of its own, or the policy's as it is.
        folder: where that adapter was read from.
    """

    scorer: Scorer
    head: nn.Module
    adapter: str | None = None
    folder: str | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within the block the trunk runs with the role's adapter."""
        if self.adapter is None:
            yield
            return
        model = self.scorer.unwrapped
        flags = [p.requires_grad for p in self.own_parameters]
        with switched(model, self.adapter):
            for parameter in self.own_parameters:
                parameter.requires_grad_(True)
            try:
                yield
            finally:
                for parameter, flag in zip(self.own_parameters, flags, strict=True):
                    parameter.requires_grad_(flag)

    @property
    def own_parameters(self) -> list[nn.Parameter]:
        """The adapter's weights in the trunk, which are others once they are shared out over processes."""
        return [p for n, p in self.scorer.unwrapped.named_parameters() if f".{self.adapter}." in n]

    def pack(self, groups: Sequence[PromptGroup]) -> Pack:
        """Groups as they are, on the trunk's device."""
        return Pack.build(groups, next(self.scorer.unwrapped.parameters()).device, self.scorer.shares)

    def values(self, pack: Pack) -> torch.Tensor:
        """A value before each completion token, shape (N,), float32. Call inside :meth:`active` and ``attending``."""
        values_N: torch.Tensor = self.head(as_head_input(self.scorer.hidden(pack), self.head)).squeeze(-1).float()
        return values_N

    @torch.no_grad()
    def rewards(self, groups: Sequence[PromptGroup], budget: TokenBudget) -> torch.Tensor:
        """A reward for each completion, shape (M,), float32, without gradient."""

        def one(part: list[PromptGroup]) -> torch.Tensor:
            pack = self.pack(part)
            with self.scorer.attending(pack):
                last_M = pack.lengths_M.cumsum(0) - 1
                rewards_M: torch.Tensor = self.head(as_head_input(self.scorer.hidden(pack)[last_M], self.head)).squeeze(-1).float()
                return rewards_M

        was_training = self.scorer.unwrapped.training
        self.scorer.unwrapped.eval()
        with self.active():
            out = [found for _, found in budget.each([with_last(g) for g in groups], self.scorer.shares, one)]
        self.scorer.unwrapped.train(was_training)
        return torch.cat(out)

    def parameters(self) -> list[nn.Parameter]:
        """What is trained: the head, and the trunk's own weights or the role's adapter."""
        model = self.scorer.unwrapped
        if self.adapter is not None:
            trunk = self.own_parameters
        else:
            trunk = [p for p in model.parameters() if p.requires_grad] if isinstance(self.scorer, RewardScorer) else []
        known = {id(p) for p in trunk}
        return [*trunk, *(p for p in self.head.parameters() if id(p) not in known)]


@dataclass
class TextRole:
    """A classifier that reads the words, with a tokenizer and a template of its own."""

    role: HeadRole
    encoder: Encoder

    def __post_init__(self) -> None:
        self.limits: Limits = fit_tokenizer(self.role.scorer.unwrapped, self.encoder.tokenizer)

    def rewards(self, prompts: Sequence[PromptText], answers: Sequence[str], budget: TokenBudget) -> torch.Tensor:
        """A reward for each answer, shape (M,), float32; NaN where the model or its template cannot take it, or it has no tokens."""
        encoded = [self._encode(p, a) for p, a in zip(prompts, answers, strict=True)]
        out = torch.full((len(answers),), math.nan)
        places = [i for i, g in enumerate(encoded) if g is not None]
        if places:
            out[places] = self.role.rewards([g for g in encoded if g is not None], budget).cpu()
        return out

    def _encode(self, prompt: PromptText, answer: str) -> PromptGroup | None:
        group = self.encoder.encode(prompt, [answer])
        # Its template may refuse what the policy's takes.
        reason = self.encoder.report.last_reason if group is None else self.limits.misfit(whole_ids(group))
        if reason:
            warnings.warn(f"a response without a reward: {reason}", stacklevel=2)
        return None if reason else group


@runtime_checkable
class MessageReward(Protocol):
    """Scores answers to whole conversations: a judge."""

    def message_rewards(self, prompts: Sequence[PromptText], answers: Sequence[str]) -> Sequence[float | None]:
        """A score for each answer; None is a counted failure."""
        ...


Reward = HeadRole | TextRole | MessageReward | ScoreFunction
"""What scores answers."""


def score_answers(
    reward: Reward,
    groups: Sequence[PromptGroup],
    prompts: Sequence[PromptText],
    answers: Sequence[str],
    budget: TokenBudget,
    columns: Mapping[str, Any] | None = None,
) -> torch.Tensor:
    """Scores of M answers, shape (M,), float64 on the CPU, NaN where there is none, :data:`FAILED` where a function raised.

    Args:
        groups: the same answers as ids, for models of the policy's tokenizer.
        columns: what a function of TRL's kind is given beside prompts and completions: ``completion_ids`` and the like.
    """
    if isinstance(reward, HeadRole):
        return reward.rewards(groups, budget).double().cpu()
    if isinstance(reward, TextRole):
        return reward.rewards(prompts, answers, budget).double()
    if isinstance(reward, MessageReward):
        scores = reward.message_rewards(prompts, answers)
        return torch.tensor([math.nan if s is None else s for s in scores], dtype=torch.float64)
    if calls_by(reward, "lists") != "trl":
        return score_texts(reward, [plain_text(p) for p in prompts], answers)
    asked = [p if isinstance(p, str) else list(p) for p in prompts]
    said: list[Any] = [a if isinstance(p, str) else [{"role": "assistant", "content": a}] for p, a in zip(prompts, answers, strict=True)]
    return score_texts(reward, asked, said, columns)


def own_role(model: Any, max_length: int | None = None) -> HeadRole:
    """A classifier with one label as a role of its own."""
    proof = prove_layout(model, max_length, RewardScorer)
    scorer = RewardScorer(model, proof.layout)
    return HeadRole(scorer, scorer.head)


def make_trainable(model: Any) -> Any:
    """Let a classifier train: all of it, or where it is an adapter on a frozen base the adapter and the head."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not hasattr(model, "peft_config") or "lora_" in name or "score" in name)
    return model


def adapter_role(policy: Scorer, folder: str, name: str) -> HeadRole:
    """A reward model's adapter and head, laid beside the policy's own adapter on one base.

    Raises:
        ModelError: the folder's adapter is for another base, or has no head.
    """
    from peft import PeftConfig, set_peft_model_state_dict
    from peft.utils import load_peft_weights

    model = policy.unwrapped
    config = PeftConfig.from_pretrained(folder)
    weights = load_peft_weights(folder, device="cpu")
    heads = [k for k in weights if k.endswith("score.weight")]
    if not heads:
        raise ModelError(f"{folder}: an adapter without a reward head (score.weight)", code="PF-M09")
    head = nn.Linear(weights[heads[0]].shape[1], 1, bias=False)
    head.weight.data.copy_(weights[heads[0]])
    config = copy.deepcopy(config)
    if takes_from_base(config):
        raise ModelError(
            f"{folder}: its adapter starts as {config.init_lora_weights}, out of the base's own weights, and cannot lie beside another; "
            "save it as plain LoRA (PEFT's path_initial_model_for_weight_conversion)"
        )
    config.modules_to_save = None
    config.task_type = "CAUSAL_LM"
    config.inference_mode = False
    before, flags = model.active_adapter, {n: p.requires_grad for n, p in model.named_parameters()}
    model.add_adapter(name, config)
    missing = set_peft_model_state_dict(model, {k: v for k, v in weights.items() if k not in heads}, adapter_name=name)
    if missing.unexpected_keys:
        raise ModelError(f"{folder}: its adapter does not fit the policy's base ({missing.unexpected_keys[0]} and more)", code="PF-M04")
    model.set_adapter(before)
    for parameter_name, parameter in model.named_parameters():
        parameter.requires_grad_(flags.get(parameter_name, False))
    device = next(model.parameters()).device
    return HeadRole(policy, head.to(device), name, folder)


def fits_base(policy: Any, folder: str) -> bool:
    """Whether a folder's adapter is for the base that a policy's adapter is on."""
    path = Path(folder) / "adapter_config.json"
    if not path.exists() or not hasattr(policy, "peft_config"):
        return False
    base = str(json.loads(path.read_text(encoding="utf-8"))["base_model_name_or_path"])
    ours = str(getattr(policy.get_base_model().config, "_name_or_path", ""))
    return base == ours or (Path(base).exists() and Path(ours).exists() and Path(base).resolve() == Path(ours).resolve())


def value_role(policy: Scorer, reward: HeadRole | None, role: str) -> HeadRole:
    """A value model: a copy of the reward model (its adapter, where it is one), or a head on the policy's own trunk.

    Raises:
        ModelError: a copy is asked for, and the rewards come from no model that could be copied.
    """
    if role == "policy":
        width = policy.unwrapped.config.get_text_config().hidden_size
        head = nn.Linear(width, 1)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return HeadRole(policy, head.to(next(policy.unwrapped.parameters()).device))
    if reward is None:
        raise ModelError(
            "value_role reward copies the reward model, but rewards come from functions or from models with another tokenizer or template; "
            "give value_role policy"
        )
    if reward.adapter is None:
        scorer = RewardScorer(copy.deepcopy(reward.scorer.unwrapped), reward.scorer.layout)
        make_trainable(scorer.unwrapped)
        return HeadRole(scorer, scorer.head)
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    model = policy.unwrapped
    state = {k: v.clone() for k, v in get_peft_model_state_dict(model, adapter_name=reward.adapter).items()}
    before, flags = model.active_adapter, {n: p.requires_grad for n, p in model.named_parameters()}
    model.add_adapter("value", copy.deepcopy(model.peft_config[reward.adapter]))
    set_peft_model_state_dict(model, state, adapter_name="value")
    model.set_adapter(before)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(flags.get(name, False))
    return HeadRole(policy, copy.deepcopy(reward.head), "value")
