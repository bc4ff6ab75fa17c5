"""DPO and its family on packs: the prompt's tokens are computed once for both answers.

Legend: P pairs of a batch, M = 2P completions (chosen, rejected, chosen, ...), N tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from prefine.errors import ConfigError
from prefine.losses import LOSSES, PairLogps, implicit_rewards, preference_loss
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup
from prefine.packing.pack import Pack
from prefine.scoring.token_logps import TokenStats, head_log_sum_sq
from prefine.training.arguments import config_of, refuse_hooks
from prefine.training.config import DPOConfig
from prefine.training.notes import MOST_LATER
from prefine.training.pack_trainer import Evaluated
from prefine.training.pair_groups import pair_groups
from prefine.training.with_reference import ReferenceTrainer

ODD_NATS = 4.0
"""Nats a token below which no chosen response is called odd."""
MOST_KNOWN = 100_000
"""Rows whose likelihood is looked at: more tell nothing new."""


class DPOTrainer(ReferenceTrainer):
    """Preference training on pairs; the signature is TRL's.

    Args:
        model: a name, a folder, or a loaded causal language model (plain or peft).
        ref_model: None for the policy's own start.
        train_dataset: rows in any format ``prefine.preferences`` reads, or pairs, or groups.
        peft_config: a peft configuration to train an adapter; the reference is then the adapter off.

    Raises:
        PrefineError: options or data that do not fit, before training.
    """

    args: DPOConfig
    tags = ("prefine", "dpo")
    _odd: tuple[float, float] | None = None
    _odd_said = 0

    def __init__(
        self,
        model: str | nn.Module,
        ref_model: str | nn.Module | None = None,
        args: DPOConfig | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        compute_metrics: Any = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        quantization_config: Any = None,
        peft_config: Any = None,
        **more: Any,
    ) -> None:
        refuse_hooks(self, data_collator)
        args = config_of(args, DPOConfig)
        self._nats_of_row: dict[int, float] = {}
        self._nats_later: list[tuple[list[int], torch.Tensor]] = []
        entries = [LOSSES[name] for name in args.loss_type]
        self.coupled = any(e.coupled for e in entries)
        self.wants_reference = any(e.reference for e in entries)
        if ref_model is not None and not self.wants_reference:
            raise ConfigError(f"loss {'+'.join(args.loss_type)} uses no reference and would ignore ref_model; leave it out")
        super().__init__(
            model,
            args,
            train_dataset,
            eval_dataset,
            processing_class,
            callbacks,
            optimizers,
            peft_config,
            needs_reference=self.wants_reference,
            ref_model=ref_model,
            compute_metrics=compute_metrics,
            quantization_config=quantization_config,
            **more,
        )
        self.ready_reference()

    def encode_rows(self, rows: Iterator[Any], name: str, encoder: Encoder) -> Iterator[PromptGroup]:
        """Pairs, rows of them in any format, or rows of token ids."""
        return pair_groups(rows, name, encoder, workers=self.encoding_workers)

    # ---- log-probs

    def _weigh(self, pack: Pack, logps_N: torch.Tensor) -> torch.Tensor:
        """Sum tokens into completions (M,), with LD-DPO's weight on the longer answer's excess."""
        if self.args.ld_alpha is None:
            return pack.sum_by_completion(logps_N)
        counts_N = torch.ones_like(pack.target_N) if pack.weight_N is None else pack.weight_N
        lengths_M = pack.counted_M
        starts_M = lengths_M.cumsum(0) - lengths_M
        place_N = counts_N.cumsum(0) - counts_N - starts_M[pack.completion_N]
        shared_M = lengths_M.view(-1, 2).min(dim=1).values.repeat_interleave(2)
        excess_N = place_N >= shared_M[pack.completion_N]
        return pack.sum_by_completion(torch.where(excess_N, self.args.ld_alpha * logps_N, logps_N))

    def _score(self, pack: Pack, ref_N: torch.Tensor | None, with_stats: bool) -> Scored:
        """Score a pack; call inside ``attending``."""
        scorer, weigh = self.scorer, self.args.use_weighting

        def work(hidden_ND: torch.Tensor) -> tuple[Any, ...]:
            found = scorer.head_logps_and_stats(hidden_ND, pack, with_stats)
            return *found, head_log_sum_sq(hidden_ND.detach(), scorer.head, scorer.scaling) if weigh else None

        logps_N, stats, log_sum_sq_N = scorer.read(pack, work)
        weights = None
        if weigh:
            aligned_N = logps_N.detach() - log_sum_sq_N
            weights = (pack.sum_by_completion(aligned_N) / pack.counted_M).exp().view(-1, 2).prod(dim=1)
        policy = self._weigh(pack, logps_N).view(-1, 2)
        reference = torch.zeros_like(policy) if ref_N is None else self._weigh(pack, ref_N).view(-1, 2)
        tokens = pack.counted_M.view(-1, 2)
        logps = PairLogps(policy[:, 0], policy[:, 1], reference[:, 0], reference[:, 1], tokens[:, 0], tokens[:, 1])
        return Scored(logps, weights, stats, scorer.aux_loss)

    def _loss(self, logps: PairLogps, weights: torch.Tensor | None) -> torch.Tensor:
        assert self.args.loss_weights is not None
        options = replace(self.args.loss_options(), beta=self.beta)
        return preference_loss(logps, self.args.loss_type, self.args.loss_weights, options, weights)

    # ---- batches

    def batch_backward(self, groups: list[PromptGroup], scale: float) -> torch.Tensor:
        """Mean loss over pairs, pack by pack; coupled losses in two passes when one pack is not enough."""
        packs = self.packs(groups)
        total = torch.zeros((), device=self.args.device)
        coefficients, references = None, [None] * len(packs)
        if self.coupled and (len(packs) > 1 or self.together.several):
            total, coefficients, references = self._first_pass(packs)
        for i, pack in enumerate(packs):
            ref_N = references[i] if coefficients is not None else self.reference_tokens(pack)
            with self.scorer.attending(pack):
                with self.compute_loss_context_manager():
                    scored = self._score(pack, ref_N, self.will_log)
                    logps = scored.logps
                    if coefficients is None:
                        loss = self._loss(logps, scored.weights).sum() / self.mean_number
                        total += loss.detach()
                    else:
                        chosen, rejected = coefficients[i]
                        loss = (logps.chosen * chosen).sum() + (logps.rejected * rejected).sum()
                    if scored.aux_loss is not None:
                        auxiliary = self.router_aux_loss_coef * scored.aux_loss * (len(pack.groups) / self.mean_number)
                        self.note("train", "aux_loss", scored.aux_loss.item(), len(pack.groups))
                        total += auxiliary.detach()
                        loss = loss + auxiliary
                self.backward(loss * scale)
            self.note_pack(pack)
            self._note_pairs("train", pack, scored)
        return total

    def _first_pass(self, packs: list[Pack]) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]], list[Any]]:
        """The loss and its derivative by every log-prob, as gradient caching does (arXiv 2101.06983)."""
        parts, references = [], []
        for pack in packs:
            references.append(self.reference_tokens(pack))
            with torch.no_grad(), self.scorer.attending(pack), self.compute_loss_context_manager():
                parts.append(self._score(pack, references[-1], False))
        none = torch.zeros(0, device=self.args.device)
        joined = _join([p.logps for p in parts] or [PairLogps(*[none] * 6)])
        leaf = PairLogps(joined.chosen.requires_grad_(), joined.rejected.requires_grad_(), *_rest(joined))
        loss = self._loss(*self._of_all(leaf, _join_weights(parts))).mean()
        chosen, rejected = (g * self.accelerator.num_processes for g in torch.autograd.grad(loss, (leaf.chosen, leaf.rejected)))
        sizes = [len(p.logps.chosen) for p in parts]
        return loss.detach(), list(zip(chosen.split(sizes), rejected.split(sizes), strict=True)), references

    @property
    def waits_within_batches(self) -> bool:
        """Also where a loss is of the batch of all processes."""
        return self.together.in_step or (self.together.several and self.coupled)

    def _of_all(self, own: PairLogps, weights: torch.Tensor | None) -> tuple[PairLogps, torch.Tensor | None]:
        """The batch of all processes, with this one's part as it is: a coupled loss is of the whole."""
        if not self.together.several:
            return own, weights
        every = self.together.gathered(({n: x.detach().cpu() for n, x in vars(own).items()}, None if weights is None else weights.cpu()))
        device, at = own.chosen.device, self.accelerator.process_index
        parts = [own if i == at else PairLogps(**{n: x.to(device) for n, x in part.items()}) for i, (part, _) in enumerate(every)]
        known = [w.to(device) for _, w in every if w is not None]
        return _join(parts), torch.cat(known) if known else None

    def batch_loss(self, groups: list[PromptGroup], predict: bool = False) -> Evaluated:
        """Mean loss over pairs without gradient; predictions are the implicit rewards (P, 2) of chosen and rejected, labels (P,) zeros,
        the place of the chosen.
        """
        parts = []
        for pack in self.packs(groups):
            ref_N = self.reference_tokens(pack)
            with self.scorer.attending(pack):
                parts.append(self._score(pack, ref_N, True))
            self._note_pairs("eval", pack, parts[-1])
        logps = _join([p.logps for p in parts])
        loss = self._loss(logps, _join_weights(parts)).mean()
        rewards = torch.stack(implicit_rewards(logps, self.beta), 1).float()
        return Evaluated(loss, rewards, torch.zeros_like(rewards[:, 0], dtype=torch.long)) if predict else Evaluated(loss)

    def _note_pairs(self, mode: str, pack: Pack, scored: Scored) -> None:
        logps = scored.logps
        chosen, rejected = implicit_rewards(logps, self.beta)
        values = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/accuracies": (chosen > rejected).float(),
            "rewards/margins": chosen - rejected,
            "logps/chosen": logps.chosen.detach(),
            "logps/rejected": logps.rejected.detach(),
        }
        totals = torch.stack([v.float().sum() for v in values.values()])
        self.notes.add_later(mode, tuple(values), totals, torch.full_like(totals, len(chosen)))
        if mode == "train":
            self._note_odd(pack, logps)
        if scored.stats is not None:
            self.note_stats(mode, pack, scored.stats, pack.completion_N % 2 == 0)
        if mode == "train" and not self._checked_start:
            self.check_start(torch.cat((logps.chosen, logps.rejected)), torch.cat((logps.ref_chosen, logps.ref_rejected)))

    def _note_odd(self, pack: Pack, logps: PairLogps) -> None:
        """Count chosen responses that are far less likely to the reference than the others: noise among the data."""
        if not self.wants_reference or len(self._nats_of_row) >= MOST_KNOWN:
            return
        self._nats_later.append(([g.index for g in pack.groups], -logps.ref_chosen / logps.chosen_tokens.clamp(min=1)))
        if not self.will_log and len(self._nats_later) < MOST_LATER:  # a GPU is not waited for after every pack
            return
        rows = [row for each, _ in self._nats_later for row in each]
        self._nats_of_row.update(zip(rows, torch.cat([nats for _, nats in self._nats_later]).tolist(), strict=True))
        self._nats_later.clear()
        if not self.will_log:
            return
        nats = np.fromiter(self._nats_of_row.values(), float)
        middle = np.median(nats)
        least = max(ODD_NATS, float(middle + 10 * np.median(np.abs(nats - middle))))
        odd = [row for row, value in self._nats_of_row.items() if value > least]
        if len(odd) > self._odd_said:
            self.on_event("odd_rows", step=self.state.global_step, rows=odd[:100], count=len(odd), above_nats_per_token=least)
            self._odd_said = 2 * len(odd)
        self._odd = (float(len(odd)), float(len(nats)))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Also how many chosen responses are odd, of those that were seen."""
        if self._odd is not None and self._odd[0] and not self._evaluating:
            logs |= {"odd_rows/count": self._odd[0], "odd_rows/of": self._odd[1]}
        super().log(logs, start_time)


@dataclass(frozen=True)
class Scored:
    """A scored pack: its pairs' log-probs, WPO's weights (P,), what is logged of its tokens, the routers' auxiliary loss."""

    logps: PairLogps
    weights: torch.Tensor | None
    stats: TokenStats | None
    aux_loss: torch.Tensor | None


def _join_weights(parts: list[Scored]) -> torch.Tensor | None:
    weights = [p.weights for p in parts if p.weights is not None]
    return torch.cat(weights) if weights else None


def _rest(x: PairLogps) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return x.ref_chosen, x.ref_rejected, x.chosen_tokens, x.rejected_tokens


def _join(parts: list[PairLogps]) -> PairLogps:
    names = ("chosen", "rejected", "ref_chosen", "ref_rejected", "chosen_tokens", "rejected_tokens")
    return PairLogps(*(torch.cat([getattr(p, n) for p in parts]) for n in names))
