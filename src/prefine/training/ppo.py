"""PPO, RLOO, GRPO and REINFORCE++ on packs: a prompt's samples share it in sampling, scoring and every update.

Policy, reference, reward and value are roles; with LoRA they are adapters and heads on one frozen base.
What is left out: process rewards.

Legend: K samples of one prompt, T tokens of one answer, N tokens of a pack's answers, M answers of a pack.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from prefine.errors import ConfigError, ModelError
from prefine.losses.policy_gradient import (
    ESTIMATORS,
    KL_ESTIMATORS,
    AdaptiveKL,
    Totals,
    gae,
    group_centred,
    group_relative,
    leave_one_out,
    loss_shares,
    policy_loss,
    reward_to_go,
    sequence_log_ratio,
    value_loss,
    whiten,
)
from prefine.packing.group import PromptGroup
from prefine.packing.pack import Pack
from prefine.scoring.roles import HeadRole, make_trainable, own_role, value_role
from prefine.scoring.token_logps import as_head_input, head_entropy
from prefine.training.arguments import config_of, refuse_hooks
from prefine.training.config import PPOConfig
from prefine.training.pack_trainer import Evaluated, disable_dropout
from prefine.training.sampler import RolloutLoader, Sampled, SamplingTrainer
from prefine.training.sharded_checkpoint import gathered, hand_out
from prefine.training.together import clip_gradients

CHECKED_PROMPTS, SAME_LOGPS = 4, 1e-4
"""How many prompts of a rollout the sampler is held against the trainer on, and the largest difference of a token's log-prob,
nats, up to which the sampler's are taken for all: in float32 they are, which saves a pass."""
FloatN = NDArray[np.float32]


ADVANTAGES = {"rloo": leave_one_out, "grpo": group_relative, "dapo": group_relative, "gspo": group_relative, "dr_grpo": group_centred}
"""A prompt's scores to advantages, of those estimators that compare a prompt's samples."""


@dataclass(frozen=True)
class Experience(PromptGroup):
    """A prompt's samples with what the update needs of each token, end to end.

    Attributes:
        old: log-probs when sampled; ref: the reference's; advantages, values, returns: of each token.
        weights: 1, or 0 for tokens of samples that are left out.
    """

    old: FloatN = None  # type: ignore[assignment]
    ref: FloatN = None  # type: ignore[assignment]
    advantages: FloatN = None  # type: ignore[assignment]
    values: FloatN = None  # type: ignore[assignment]
    returns: FloatN = None  # type: ignore[assignment]
    weights: FloatN = None  # type: ignore[assignment]


class PPOTrainer(SamplingTrainer):
    """Reinforcement learning from a reward, with a penalty for leaving the reference; the signature is that of TRL's last PPOTrainer.

    Args:
        processing_class: the policy's tokenizer; None for the one that lies beside it.
        model: a name, a folder, or a loaded causal language model (plain or peft).
        reward_model: a folder, a loaded one-label classifier, a function of prompts and answers, or several.
        train_dataset: prompts: texts, messages, or rows that have them.
        ref_model: None for the policy's own start.
        value_model: a loaded classifier to start the value model from; None: as ``value_role`` says.
        eval_dataset: prompts that are sampled and scored when it is asked for.
        reward_weights: one a reward.

    Raises:
        PrefineError: options or data that do not fit, before training.
    """

    args: PPOConfig
    tags = ("prefine", "ppo")

    def __init__(
        self,
        args: PPOConfig | None,
        processing_class: Any,
        model: str | nn.Module,
        ref_model: str | nn.Module | None = None,
        reward_model: Any = None,
        train_dataset: Any = None,
        value_model: nn.Module | None = None,
        data_collator: Any = None,
        eval_dataset: Any = None,
        optimizers: tuple[Any, Any] = (None, None),
        callbacks: list[Any] | None = None,
        peft_config: Any = None,
        reward_weights: Sequence[float] | None = None,
        quantization_config: Any = None,
    ) -> None:
        refuse_hooks(self, data_collator)
        args = config_of(args, PPOConfig)
        # Prompts of a rollout, of all processes; of its updates no gradients are accumulated, packs are.
        self.prompts_per_rollout = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.args = args = copy.copy(args)
        args.gradient_accumulation_steps = 1
        super().__init__(
            model,
            args,
            train_dataset,
            eval_dataset,
            processing_class,
            callbacks,
            optimizers,
            peft_config,
            True,
            ref_model,
            quantization_config=quantization_config,
        )
        self.set_rewards(reward_model, reward_weights)
        self.temper()
        self.value: HeadRole | None = None
        if ESTIMATORS[args.advantage_estimator].uses_values:
            if value_model is not None and value_model is reward_model:
                raise ModelError(
                    "value_model and reward_model are the same object: the reward would move with the values; leave value_model out"
                )
            if value_model is not None:
                self.value = own_role(make_trainable(value_model.to(args.device)))
            else:
                start = args.value_role or ("policy" if self.first_reward_model is None else "reward")
                self.value = value_role(self.scorer, self.first_reward_model, start)
            if args.disable_dropout:
                disable_dropout(self.value.scorer.unwrapped)
        elif value_model is not None:
            raise ConfigError(
                f"advantage_estimator {args.advantage_estimator} has no value model and would ignore value_model; leave it out",
                code="PF-C02",
            )
        for role in (*self.rewards, self.value):
            if isinstance(role, HeadRole):
                role.head.to(args.device)
                role.scorer.autocast = self.accelerator.autocast
        assert args.num_ppo_epochs is not None
        assert args.cliprange is not None
        assert args.kl_coef is not None
        self.passes, self.clip = args.num_ppo_epochs, (args.cliprange, args.cliprange_high)
        self.kl = AdaptiveKL(args.kl_coef, args.target_kl, args.kl_horizon)
        self.pending = self._rollout = 0
        self._moved = torch.zeros(())
        self._stop_passes = False
        episodes = args.total_episodes or math.ceil(args.num_train_epochs * len(self.train_dataset) * args.num_samples)
        self.num_rollouts = max(1, round(episodes / (self.prompts_per_rollout * args.num_samples)))
        self.updates_per_rollout = self.passes * args.num_mini_batches
        self._last_rollout = None if args.max_steps > 0 else self.num_rollouts
        if args.max_steps <= 0:
            args.max_steps = self.num_rollouts * self.updates_per_rollout
        self.add_callback(_SaveBetweenRollouts(self))
        # TRL wraps policy and value model in one module, and scripts know them as its parts; they are no submodules here.
        self.scorer.unwrapped.__dict__["policy"] = self.scorer.unwrapped
        if self.value is not None:
            self.scorer.unwrapped.__dict__["value_model"] = self.value.scorer.unwrapped

    # ---- the loop

    def get_train_dataloader(self) -> Any:
        """Batches of experience, made as they are asked for."""
        return RolloutLoader(self._rollout_batches, self.own_part, lambda: self.rollouts_done, self._last_rollout, self.args.max_steps)

    def _rollout_batches(self, rollout: int) -> Iterator[list[PromptGroup]]:
        experience = self.rollout(rollout)
        if not experience:
            self.rollouts_done = rollout + 1
            return
        parts = min(len(experience), self.args.num_mini_batches)
        plan = []
        for turn in range(self.passes):
            order = np.random.default_rng((self.args.seed, rollout, turn)).permutation(len(experience))
            plan += np.array_split(order, parts)
        self._stop_passes, self._rollout = False, rollout
        for done, places in enumerate(plan, 1):
            self.pending = len(plan) - done
            if self.pending == 0:
                self.rollouts_done = rollout + 1
            yield [experience[i] for i in places]
            if self._stop_passes:
                return

    @property
    def between_rollouts(self) -> bool:
        """Whether the next update begins a new rollout: only then is a checkpoint all there is to know."""
        return self.pending == 0 or self._stop_passes

    @property
    def may_stop(self) -> bool:
        """Only between rollouts."""
        return self.between_rollouts

    # ---- a rollout

    def rollout(self, number: int) -> list[Experience]:
        """Sample, score, and turn scores into advantages."""
        begun = time.perf_counter()
        with self.whole_policy():
            sampled = self.score(self.sample(self.drawn_prompts(number, self.prompts_per_rollout), number))
            tokens = sum(a.num_tokens for x in sampled for a in x.answers)
            self.note("train", "rollout/tokens_per_second", tokens / max(1e-9, time.perf_counter() - begun))
            self.note_samples(sampled)
            own = self.together.own(sampled)
            groups = [x.group for x in own]
            old, values = self._old_logps(own, number), self._token_values(groups)
        scored = zip(old, self._reference_logps(groups), values, strict=True)
        old, ref, values = map(list, zip(*self.together.of_all(list(scored)), strict=True))
        kept = [self._keep(x) for x in sampled]
        out = self._experience(sampled, kept, old, ref, values)
        answers = sum(len(x.answers) for x in sampled)
        kl = float(np.concatenate([o - r for o, r in zip(old, ref, strict=True)]).sum()) / answers
        self.note("train", "objective/kl", kl)
        self.note("train", "objective/kl_coef", self.kl.coefficient)
        self.kl.update(kl, answers)
        used = [e for e in out if e.weights.any()]
        self.note("train", "objective/prompts_used", len(used) / len(out))
        self.check_barren(not used, self._last_rollout is not None and number + 1 >= self._last_rollout)
        return used

    def _old_logps(self, sampled: Sequence[Sampled], number: int) -> list[FloatN]:
        """Log-probs of the policy that sampled: the sampler's own where they are the trainer's to the last digits, else the trainer's."""
        first = [x.group for x in sampled[:CHECKED_PROMPTS]]
        scored = self._token_logps(first)
        gap = self.check_sampler(sampled[: len(first)], scored, number) if sampled else 0.0
        if self.together.all(gap <= SAME_LOGPS):
            return [np.concatenate([np.array(a.logps, np.float32) for a in x.answers]) for x in sampled]
        return scored + self._token_logps([x.group for x in sampled[len(first) :]])

    def _reference_logps(self, groups: Sequence[PromptGroup]) -> list[FloatN]:
        assert self.reference is not None
        with self.together.whole(self.reference.scorer.unwrapped):
            return self._token_logps(groups, of_reference=True)

    @torch.no_grad()
    def _token_logps(self, groups: Sequence[PromptGroup], of_reference: bool = False) -> list[FloatN]:
        """Each group's log-probs by the policy or by the reference, its tokens end to end."""
        was_training = self.scorer.unwrapped.training
        self.scorer.unwrapped.eval()
        reference = self.reference
        assert reference is not None

        def one(part: list[PromptGroup]) -> list[FloatN]:
            pack = self.scorer.pack(part)
            with self.compute_loss_context_manager():
                if of_reference:
                    return _by_group(pack, reference.token_logps(pack))
                with self.scorer.attending(pack):
                    return _by_group(pack, self.scorer.token_logps(pack))

        out = [logps for _, found in self.budget.each(groups, self.scorer.shares, one) for logps in found]
        self.scorer.unwrapped.train(was_training)
        return out

    @torch.no_grad()
    def _token_values(self, groups: Sequence[PromptGroup]) -> list[FloatN]:
        if self.value is None:
            return [np.zeros(g.num_completion_tokens, np.float32) for g in groups]
        role = self.value

        def one(part: list[PromptGroup]) -> list[FloatN]:
            pack = role.pack(part)
            with role.scorer.attending(pack):
                return _by_group(pack, role.values(pack))

        trunk = role.scorer.unwrapped
        was_training = trunk.training
        trunk.eval()
        with role.active():
            out = [values for _, found in self.budget.each(groups, role.scorer.shares, one) for values in found]
        trunk.train(was_training)
        return out

    def _keep(self, x: Sampled) -> list[bool]:
        """Which samples are learned from."""
        kept = [not math.isnan(s) and (self.args.min_reward is None or s >= self.args.min_reward) for s in x.scores]
        if self.args.best_of and any(kept):
            best = max((i for i, k in enumerate(kept) if k), key=lambda i: x.scores[i])
            kept = [i == best for i in range(len(kept))]
        if ESTIMATORS[self.args.advantage_estimator].num_samples > 1:
            left = [s for s, k in zip(x.scores, kept, strict=True) if k]
            if len(left) < 2 or (self.args.drop_equal and max(left) - min(left) < 1e-8):
                return [False] * len(kept)
        return kept

    def _experience(
        self, sampled: list[Sampled], kept: list[list[bool]], old: list[FloatN], ref: list[FloatN], values: list[FloatN]
    ) -> list[Experience]:
        scores = self._scaled([x.scores for x in sampled], kept)
        estimator = KL_ESTIMATORS[str(self.args.kl_estimator)]
        lengths = [[a.num_tokens for a in x.answers] for x in sampled]
        masks = [
            [k and (a.ended or not self.args.mask_truncated_completions) for k, a in zip(keep, x.answers, strict=True)]
            for keep, x in zip(kept, sampled, strict=True)
        ]
        weights = [np.repeat(np.array(mask, np.float32), n) for mask, n in zip(masks, lengths, strict=True)]
        weight_N = torch.from_numpy(np.concatenate(weights)).bool()
        rewards = []
        for score_K, old_N, ref_N, n in zip(scores, old, ref, lengths, strict=True):
            penalties = estimator(torch.from_numpy(old_N - ref_N)) * (0.0 if self.args.kl_in_loss else self.kl.coefficient)
            rewards.append(-penalties)
            rewards[-1][np.cumsum(n) - 1] += torch.tensor(score_K)
        if self.args.whiten_rewards and weight_N.any():
            flat = torch.cat(rewards)
            flat[weight_N] = whiten(flat[weight_N], shift_mean=False)
            rewards = list(flat.split([len(r) for r in rewards]))
        advantages, returns = [], []
        for reward_N, keep, value_N, n in zip(rewards, kept, values, lengths, strict=True):
            a, r = self._advantages(reward_N.split(n), keep, torch.from_numpy(value_N).split(n))
            advantages.append(a)
            returns.append(r)
        if self.args.advantage_estimator in ("gae", "reinforce++") and weight_N.any():
            flat = torch.cat(advantages)
            flat[weight_N] = whiten(flat[weight_N])
            advantages = list(flat.split([len(a) for a in advantages]))
        if self.value is not None and weight_N.any():
            self._note_values(torch.cat(returns)[weight_N], torch.from_numpy(np.concatenate(values))[weight_N])
        return [
            Experience(
                x.group.prompt_ids,
                x.group.completion_ids,
                x.group.index,
                None,
                o,
                f,
                a.numpy().astype(np.float32),
                v,
                r.numpy().astype(np.float32),
                w,
            )
            for x, o, f, a, v, r, w in zip(sampled, old, ref, advantages, values, returns, weights, strict=True)
        ]

    def _scaled(self, scores: list[tuple[float, ...]], kept: list[list[bool]]) -> list[list[float]]:
        if not self.args.scale_scores:
            return [[0.0 if math.isnan(s) else s for s in row] for row in scores]
        used = [s for row, keep in zip(scores, kept, strict=True) for s, k in zip(row, keep, strict=True) if k]
        mean, spread = float(np.mean(used)), float(np.std(used)) or 1.0
        return [[0.0 if math.isnan(s) else (s - mean) / spread for s in row] for row in scores]

    def _advantages(
        self, rewards: Sequence[torch.Tensor], keep: list[bool], values: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A group's advantages and returns from each sample's rewards token by token; samples that are left out get zeros."""
        name = self.args.advantage_estimator
        if ESTIMATORS[name].num_samples > 1:
            whole = torch.stack([r.sum() for r in rewards])
            used = torch.tensor(keep)
            out = torch.zeros(len(rewards))
            if used.any():
                out[used] = ADVANTAGES[name](whole[used])
            spread = out.repeat_interleave(torch.tensor([len(r) for r in rewards]))
            return spread, torch.zeros_like(spread)
        if name == "reinforce++":
            found = torch.cat([reward_to_go(r, self.args.gamma) for r in rewards])
            return found, torch.zeros_like(found)
        advantages = torch.cat([gae(r, v, self.args.gamma, self.args.lam) for r, v in zip(rewards, values, strict=True)])
        return advantages, advantages + torch.cat(list(values))

    def _note_values(self, returns_N: torch.Tensor, values_N: torch.Tensor) -> None:
        spread = float(returns_N.var(unbiased=False))
        if spread > 0:
            self.note("train", "val/explained_variance", 1 - float((returns_N - values_N).var(unbiased=False)) / spread)

    # ---- updates

    def batch_backward(self, groups: list[PromptGroup], scale: float) -> torch.Tensor:
        """Gradients of the clipped losses, means over the minibatch's tokens; policy and value pack by pack."""
        totals = _totals(self.of_all, self.accelerator.num_processes)
        total, args = torch.zeros((), device=self.args.device), self.args
        moved = torch.zeros((), device=self.args.device)
        for pack in self.packs(groups):
            old, ref, advantages, weights = (_column(pack, n) for n in ("old", "ref", "advantages", "weights"))
            shares = loss_shares(weights, pack.completion_N, str(args.loss_aggregation), totals, args.response_length)
            with self.scorer.attending(pack):
                with self.compute_loss_context_manager():
                    hidden, logps, entropy = self._read(pack)
                    log_ratio = logps - old
                    if args.importance_sampling_level == "sequence":
                        log_ratio = sequence_log_ratio(log_ratio, weights, pack.completion_N)
                    found = policy_loss(log_ratio, advantages, *self.clip)
                    loss = (found.losses_N * shares).sum()
                    if self.args.kl_in_loss:
                        penalty = KL_ESTIMATORS[str(self.args.kl_estimator)](logps - ref)
                        loss = loss + self.kl.coefficient * (penalty * shares).sum()
                    if entropy is not None:
                        loss = loss - self.args.entropy_coef * (entropy * shares).sum()
                    if self._values_with_policy:
                        loss = loss + self._value_part(pack, hidden, weights / totals.tokens)
                self.backward(loss * scale)
            if self.value is not None and not self._values_with_policy:
                total += self._value_backward(pack.groups, totals.tokens, scale)
            self.note_pack(pack)
            total += loss.detach()
            moved += self._note_update(logps.detach() - old, found.clipped_N, found.losses_N.detach(), weights / totals.tokens)
        if not self._made_up:
            self._moved = moved
        return total

    @property
    def _values_with_policy(self) -> bool:
        """Whether values are read off the policy's own pass."""
        return self.value is not None and self.value.scorer is self.scorer and self.value.adapter is None

    def _read(self, pack: Pack) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """The head's inputs (N, D), the policy's log-probs (N,), and entropies (N,) where they are in the loss."""
        scorer = self.scorer

        def work(hidden_ND: torch.Tensor) -> tuple[Any, ...]:
            entropy = head_entropy(hidden_ND, scorer.head, scorer.scaling) if self.args.entropy_coef else None
            return hidden_ND, scorer.head_logps(hidden_ND, pack), entropy

        hidden_ND, logps_N, entropy_N = scorer.read(pack, work)
        return hidden_ND, logps_N, entropy_N

    def _note_update(self, log_ratio: torch.Tensor, clipped: torch.Tensor, losses: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        """Metrics of a pack's update; returns its share of the KL from the rollout's policy, k3."""
        kl_N = torch.expm1(log_ratio) - log_ratio
        values = {"policy/approxkl": kl_N, "policy/clipfrac": clipped.float(), "loss/policy": losses, "val/ratio": log_ratio.exp()}
        self.note_tokens("train", {name: (values_N, shares) for name, values_N in values.items()})
        return (kl_N * shares).sum()

    def _value_part(self, pack: Pack, hidden: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
        assert self.value is not None
        values = self.value.head(as_head_input(hidden, self.value.head)).squeeze(-1).float()
        found = value_loss(values, _column(pack, "values"), _column(pack, "returns"), self.args.cliprange_value)
        noted = {"loss/value": found.losses_N.detach(), "val/clipfrac": found.clipped_N.float()}
        self.note_tokens("train", {name: (values_N, shares) for name, values_N in noted.items()})
        return self.args.vf_coef * (found.losses_N * shares).sum()

    def _value_backward(self, groups: Sequence[PromptGroup], total_weight: float, scale: float) -> torch.Tensor:
        """A pack's groups' part of the value model's update where it has a trunk or an adapter of its own."""
        assert self.value is not None
        total = torch.zeros((), device=self.args.device)
        # An adapter's pass is of the policy's weights, which may be shared out: one, as in every other process.
        parts = [list(groups)] if self.value.adapter is not None else self.budget.split(groups, self.value.scorer.shares)
        with self.value.active():
            for part in parts:
                pack = self.value.pack(part)
                with self.value.scorer.attending(pack):
                    with self.compute_loss_context_manager():
                        loss = self._value_part(pack, self.value.scorer.hidden(pack), _column(pack, "weights") / total_weight)
                    self.backward(loss * scale)
                total += loss.detach()
        return total

    def batch_loss(self, groups: list[PromptGroup], predict: bool = False) -> Evaluated:
        """There is no evaluation set of experience."""
        raise NotImplementedError

    # ---- optimizer and checkpoints

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """The policy's groups, and one of the values' adapter."""
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.value is not None:
            of_policy = {id(p) for p in self.scorer.unwrapped.parameters()}
            self._optimize(optimizer, [p for p in self.value.parameters() if id(p) in of_policy])
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Before it a group of the value weights that are no part of the model, and so none of what accelerate shares out."""
        if self.value is not None:
            self._optimize(self.optimizer, self.value.parameters())
        return super().create_scheduler(num_training_steps, optimizer)

    def _optimize(self, optimizer: Any, weights: list[nn.Parameter]) -> None:
        known = {id(p) for group in optimizer.param_groups for p in group["params"]}
        fresh = [p for p in weights if id(p) not in known]
        if fresh:
            rate = self.args.value_learning_rate or self.args.learning_rate
            optimizer.add_param_group({"params": fresh, "lr": rate, "weight_decay": 0.0})

    def trained(self) -> nn.Module:
        """The policy, and the value weights beside it."""
        if self.value is None:
            return super().trained()
        return nn.ModuleDict({"policy": self.model, "beside": self._beside_policy})

    @property
    def _beside_policy(self) -> nn.Module:
        """The module whose weights are values' alone: a head, or a model of its own."""
        assert self.value is not None
        model: nn.Module = self.value.head if self.value.scorer is self.scorer else self.value.scorer.unwrapped
        return model

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One minibatch."""
        self._drop_value_gradients()  # the loop drops those of the policy's model alone
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.args.stop_kl is not None and self.pending > 0:
            moved = self.together.mean(self._moved)
            if moved > self.args.stop_kl:
                self._stop_passes = True
                self.rollouts_done = self._rollout + 1  # a checkpoint of this very step must know
                self.on_event("stopped_passes", step=self.state.global_step, kl=moved, left=self.pending)
        return loss

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        """Policy and value model are clipped apart, as their gradients have different scales; returns the policy's norm."""
        values = {id(p): p for p in self.value.parameters()} if self.value is not None else {}
        self.accelerator.unscale_gradients()
        most = self.args.max_grad_norm
        of_values = clip_gradients(list(values.values()), most) if values else torch.zeros(())
        norm = clip_gradients([p for p in model.parameters() if id(p) not in values], most)
        return norm if torch.isfinite(of_values) else of_values

    def _average_gradients(self, model: nn.Module) -> None:
        """Also the value model's, which is no part of what accelerate prepared."""
        super()._average_gradients(model)
        if self.together.several and self.value is not None:
            done = {id(p) for p in model.parameters() if p.requires_grad or isinstance(p, DTensor)}
            self.together.average_gradients(p for p in self.value.parameters() if id(p) not in done)

    def drop_gradients(self, model: nn.Module) -> None:
        """Forget the policy's gradients and the value model's."""
        super().drop_gradients(model)
        self._drop_value_gradients()

    def _drop_value_gradients(self) -> None:
        for parameter in self.value.parameters() if self.value is not None else ():
            parameter.grad = None

    def extra_state(self) -> dict[str, Any]:
        """Also the KL coefficient and the value model."""
        values = [gathered(p) for p in self.value.parameters()] if self.value is not None else []
        return super().extra_state() | {"kl_coef": self.kl.coefficient, "value": values, "within_rollout": not self.between_rollouts}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take it back."""
        super().load_extra_state(state)
        self.kl.coefficient = float(state["kl_coef"])
        if state.get("within_rollout") and self._resumed_step is not None and self._resumed_step < self.args.max_steps:
            warnings.warn(
                "the run had ended within a rollout, which is sampled anew: a longer run from the start would differ", stacklevel=2
            )
        for parameter, kept in zip(self.value.parameters() if self.value is not None else (), state["value"], strict=True):
            hand_out(parameter, kept)


class _SaveBetweenRollouts(TrainerCallback):
    """Puts a checkpoint off until the rollout's updates are done: experience is not kept on disk. That of the end is not put off."""

    def __init__(self, trainer: PPOTrainer) -> None:
        self.trainer = trainer
        self.due = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the wish to the next boundary."""
        self.due = self.due or bool(control.should_save)
        control.should_save = self.due and (self.trainer.between_rollouts or state.global_step >= state.max_steps)
        if control.should_save:
            self.due = False


def _totals(groups: Sequence[PromptGroup], processes: int) -> Totals:
    """Tokens and responses of a minibatch that count, a process: gradients are averaged over them."""
    tokens = responses = 0.0
    for group in groups:
        ends = np.cumsum([len(ids) for ids in group.completion_ids])[:-1]
        sums = [float(part.sum()) for part in np.split(group.weights, ends)]  # type: ignore[attr-defined]
        tokens += sum(sums)
        responses += sum(s > 0 for s in sums)
    return Totals(max(1.0, tokens) / processes, max(1.0, responses) / processes)


def _by_group(pack: Pack, values_N: torch.Tensor) -> list[FloatN]:
    sizes = [g.num_completion_tokens for g in pack.groups]
    return [part.float().cpu().numpy() for part in values_N.split(sizes)]


def _column(pack: Pack, name: str) -> torch.Tensor:
    """One of the experience's token columns, of all groups of a pack, shape (N,)."""
    return torch.from_numpy(np.concatenate([getattr(g, name) for g in pack.groups])).to(pack.target_N.device)
