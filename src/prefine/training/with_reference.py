"""What trainers share that hold a policy against a reference: its log-probs ahead of training, one that moves, the check at step 0."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prefine.errors import ConfigError, ModelError
from prefine.packing.pack import Pack
from prefine.scoring.reference import precompute
from prefine.scoring.token_logps import TokenStats
from prefine.training.config import ReferenceConfig
from prefine.training.pack_trainer import PackTrainer, route
from prefine.training.prepared import StreamedGroups
from prefine.training.sync_reference import SyncReference


class ReferenceTrainer(PackTrainer):
    """A policy and a reference; a subclass says what is made of their log-probs."""

    args: ReferenceConfig
    wants_reference = True
    _precomputed = False
    _beta: float | None = None
    start_gap: float | None = None
    """Nats a response by which policy and reference differed before the first update, where that is more than noise."""

    def ready_reference(self) -> None:
        """What is settled once model and data are there: routers, a reference that moves, log-probs ahead of training."""
        self.router_aux_loss_coef = route(self.scorer, self.args.router_aux_loss_coef)
        if self.args.sync_ref_model:
            self._sync_reference()
        if self.args.precompute_ref_log_probs and self.wants_reference:
            self._precompute()

    def _sync_reference(self) -> None:
        if self.reference is None or self.reference.is_policy:
            raise ConfigError("sync_ref_model moves a reference that has weights of its own: not an adapter's base, and not without one")
        if self.args.precompute_ref_log_probs:
            raise ConfigError("sync_ref_model moves the reference, so its log-probs cannot be precomputed; leave one of the two out")
        shapes = [{n: p.shape for n, p in m.named_parameters()} for m in (self.scorer.unwrapped, self.reference.scorer.unwrapped)]
        if shapes[0] != shapes[1]:
            raise ConfigError("sync_ref_model mixes the policy's weights into the reference's, but the two are not built alike")
        self.add_callback(SyncReference(self.scorer, self.reference.scorer))

    def _precompute(self) -> None:
        assert self.reference is not None
        reference = self.reference
        cache = Path(self.args.reference_cache_dir) if self.args.reference_cache_dir else None

        def scored(groups: Any) -> Any:  # a dataset, several by name, or none
            if isinstance(groups, dict):
                return {name: scored(part) for name, part in groups.items()}
            return None if groups is None else precompute(reference, groups, self.budget, cache)

        for name, dataset in (("train", self.train_dataset), ("eval", self.eval_dataset)):
            self._refuse_streams(dataset, name)
        with self.compute_loss_context_manager():
            self.train_dataset: Any = scored(self.train_dataset)
            self.eval_dataset: Any = scored(self.eval_dataset)
        self._precomputed = True

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As transformers'; a reference whose log-probs are known is given up first."""
        needed = self.retention is not None and self.retention.uses_reference
        if self._precomputed and not needed and self.reference is not None and not self.reference.is_policy:
            self.reference = None  # nothing here may hold it while training runs: it is a whole model
        return super().train(*args, **kwargs)

    def _refuse_streams(self, dataset: Any, name: str) -> None:
        parts = dataset.values() if isinstance(dataset, dict) else [dataset]
        if any(isinstance(part, StreamedGroups) for part in parts):
            raise ConfigError(
                f"precompute_ref_log_probs=True is not supported with IterableDataset ({name} dataset): the rows are not known before; "
                "leave it out, or give a dataset that has a length"
            )

    def _prepare_eval(self, dataset: Any, args: Any, name: str = "eval_dataset") -> Any:
        groups = super()._prepare_eval(dataset, args, name)
        if not self._precomputed or groups is None or isinstance(groups, str | dict):
            return groups
        self._refuse_streams(groups, "eval")
        if groups[0].ref_logps is not None:
            return groups
        if self.reference is None:
            raise ConfigError(
                "Cannot compute reference log-probs for a dataset passed to evaluate(): with precompute_ref_log_probs the reference was "
                "given up once the log-probs of the datasets known at the start were computed; give this one as eval_dataset"
            )
        return groups  # the reference is there, and scores as it goes

    def reference_tokens(self, pack: Pack) -> torch.Tensor | None:
        """The reference's log-prob of every completion token, shape (N,), from before or computed; None where the loss has none."""
        if not self.wants_reference:
            return None
        known = [g.ref_logps for g in pack.groups if g.ref_logps is not None]
        if len(known) == len(pack.groups):
            return torch.from_numpy(np.concatenate(known)).to(pack.target_N.device)
        assert self.reference is not None
        with self.compute_loss_context_manager():
            return self.reference.token_logps(pack)

    # ---- beta, and the first batch

    def scheduled_beta(self) -> float:
        """What the config says of beta for the step in progress."""
        return self.args.beta

    @property
    def beta(self) -> float:
        """Strength of the pull to the reference, now; what is set goes before the config's."""
        return self.scheduled_beta() if self._beta is None else self._beta

    @beta.setter
    def beta(self, value: float) -> None:
        self._beta = value

    def note_stats(self, mode: str, pack: Pack, stats: TokenStats, chosen_N: torch.Tensor) -> None:
        """TRL's ``entropy``, ``logits/*`` and ``mean_token_accuracy`` (of chosen tokens), means over tokens.

        Args:
            chosen_N: which tokens are of a preferred response.
        """
        counts_N = torch.ones_like(chosen_N) if pack.weight_N is None else pack.weight_N.bool()
        noted = {
            "entropy": (stats.entropy, counts_N),
            "logits/chosen": (stats.mean_logit, counts_N & chosen_N),
            "logits/rejected": (stats.mean_logit, counts_N & ~chosen_N),
            "mean_token_accuracy": (stats.is_top1, counts_N & chosen_N),
        }
        self.note_tokens(mode, noted)

    def check_start(self, logps_M: torch.Tensor, ref_M: torch.Tensor) -> None:
        """In the first batch the policy is its reference: log-probs of responses are the same; of the first pack alone."""
        self._checked_start = True
        if not self.wants_reference or self.state.global_step > 0:
            return
        gap = (logps_M - ref_M).detach().abs()
        size = ref_M.abs().clamp(min=1)
        relative = float((gap / size).max())
        noise = 0.05 if self.args.bf16 or self.args.fp16 else 1e-4
        self.on_event("start_check", largest_relative_gap=relative, mean_gap_nats=float(gap.mean()))
        if relative <= noise:
            return
        self.start_gap = float(gap.mean())
        if not self.external_reference and self.args.disable_dropout:
            raise ModelError(
                f"the reference does not match the policy at step 0: log-probs differ by {float(gap.mean()):.3g} nats/response; "
                "weights were changed after the trainer was made, or the model is not deterministic",
                code="PF-M10",
            )
        who = "ref_model" if self.external_reference else "the reference, as dropout is on,"
        warnings.warn(
            f"{who} is not the policy's start: log-probs differ by {float(gap.mean()):.3g} nats/response on the first batch",
            stacklevel=2,
        )
