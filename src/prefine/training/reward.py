"""Reward models on packs: Bradley-Terry on pairs whose prompt is computed once."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prefine.errors import ConfigError
from prefine.losses.reward import bradley_terry_loss
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup
from prefine.packing.pack import Pack
from prefine.preferences.records import Pair
from prefine.scoring.loading import pad_apart
from prefine.scoring.reward_scorer import RewardScorer, load_reward_model, without_last
from prefine.training.arguments import config_of, refuse_hooks
from prefine.training.config import PackConfig, RewardConfig
from prefine.training.pack_trainer import Evaluated, PackTrainer
from prefine.training.pair_groups import pair_groups
from prefine.training.prepared import StreamedGroups

PairKey = tuple[int, int]


def margin_of(pair: Pair, from_scores: bool) -> float | None:
    """By how much the chosen is to be preferred: the pair's own margin, or the difference of its scores; None where nothing says."""
    if pair.margin is not None:
        return pair.margin
    return pair.scores[0] - pair.scores[1] if from_scores and pair.scores is not None else None


def pair_key(group: PromptGroup) -> PairKey:
    """What a pair is known by: its row, and its answers, for a row of ranked answers gives several pairs."""
    return group.index, hash(tuple(c.tobytes() for c in group.completion_ids))


@dataclass(frozen=True, slots=True, eq=False)
class WholePair(PromptGroup):
    """A pair whose columns are whole sequences, as TRL's reward trainer prepares them."""

    def columns(self) -> dict[str, list[int]]:
        """``chosen_ids`` and ``rejected_ids``, each with the prompt."""
        prompt = self.prompt_ids.tolist()
        chosen, rejected = (ids.tolist() for ids in self.completion_ids)
        return {"chosen_ids": prompt + chosen, "rejected_ids": prompt + rejected}


class RewardTrainer(PackTrainer):
    """Trains a sequence classifier with one label; saved so that transformers, TRL and vLLM load it.

    Args:
        model: a name or folder (a causal language model's gets a new head), or a loaded classifier.
        train_dataset: rows in any format ``prefine.preferences`` reads, or pairs, or groups.
        margins: a group's :func:`pair_key` -> by how much its chosen is to be preferred; read from a column ``margin`` too.

    Raises:
        PrefineError: options or data that do not fit, before training.
    """

    args: RewardConfig
    scorer: RewardScorer
    scorer_kind = RewardScorer
    tags = ("prefine", "reward-trainer")

    def __init__(
        self,
        model: str | nn.Module,
        args: RewardConfig | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        compute_metrics: Any = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[Any, Any] | None = None,
        preprocess_logits_for_metrics: Any = None,
        quantization_config: Any = None,
        peft_config: Any = None,
        margins: dict[PairKey, float] | None = None,
    ) -> None:
        refuse_hooks(self, data_collator)
        args = config_of(args, RewardConfig)
        if args.ensemble != 1:
            raise ConfigError("ensemble: a trainer trains one reward model; prefine.training.reward.train_ensemble trains several")
        if args.retain is not None:
            raise ConfigError(
                "retain keeps what a language model says, and would be ignored by a reward model; leave it out", code="PF-C04"
            )
        if peft_config is not None and peft_config.task_type is None and "score" not in (peft_config.modules_to_save or ()):
            warnings.warn(
                "peft_config has no task_type, so the reward head stays as it is and the adapter alone is trained, as in TRL; "
                "task_type='SEQ_CLS' trains the head too",
                stacklevel=2,
            )
        elif peft_config is not None and peft_config.task_type not in (None, "SEQ_CLS"):
            peft_config = copy.copy(peft_config)
            peft_config.task_type = "SEQ_CLS"  # the head is trained and saved beside the adapter
        self.margins = dict(margins or {})
        self.use_margins = args.use_margins
        super().__init__(
            model,
            args,
            train_dataset,
            eval_dataset,
            processing_class,
            callbacks,
            optimizers,
            peft_config,
            quantization_config=quantization_config,
            compute_metrics=compute_metrics,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        if args.use_margins and not self.margins and not isinstance(self.train_dataset, StreamedGroups):
            raise ConfigError(
                "use_margins would be ignored: no pair of train_dataset has scores (score_chosen, score_rejected); leave it out",
                code="PF-C04",
            )
        pad_apart(self.processing_class, self.limits.ids)
        config = self.scorer.unwrapped.config
        config.get_text_config().pad_token_id = self.processing_class.pad_token_id  # what other loaders find the last token by

    def load(self, model: str | nn.Module, args: PackConfig, quantization_config: Any = None) -> nn.Module:
        """A classifier by its name, with a new head on a causal language model."""
        if isinstance(model, nn.Module):
            return model
        with torch.random.fork_rng():
            torch.manual_seed(args.seed)  # of the new head
            quantized = {} if quantization_config is None else {"quantization_config": quantization_config}
            kwargs = args.init_kwargs() | quantized
            loaded: nn.Module = load_reward_model(model, trust_remote_code=args.trusts_code, new_head=True, **kwargs)
        return loaded

    def encode_rows(self, rows: Iterator[Any], name: str, encoder: Encoder) -> Iterator[PromptGroup]:
        """Pairs, rows of them in any format, or rows of token ids; their margins are noted."""

        def note(pair: Any, group: PromptGroup) -> None:
            margin = margin_of(pair, self.use_margins) if isinstance(pair, Pair) else pair.get("margin")
            if margin is not None:
                self.margins[pair_key(group)] = float(margin)

        for group in pair_groups(rows, name, encoder, note, self.encoding_workers):
            yield WholePair(group.prompt_ids, group.completion_ids, group.index)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)
        model = self.scorer.unwrapped
        if hasattr(model, "peft_config") and not model.peft_config[model.active_adapter].modules_to_save:
            _save_head(model, Path(output_dir or self.args.output_dir))

    def _margins(self, pack: Pack) -> torch.Tensor | None:
        if not self.margins:
            return None
        return torch.tensor([self.margins.get(pair_key(without_last(g)), 0.0) for g in pack.groups], device=pack.target_N.device)

    def _losses(self, pack: Pack, mode: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Each pair's loss, shape (P,), and rewards, shape (P, 2); call inside ``attending``."""
        rewards = self.scorer.rewards(pack).view(-1, 2)
        chosen, rejected = rewards[:, 0], rewards[:, 1]
        margins = self._margins(pack)
        losses_P = bradley_terry_loss(chosen, rejected, margins, self.args.label_smoothing, self.args.center_rewards_coefficient or 0.0)
        pairs = float(len(chosen))
        for name, values in (
            ("rewards/chosen", chosen),
            ("rewards/rejected", rejected),
            ("rewards/accuracies", (chosen > rejected).float()),
            ("rewards/margins", chosen - rejected),
            ("mean_reward", rewards),
        ):
            self.note(mode, name, float(values.detach().mean()), pairs)
        return losses_P, rewards.detach()

    def _note_batch(self, mode: str, rewards: list[torch.Tensor]) -> torch.Tensor:
        """TRL's names for what is measured; the extremes are of the batch, whatever packs it took. Returns rewards, shape (P, 2)."""
        rewards_P2 = torch.cat(rewards)
        margins_P = rewards_P2[:, 0] - rewards_P2[:, 1]
        self.note(mode, "accuracy", float((margins_P > 0).float().mean()), len(margins_P))
        self.note(mode, "margin", float(margins_P.mean()), len(margins_P))
        self.note(mode, "min_reward", float(rewards_P2.min()))
        self.note(mode, "max_reward", float(rewards_P2.max()))
        return rewards_P2

    def batch_backward(self, groups: list[PromptGroup], scale: float) -> torch.Tensor:
        """Mean loss over pairs, pack by pack."""
        total, rewards = torch.zeros((), device=self.args.device), []
        for pack in self.packs(groups):
            with self.scorer.attending(pack):
                with self.compute_loss_context_manager():
                    losses_P, rewards_P2 = self._losses(pack, "train")
                    loss = losses_P.sum() / self.mean_number
                self.backward(loss * scale)
            self.note_pack(pack)
            rewards.append(rewards_P2)
            total += loss.detach()
        if rewards:
            self._note_batch("train", rewards)
        return total

    def batch_loss(self, groups: list[PromptGroup], predict: bool = False) -> Evaluated:
        """Mean loss over pairs without gradient; predictions are the rewards (P, 2) of chosen and rejected, labels (P,) zeros, the
        place of the chosen.
        """
        total, rewards = torch.zeros((), device=self.args.device), []
        for pack in self.packs(groups):
            with self.scorer.attending(pack):
                losses_P, rewards_P2 = self._losses(pack, "eval")
            rewards.append(rewards_P2)
            total += losses_P.sum() / len(groups)
        rewards_P2 = self._note_batch("eval", rewards)
        return Evaluated(total, rewards_P2, torch.zeros_like(rewards_P2[:, 0], dtype=torch.long)) if predict else Evaluated(total)


def _save_head(model: Any, folder: Path) -> None:
    """Put a head that was not trained into a saved adapter: where it was new, nothing else has it."""
    from safetensors.torch import load_file, save_file

    name = model.active_adapter
    folder = folder if name == "default" else folder / name
    config = copy.deepcopy(model.peft_config[name])
    config.task_type, config.modules_to_save, config.inference_mode = "SEQ_CLS", ["score"], True
    if isinstance(config.target_modules, set):
        config.target_modules = config.target_modules - {"score"}
    config.save_pretrained(folder)
    file, score = folder / "adapter_model.safetensors", model.get_base_model().score
    head = score.weight.detach()
    if hasattr(score, "get_delta_weight"):  # all-linear takes the head for one more layer to adapt
        head = head + score.get_delta_weight(name).detach()
    weights = {name: w for name, w in load_file(file).items() if ".score." not in name}
    save_file(weights | {"base_model.model.score.weight": head.cpu().contiguous()}, file, {"format": "pt"})


def bootstrap(groups: Sequence[PromptGroup], seed: int) -> list[int]:
    """Places of a resample of whole prompts, as many as there are."""
    by_prompt: dict[bytes, list[int]] = {}
    for place, group in enumerate(groups):
        by_prompt.setdefault(group.prompt_ids.tobytes(), []).append(place)
    members = list(by_prompt.values())
    picks = np.random.default_rng(seed).integers(0, len(members), len(members))
    return [place for pick in picks for place in members[pick]]


def _train_and_save(trainer: RewardTrainer, place: Path) -> None:
    trainer.train()
    trainer.save_model(str(place))


def train_ensemble(
    load: Callable[[], Any],
    args: RewardConfig,
    groups: Sequence[PromptGroup],
    peft_config: Any,
    folder: Path,
    prepare: Callable[[RewardTrainer], None] = lambda trainer: None,
    done: Collection[int] = (),
    train: Callable[[RewardTrainer, Path], None] = _train_and_save,
    **kwargs: Any,
) -> Iterator[tuple[int, RewardTrainer]]:
    """Train ``args.ensemble`` members one after the other; each is saved as ``folder/member-I``, and I and its trainer given.

    Every member has a seed of its own, for its head, its adapter, its order and its resample of the prompts. With
    ``peft_config`` the base is loaded once: members are adapters and heads on it.

    Args:
        load: gives a classifier; called once with an adapter that leaves the base as it is, else for every member.
        prepare: sees each trainer before it trains.
        done: members that were trained before; they are left as they are.
        train: trains a member and saves it in a folder.
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
        trainer = RewardTrainer(model, own, train_dataset=drawn, peft_config=copy.deepcopy(peft_config), **kwargs)
        prepare(trainer)
        train(trainer, folder / f"member-{member}")
        yield member, trainer
        if trainer.together.sharded:
            trainer.let_go()
            model = None
        elif trainer.taken is not None:  # its base is not what it was
            model = None
        elif peft_config is not None:
            model = trainer.scorer.unwrapped.unload()
