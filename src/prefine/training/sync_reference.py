"""TR-DPO: a reference that follows the policy (arXiv 2404.09656, soft update, eq. 6)."""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.fsdp import FSDPModule
from transformers import TrainerCallback

from prefine.scoring.scorer import Scorer


class SyncReference(TrainerCallback):
    """Every ``ref_model_sync_steps`` steps: reference = alpha policy + (1 - alpha) reference."""

    def __init__(self, policy: Scorer, reference: Scorer) -> None:
        self.policy = policy
        self.reference = reference

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the reference when its turn has come."""
        if state.global_step % args.ref_model_sync_steps:
            return
        for module in (*self.policy.unwrapped.modules(), *self.reference.unwrapped.modules()):
            if isinstance(module, FSDPModule):
                module.reshard()  # after a pass without gradient the root's weights are whole, in copies that would be thrown away
        ours = dict(self.policy.unwrapped.named_parameters())
        for name, theirs in self.reference.unwrapped.named_parameters():
            theirs.lerp_(ours[name].to(theirs), args.ref_model_mixup_alpha)
