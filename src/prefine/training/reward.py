"""Reward models on packs: Bradley-Terry on pairs whose prompt is computed once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prefine.errors import ConfigError, DataError
from prefine.losses.reward import bradley_terry_loss
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup
from prefine.packing.pack import Pack
from prefine.preferences.records import Pair
from prefine.scoring.loading import load_tokenizer, pad_apart
from prefine.scoring.reward_scorer import RewardScorer, load_reward_model, without_last
from prefine.training.config import PackConfig, RewardConfig
from prefine.training.pack_trainer import PackTrainer
from prefine.training.pair_groups import pair_groups

PairKey = tuple[int, int]


def pair_key(group: PromptGroup) -> PairKey:
    """What a pair is known by: its row, and its answers, for a row of ranked answers gives several pairs."""
    return group.index, hash(tuple(c.tobytes() for c in group.completion_ids))


class RewardTrainer(PackTrainer):
    """Trains a sequence classifier with one label; saved so that transformers, TRL and vLLM load it.

    Args:
        model: a name or folder (a causal language model's gets a new head), or a loaded classifier.
        train_dataset: rows in any form ``prefine.preferences`` reads, or pairs, or groups.
        margins: a group's :func:`pair_key` -> how much better the chosen is; read from the pairs' scores where they are given.

    Raises:
        PrefineError: options or data that do not fit, before training.
    """

    args: RewardConfig
    scorer: RewardScorer
    scorer_kind = RewardScorer

    def __init__(
        self,
        model: str | nn.Module,
        args: RewardConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        peft_config: Any = None,
        margins: dict[PairKey, float] | None = None,
    ) -> None:
        if train_dataset is None:
            raise DataError("train_dataset is missing; give rows with 'prompt', 'chosen' and 'rejected'")
        args = args if args is not None else RewardConfig(output_dir="trainer_output")
        if args.ensemble != 1:
            raise ConfigError("ensemble: a trainer trains one reward model; prefine.training.reward.train_ensemble trains several")
        if args.retain is not None:
            raise ConfigError("retain keeps what a language model says, and would be ignored by a reward model; leave it out")
        if processing_class is None and isinstance(model, str):
            processing_class = load_tokenizer(model, args.trust_remote_code)
        if peft_config is not None and peft_config.task_type != "SEQ_CLS":
            peft_config = copy.copy(peft_config)
            peft_config.task_type = "SEQ_CLS"  # the head is trained and saved beside the adapter
        self.margins = dict(margins or {})
        super().__init__(model, args, train_dataset, eval_dataset, processing_class, callbacks, optimizers, peft_config)
        pad_apart(self.processing_class, self.limits.ids)
        config = self.scorer.unwrapped.config
        config.get_text_config().pad_token_id = self.processing_class.pad_token_id  # what other loaders find the last token by

    def load(self, model: str | nn.Module, args: PackConfig) -> nn.Module:
        """A classifier by its name, with a new head on a causal language model."""
        if isinstance(model, nn.Module):
            return model
        with torch.random.fork_rng():
            torch.manual_seed(args.seed)  # of the new head
            loaded: nn.Module = load_reward_model(model, trust_remote_code=args.trust_remote_code, new_head=True, **args.init_kwargs())
        return loaded

    def prepare(self, dataset: Any, name: str, encoder: Encoder) -> Sequence[PromptGroup]:
        """Encode rows or pairs one by one, noting their margins, or pass groups through."""

        def note(pair: Pair, group: PromptGroup) -> None:
            if pair.scores is not None and name == "train_dataset":
                self.margins[pair_key(group)] = pair.scores[0] - pair.scores[1]

        out = pair_groups(dataset, name, encoder, note)
        if not len(out):
            raise DataError(f"{name}: no pair is left after encoding; dropped {encoder.report.dropped}")
        return out

    def _margins(self, pack: Pack) -> torch.Tensor | None:
        if not self.args.use_margins or not self.margins:
            return None
        return torch.tensor([self.margins.get(pair_key(without_last(g)), 0.0) for g in pack.groups], device=pack.target_N.device)

    def _losses(self, pack: Pack, mode: str) -> torch.Tensor:
        """Each pair's loss, shape (P,); call inside ``attending``."""
        rewards = self.scorer.rewards(pack).view(-1, 2)
        chosen, rejected = rewards[:, 0], rewards[:, 1]
        margins = self._margins(pack) if mode == "train" else None
        losses_P = bradley_terry_loss(chosen, rejected, margins, self.args.label_smoothing, self.args.center_rewards_coefficient or 0.0)
        pairs = float(len(chosen))
        for name, values in (
            ("rewards/chosen", chosen),
            ("rewards/rejected", rejected),
            ("rewards/accuracies", (chosen > rejected).float()),
            ("rewards/margins", chosen - rejected),
        ):
            self.note(mode, name, float(values.detach().mean()), pairs)
        return losses_P

    def batch_backward(self, groups: list[PromptGroup], scale: float) -> torch.Tensor:
        """Mean loss over pairs, pack by pack."""
        total = torch.zeros((), device=self.args.device)
        for pack in self.packs(groups):
            with self.scorer.attending(pack):
                with self.compute_loss_context_manager():
                    loss = self._losses(pack, "train").sum() / len(groups)
                self.backward(loss * scale)
            self.note_pack(pack)
            total += loss.detach()
        return total

    def batch_loss(self, groups: list[PromptGroup]) -> torch.Tensor:
        """Mean loss over pairs without gradient."""
        total = torch.zeros((), device=self.args.device)
        for pack in self.packs(groups):
            with self.scorer.attending(pack):
                total += self._losses(pack, "eval").sum() / len(groups)
        return total


def bootstrap(groups: Sequence[PromptGroup], seed: int) -> list[int]:
    """Places of a resample of whole prompts, as many as there are."""
    by_prompt: dict[bytes, list[int]] = {}
    for place, group in enumerate(groups):
        by_prompt.setdefault(group.prompt_ids.tobytes(), []).append(place)
    members = list(by_prompt.values())
    picks = np.random.default_rng(seed).integers(0, len(members), len(members))
    return [place for pick in picks for place in members[pick]]


def train_ensemble(
    load: Callable[[], Any],
    args: RewardConfig,
    groups: Sequence[PromptGroup],
    peft_config: Any,
    folder: Path,
    prepare: Callable[[RewardTrainer], None] = lambda trainer: None,
    done: Collection[int] = (),
    **kwargs: Any,
) -> Iterator[tuple[int, RewardTrainer]]:
    """Train ``args.ensemble`` members one after the other; each is saved as ``folder/member-I``, and I and its trainer given.

    Every member has a seed of its own, for its head, its adapter, its order and its resample of the prompts. With
    ``peft_config`` the base is loaded once: members are adapters and heads on it.

    Args:
        load: gives a classifier; called once with an adapter, else for every member.
        prepare: sees each trainer before it trains.
        done: members that were trained before; they are left as they are.
        kwargs: further arguments of :class:`RewardTrainer`.
    """
    model = None
    for member in (m for m in range(args.ensemble) if m not in done):
        own = copy.copy(args)
        own.ensemble, own.seed, own.output_dir = 1, args.seed + member, f"{args.output_dir}/member-{member}"
        if model is None or peft_config is None:
            model = load()
        generator = torch.Generator().manual_seed(own.seed)
        std = float(getattr(model.config, "initializer_range", 0.02))
        model.score.weight.data.copy_(torch.randn(model.score.weight.shape, generator=generator) * std)
        torch.manual_seed(own.seed)  # of a new adapter's weights
        places = bootstrap(groups, own.seed) if args.ensemble_bootstrap else list(range(len(groups)))
        drawn = groups.select(np.array(places)) if hasattr(groups, "select") else [groups[i] for i in places]
        trainer = RewardTrainer(model, own, drawn, peft_config=copy.deepcopy(peft_config), **kwargs)
        prepare(trainer)
        trainer.train()
        trainer.save_model(str(folder / f"member-{member}"))
        yield member, trainer
        if peft_config is not None:
            model = trainer.scorer.unwrapped.unload()
