"""Supervised fine-tuning on completions, many examples a pack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import nn

from prefine.errors import ConfigError, DataError
from prefine.packing.encoding import Encoder
from prefine.packing.group import PromptGroup, weights_of
from prefine.packing.pack import Pack
from prefine.preferences.convert import read_pairs
from prefine.preferences.examples import examples_of
from prefine.preferences.records import Example, Pair
from prefine.training.config import SFTConfig
from prefine.training.pack_trainer import PackTrainer


class SFTTrainer(PackTrainer):
    """Cross-entropy of answers given prompts, mean over the batch's tokens.

    Args:
        train_dataset: rows with ``messages``; with ``prompt`` and ``completion``; with ``text`` (all of it is trained
            on); preference pairs (the chosen side is); or groups.
    """

    args: SFTConfig
    _mean_weight: float | None = None
    """Of the present update's batches, and its processes."""

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
        self.args = args  # prepare, which the base class calls, needs it
        super().__init__(model, args, train_dataset, eval_dataset, processing_class, callbacks, optimizers, peft_config)
        self.noise: EmbeddingNoise | None = None
        if args.neftune_noise_alpha is not None:
            self.noise = EmbeddingNoise(self.scorer.unwrapped, args.neftune_noise_alpha)
            self.neftune_noise_alpha: float | None = None  # transformers would scale the noise by a pack's length

    def prepare(self, dataset: Any, name: str, encoder: Encoder) -> list[PromptGroup]:
        """Encode rows or pairs, or pass groups through."""
        rows = iter(dataset)
        first = next(rows, None)
        if first is None:
            raise DataError(f"{name} is empty")
        whole = chain([first], rows)
        if isinstance(first, PromptGroup):
            return list(whole)
        every_turn = self.args.assistant_only_loss
        if isinstance(first, Example):
            groups = [g for example in whole for g in encoder.encode_example(example, every_turn)]
        elif isinstance(first, Pair) or "rejected" in first:
            if every_turn:
                raise ConfigError("assistant_only_loss is for messages; of preference pairs the chosen answer is trained on; leave it out")
            pairs = whole if isinstance(first, Pair) else read_pairs(whole, name, encoder.report.dropped)
            chosen = (Example(p.prompt, p.chosen, p.row, p.tools, p.template_kwargs) for p in pairs)
            groups = [g for example in chosen for g in encoder.encode_example(example)]
        else:
            groups = [g for e in examples_of(whole, name, encoder.report.dropped) for g in encoder.encode_example(e, every_turn)]
        if not groups:
            raise DataError(f"{name}: no row has an answer that is left after encoding: {encoder.report.left_out()}")
        return groups

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """An update's batches; their tokens are counted together, over all processes, so that each weighs the same."""
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        weights = torch.tensor([sum(_weight(b["groups"]) for b in batches)], device=self.args.device)
        if batches:
            self._mean_weight = float(self.accelerator.gather(weights).mean()) / len(batches)
        return batches, count

    def batch_backward(self, groups: list[PromptGroup], scale: float) -> torch.Tensor:
        """Token-mean cross-entropy; with accumulated gradients, over all of an update's tokens."""
        total_weight = self._mean_weight or _weight(groups)
        total = torch.zeros((), device=self.args.device)
        for pack in self.packs(groups):
            with self.scorer.attending(pack), self._noisy(pack):
                with self.compute_loss_context_manager():
                    loss = -_weighted(self.scorer.token_logps(pack), pack) / total_weight
                self.backward(loss * scale)
            self.note_pack(pack)
            total += loss.detach()
        return total

    @contextmanager
    def _noisy(self, pack: Pack) -> Iterator[None]:
        if self.noise is None:
            yield
            return
        with self.noise.over(pack, self.scorer.layout == "padded"):
            yield

    def batch_loss(self, groups: list[PromptGroup]) -> torch.Tensor:
        """Token-mean cross-entropy without gradient."""
        total_weight = _weight(groups)
        total = torch.zeros((), device=self.args.device)
        for pack in self.packs(groups):
            with self.scorer.attending(pack):
                total -= _weighted(self.scorer.token_logps(pack), pack) / total_weight
        return total


def _weight(groups: Sequence[PromptGroup]) -> float:
    return max(1.0, float(sum(weights_of(g).sum() for g in groups)))


def _weighted(logps_N: torch.Tensor, pack: Pack) -> torch.Tensor:
    """Sum of the log-probs that count."""
    return logps_N.sum() if pack.weight_N is None else (logps_N * pack.weight_N).sum()


class EmbeddingNoise:
    """NEFTune (arXiv 2310.05914): uniform noise on embeddings of up to alpha / sqrt(L D), L an example's tokens, D the hidden size."""

    def __init__(self, model: Any, alpha: float) -> None:
        self.alpha = alpha
        self.lengths: torch.Tensor | None = None
        model.get_input_embeddings().register_forward_hook(self._add)

    @contextmanager
    def over(self, pack: Pack, padded: bool) -> Iterator[None]:
        """Within the block, embeddings are of this pack, and noisy; elsewhere (evaluation, retention) they are not."""
        lengths = torch.tensor([s.prompt + sum(s.completions) for s in pack.spans], device=pack.input_ids_T.device)
        self.lengths = lengths[:, None] if padded else lengths.repeat_interleave(lengths)[None]
        try:
            yield
        finally:
            self.lengths = None

    def _add(self, module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if self.lengths is None:
            return output
        largest = self.alpha / (self.lengths[..., None] * output.shape[-1]).sqrt()
        return output + (torch.rand_like(output) * 2 - 1) * largest.to(output.dtype)
