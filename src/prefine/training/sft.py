"""Supervised fine-tuning on completions, many examples a pack."""

from __future__ import annotations

from typing import Any

import torch

from prefine.errors import DataError
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup
from prefine.preferences.examples import to_examples
from prefine.training.config import SFTConfig
from prefine.training.pack_trainer import PackTrainer


class SFTTrainer(PackTrainer):
    """Cross-entropy of answers given prompts, mean over the batch's tokens.

    Args:
        train_dataset: rows with ``messages``, or ``prompt`` and ``completion``, or groups.
    """

    args: SFTConfig

    def __init__(
        self,
        model: Any,
        args: SFTConfig | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        peft_config: Any = None,
    ) -> None:
        if train_dataset is None:
            raise DataError("train_dataset is missing; give rows with 'messages', or with 'prompt' and 'completion'")
        args = args if args is not None else SFTConfig(output_dir="trainer_output")
        super().__init__(model, args, train_dataset, eval_dataset, processing_class, callbacks, optimizers, peft_config)

    def prepare(self, dataset: Any, name: str, encoder: Encoder) -> list[PromptGroup]:
        """Encode rows, or pass groups through."""
        rows = list(dataset)
        if rows and isinstance(rows[0], PromptGroup):
            return rows
        examples = to_examples(enumerate(rows, 1), name)
        encoded = [encoder.encode(p, [a], i) for i, (p, a) in enumerate(examples, 1) if a is not None]
        groups = [g for g in encoded if g is not None]
        if not groups:
            raise DataError(f"{name}: no row has an answer that is left after encoding; dropped {encoder.report.dropped}")
        return groups

    def batch_backward(self, groups: list[PromptGroup], scale: float) -> torch.Tensor:
        """Token-mean cross-entropy."""
        total_tokens = sum(len(g.completion_ids[0]) for g in groups)
        total = torch.zeros((), device=self.args.device)
        for pack in self.packs(groups):
            with self.scorer.attending(pack):
                with self.compute_loss_context_manager():
                    loss = -self.scorer.token_logps(pack).sum() / total_tokens
                self.backward(loss * scale)
            self.note_pack(pack)
            total += loss.detach()
        return total

    def batch_loss(self, groups: list[PromptGroup]) -> torch.Tensor:
        """Token-mean cross-entropy without gradient."""
        total_tokens = sum(len(g.completion_ids[0]) for g in groups)
        total = torch.zeros((), device=self.args.device)
        for pack in self.packs(groups):
            with self.scorer.attending(pack):
                total -= self.scorer.token_logps(pack).sum() / total_tokens
        return total
