"""DPO and its family on packs: the prompt's tokens are computed once for both answers.

Legend: P pairs of a batch, M = 2P completions (chosen, rejected, chosen, ...), N tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from prefine.errors import ConfigError, DataError, ModelError
from prefine.losses import LOSSES, PairLogps, implicit_rewards, preference_loss
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup
from prefine.packing.pack import Pack
from prefine.preferences.convert import read_pairs
from prefine.preferences.records import Pair
from prefine.scoring.reference import precomputed_token_logps
from prefine.scoring.token_logps import head_log_sum_sq
from prefine.training.config import DPOConfig
from prefine.training.pack_trainer import PackTrainer


class DPOTrainer(PackTrainer):
    """Preference training on pairs; the signature is TRL's.

    Args:
        model: a name, a folder, or a loaded causal language model (plain or peft).
        ref_model: None for the policy's own start.
        train_dataset: rows in any form ``prefine.preferences`` reads, or pairs, or groups.
        peft_config: a peft configuration to train an adapter; the reference is then the adapter off.

    Raises:
        PrefineError: options or data that do not fit, before training.
    """

    args: DPOConfig

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
        peft_config: Any = None,
    ) -> None:
        if data_collator is not None or compute_metrics is not None:
            raise ConfigError("data_collator and compute_metrics would be ignored: batches are packed prompt groups; leave them out")
        if train_dataset is None:
            raise DataError("train_dataset is missing; give rows with 'prompt', 'chosen' and 'rejected'")
        args = args if args is not None else DPOConfig(output_dir="trainer_output")
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
        )
        self._precomputed: dict[int, torch.Tensor] = {}
        if args.precompute_ref_log_probs and self.wants_reference:
            self._precompute()

    def prepare(self, dataset: Any, name: str, encoder: Encoder) -> list[PromptGroup]:
        """Encode rows or pairs, or pass groups through."""
        rows = list(dataset)
        if not rows:
            raise DataError(f"{name} is empty")
        if isinstance(rows[0], PromptGroup):
            return rows
        if not isinstance(rows[0], Pair):
            dropped = encoder.report.dropped
            rows = list(read_pairs(enumerate(rows, 1), name, dropped=dropped))
        return encoder.encode_pairs(rows)

    def _precompute(self) -> None:
        assert self.reference is not None
        groups = list(self.train_dataset)
        for dataset in self.eval_dataset.values() if isinstance(self.eval_dataset, dict) else [self.eval_dataset or []]:
            groups += list(dataset)
        cache = Path(self.args.reference_cache_dir) if self.args.reference_cache_dir else None
        with self.compute_loss_context_manager():
            logps = precomputed_token_logps(self.reference, groups, self.budget, cache)
        self._precomputed = {id(g): torch.from_numpy(x) for g, x in zip(groups, logps, strict=True)}
        if not self.reference.is_policy and not (self.retention and self.retention.uses_reference):
            self.reference.scorer.unwrapped.to("meta")  # its weights are no longer needed

    # ---- log-probs

    def _reference_tokens(self, pack: Pack) -> torch.Tensor | None:
        if not self.wants_reference:
            return None
        if self._precomputed:
            return torch.cat([self._precomputed[id(g)] for g in pack.groups]).to(pack.target_N.device)
        assert self.reference is not None
        with self.compute_loss_context_manager():
            return self.reference.token_logps(pack)

    def _weigh(self, pack: Pack, logps_N: torch.Tensor) -> torch.Tensor:
        """Sum tokens into completions (M,), with LD-DPO's weight on the longer answer's excess."""
        if self.args.ld_alpha is None:
            return pack.sum_by_completion(logps_N)
        starts_M = pack.lengths_M.cumsum(0) - pack.lengths_M
        place_N = torch.arange(len(logps_N), device=logps_N.device) - starts_M[pack.completion_N]
        shared_M = pack.lengths_M.view(-1, 2).min(dim=1).values.repeat_interleave(2)
        excess_N = place_N >= shared_M[pack.completion_N]
        return pack.sum_by_completion(torch.where(excess_N, self.args.ld_alpha * logps_N, logps_N))

    def _score(self, pack: Pack, ref_N: torch.Tensor | None) -> tuple[PairLogps, torch.Tensor | None]:
        """Pair log-probs of a pack and WPO's weights (P,); call inside ``attending``."""
        hidden_ND = self.scorer.hidden(pack)
        logps_N = self.scorer.head_logps(hidden_ND, pack)
        weights = None
        if self.args.use_weighting:
            aligned_N = logps_N.detach() - head_log_sum_sq(hidden_ND.detach(), self.scorer.head, self.scorer.scaling)
            weights = (pack.sum_by_completion(aligned_N) / pack.lengths_M).exp().view(-1, 2).prod(dim=1)
        policy = self._weigh(pack, logps_N).view(-1, 2)
        reference = torch.zeros_like(policy) if ref_N is None else self._weigh(pack, ref_N).view(-1, 2)
        tokens = pack.lengths_M.view(-1, 2)
        return PairLogps(policy[:, 0], policy[:, 1], reference[:, 0], reference[:, 1], tokens[:, 0], tokens[:, 1]), weights

    def _loss(self, logps: PairLogps, weights: torch.Tensor | None) -> torch.Tensor:
        assert self.args.loss_weights is not None
        return preference_loss(logps, self.args.loss_type, self.args.loss_weights, self.args.loss_options(), weights)

    # ---- batches

    def batch_backward(self, groups: list[PromptGroup], scale: float) -> torch.Tensor:
        """Mean loss over pairs, pack by pack; coupled losses in two passes when one pack is not enough."""
        packs = self.packs(groups)
        total = torch.zeros((), device=self.args.device)
        coefficients, references = None, [None] * len(packs)
        if self.coupled and len(packs) > 1:
            total, coefficients, references = self._first_pass(packs)
        for i, pack in enumerate(packs):
            ref_N = references[i] if coefficients is not None else self._reference_tokens(pack)
            with self.scorer.attending(pack):
                with self.compute_loss_context_manager():
                    logps, weights = self._score(pack, ref_N)
                    if coefficients is None:
                        loss = self._loss(logps, weights).sum() / len(groups)
                        total += loss.detach()
                    else:
                        chosen, rejected = coefficients[i]
                        loss = (logps.chosen * chosen).sum() + (logps.rejected * rejected).sum()
                self.backward(loss * scale)
            self.note_pack(pack)
            self._note_pairs("train", logps)
        return total

    def _first_pass(self, packs: list[Pack]) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]], list[Any]]:
        """The loss and its derivative by every log-prob, as gradient caching does (arXiv 2101.06983)."""
        parts, weights, references = [], [], []
        for pack in packs:
            references.append(self._reference_tokens(pack))
            with torch.no_grad(), self.scorer.attending(pack), self.compute_loss_context_manager():
                logps, weight = self._score(pack, references[-1])
            parts.append(logps)
            weights.append(weight)
        joined = _join(parts)
        leaf = PairLogps(joined.chosen.requires_grad_(), joined.rejected.requires_grad_(), *_rest(joined))
        pair_weights = torch.cat([w for w in weights if w is not None]) if self.args.use_weighting else None
        loss = self._loss(leaf, pair_weights).mean()
        chosen, rejected = torch.autograd.grad(loss, (leaf.chosen, leaf.rejected))
        sizes = [len(p.chosen) for p in parts]
        return loss.detach(), list(zip(chosen.split(sizes), rejected.split(sizes), strict=True)), references

    def batch_loss(self, groups: list[PromptGroup]) -> torch.Tensor:
        """Mean loss over pairs without gradient."""
        parts, weights = [], []
        for pack in self.packs(groups):
            ref_N = self._reference_tokens(pack)
            with self.scorer.attending(pack):
                logps, weight = self._score(pack, ref_N)
            parts.append(logps)
            weights.append(weight)
            self._note_pairs("eval", logps)
        pair_weights = torch.cat([w for w in weights if w is not None]) if self.args.use_weighting else None
        return self._loss(_join(parts), pair_weights).mean()

    def _note_pairs(self, mode: str, logps: PairLogps) -> None:
        chosen, rejected = implicit_rewards(logps, self.args.beta)
        pairs = float(len(chosen))
        values = {
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/accuracies": (chosen > rejected).float(),
            "rewards/margins": chosen - rejected,
            "logps/chosen": logps.chosen.detach(),
            "logps/rejected": logps.rejected.detach(),
        }
        means = torch.stack([v.float().mean() for v in values.values()]).tolist()
        for name, mean in zip(values, means, strict=True):
            self.note(mode, name, mean, pairs)
        if mode == "train" and not self._checked_start:
            self._checked_start = True
            self._check_start(logps)

    def _check_start(self, logps: PairLogps) -> None:
        """At step 0 the policy is its reference: margins are 0 and the sigmoid loss is ln 2."""
        if not self.wants_reference or self.state.global_step > 0:
            return
        gap = torch.cat((logps.chosen_ratio, logps.rejected_ratio)).detach().abs()
        size = torch.cat((logps.ref_chosen, logps.ref_rejected)).abs().clamp(min=1)
        relative = float((gap / size).max())
        noise = 0.05 if self.args.bf16 or self.args.fp16 else 1e-4
        self.on_event("start_check", largest_relative_gap=relative, mean_gap_nats=float(gap.mean()))
        if relative <= noise:
            return
        if not self.external_reference:
            raise ModelError(
                f"the reference does not match the policy at step 0: log-probs differ by {float(gap.mean()):.3g} nats an answer; "
                "weights were changed after the trainer was made, or the model is not deterministic"
            )
        import warnings

        warnings.warn(
            f"ref_model is not the policy's start: log-probs differ by {float(gap.mean()):.3g} nats an answer on the first batch",
            stacklevel=2,
        )


def _rest(x: PairLogps) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    return x.ref_chosen, x.ref_rejected, x.chosen_tokens, x.rejected_tokens


def _join(parts: list[PairLogps]) -> PairLogps:
    names = ("chosen", "rejected", "ref_chosen", "ref_rejected", "chosen_tokens", "rejected_tokens")
    return PairLogps(*(torch.cat([getattr(p, n) for p in parts]) for n in names))
