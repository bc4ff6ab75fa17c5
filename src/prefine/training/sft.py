"""Supervised fine-tuning on completions, many examples a pack."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from prefine.errors import ConfigError, DataError
from prefine.packing.encoding import Encoder, Trained
from prefine.packing.group import PromptGroup, weights_of
from prefine.packing.pack import Pack
from prefine.packing.spread import spread
from prefine.preferences.convert import read_pairs
from prefine.preferences.examples import CONVERSATION_COLUMNS, examples_of
from prefine.preferences.records import Example, Pair
from prefine.scoring.token_logps import TokenStats, head_logps
from prefine.training.arguments import config_of, refuse_hooks
from prefine.training.blocks import blocks
from prefine.training.config import SFTConfig
from prefine.training.pack_trainer import Evaluated, PackTrainer, route
from prefine.training.prepared import (
    LazyGroups,
    are_groups,
    in_memory,
    is_pretokenized,
    is_stream,
    pretokenized_text,
    with_first,
)


class SFTTrainer(PackTrainer):
    """Cross-entropy of tokens given those before them, mean over the batch's tokens; the signature is TRL's.

    What is trained on: of rows with ``messages`` every token of the conversation, or with ``assistant_only_loss`` the
    assistant's turns; of ``prompt`` and ``completion`` the completion, or with ``completion_only_loss=False`` both; of ``text``
    all of it; of preference pairs the chosen side as a completion; of token ids (``input_ids``) what ``labels`` or masks say.

    Args:
        train_dataset: such rows, a stream of them, or groups.
        formatting_func: makes a row's plain text of it.
    """

    args: SFTConfig
    tags = ("prefine", "sft")
    wanted_rows = "rows with 'messages', with 'prompt' and 'completion', or with 'text'"
    _whole_rows = False
    """Whether the training rows are texts or conversations: others are then evaluated whole too, as in TRL."""
    _mean_weight: float | None = None
    """Of the present update's batches, and its processes."""

    def __init__(
        self,
        model: Any,
        args: SFTConfig | None = None,
        data_collator: Any = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: Any = None,
        compute_loss_func: Any = None,
        compute_metrics: Any = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[Any, Any] | None = None,
        preprocess_logits_for_metrics: Any = None,
        quantization_config: Any = None,
        peft_config: Any = None,
        formatting_func: Callable[[Any], str] | None = None,
    ) -> None:
        refuse_hooks(self, data_collator, compute_loss_func)
        self.args = args = config_of(args, SFTConfig)  # encode_rows, which the base class calls, needs it
        self.formatting_func = formatting_func
        self._streams: set[str] = set()
        if args.padding_free and not args.packing and args.max_length is not None:
            raise ConfigError(
                "padding_free: packed batches never hold padding; in TRL `max_length` is not enforced with padding_free=True and no "
                "packing, here it would be: leave padding_free out, or give max_length=None or packing=True"
            )
        if formatting_func is not None and args.completion_only_loss:
            raise ConfigError("formatting_func makes plain text of a row, which has no completion; leave completion_only_loss out")
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
        self.router_aux_loss_coef = route(self.scorer, args.router_aux_loss_coef)
        self.noise: EmbeddingNoise | None = None
        if args.neftune_noise_alpha is not None:
            self.noise = EmbeddingNoise(self.scorer.unwrapped, args.neftune_noise_alpha)
            self.neftune_noise_alpha: float | None = None  # transformers would scale the noise by a pack's length

    # ---- data

    def prepare(self, dataset: Any, name: str, encoder: Encoder) -> Any:
        """As the base class, shuffled and read lazily where the config says so."""
        dataset = in_memory(dataset)
        if are_groups(dataset):
            return dataset
        first, _ = with_first(dataset, name)
        if self.args.skips_preparation:
            return self._lazy(dataset, first, name, encoder)
        if _has_transform(dataset):
            raise ConfigError(
                f"{name} uses Dataset.with_transform(), and rows are encoded once, so that a random transform would stay as it was "
                "first drawn; give dataset_kwargs={'skip_prepare_dataset': True} and have it return trainer-ready examples (input_ids "
                "and labels), or apply a transform that is not random with Dataset.map() first"
            )
        if self.args.shuffle_dataset and is_stream(dataset):
            if not hasattr(dataset, "shuffle"):
                raise ConfigError(f"shuffle_dataset: {name} is a stream that has no shuffle of its own; shuffle it before, or leave it out")
            dataset = dataset.shuffle(seed=self.args.seed)
        if is_stream(dataset):
            self._streams.add(name)
        return super().prepare(dataset, name, encoder)

    def _lazy(self, dataset: Any, first: Any, name: str, encoder: Encoder) -> Any:
        if not isinstance(first, Mapping) or "input_ids" not in first:
            raise ConfigError(f"{name}: skip_prepare_dataset is for rows of token ids (input_ids, labels); leave it out, or give such rows")
        if "labels" not in first and not {"completion_mask", "assistant_masks"}.isdisjoint(first):
            raise ConfigError(
                f"{name} has masks but no 'labels', and skip_prepare_dataset leaves masks unread. Add a 'labels' column (-100 for tokens "
                "that are not trained on), or leave skip_prepare_dataset out"
            )

        def one(row: Mapping[str, Any], number: int) -> PromptGroup:
            own = encoder.fresh()
            own.max_length = None
            group = pretokenized_text(row, number, own, False)
            if group is None:
                raise DataError(f"{name}, row {number}: nothing of it is trained on; leave such rows out")
            self.check_group(name, group)
            return group

        if not is_stream(dataset):
            return LazyGroups(dataset, one)
        return self.streamed(dataset, name, encoder, lambda rows, _, __: (one(row, number) for number, row in enumerate(rows, 1)))

    def encode_rows(self, rows: Iterator[Any], name: str, encoder: Encoder) -> Iterator[Any]:
        """Groups of rows in any format, or blocks of them where they are packed."""
        args = self.args
        packs = args.packing if name == "train_dataset" or args.eval_packing is None else args.eval_packing
        if packs and args.packing_strategy != "bfd":
            encoder = copy.copy(encoder)  # with the same report
            encoder.max_length = None  # nothing is truncated
        first, rows = with_first(rows, name)
        items: Iterable[Any] = self._shuffled(self._sequences(first, rows, name, encoder), name)
        if packs:
            assert args.max_length is not None
            items = self._shuffled(blocks(items, args.packing_strategy, args.max_length, encoder, not is_pretokenized(first)), name)
        yield from items

    def _shuffled(self, items: Iterable[Any], name: str) -> Iterable[Any]:
        """In another order, where the config says so; a stream's rows were shuffled as they came."""
        if not self.args.shuffle_dataset or name in self._streams:
            return items
        listed = list(items)
        return [listed[i] for i in np.random.default_rng(self.args.seed).permutation(len(listed))]

    def _sequences(self, first: Any, rows: Iterator[Any], name: str, encoder: Encoder) -> Iterator[PromptGroup]:
        args = self.args
        if is_pretokenized(first) and "input_ids" in first:
            if args.assistant_only_loss and "assistant_masks" not in first and "labels" not in first:
                raise ConfigError(f"assistant_only_loss: {name} has token ids and no 'assistant_masks'; give them, or leave it out")
            completion_only = bool(args.completion_only_loss)
            if "completion_mask" in first and "labels" not in first and args.completion_only_loss is None:
                warnings.warn(
                    f"{name}: completion_mask is not looked at, as in TRL, and every token is trained on; give completion_only_loss=True "
                    "to train on the completion alone, or False where all is meant",
                    stacklevel=2,
                )
            for number, row in enumerate(rows, 1):
                group = pretokenized_text(row, number, encoder, completion_only)
                if group is not None:
                    yield group
            return
        if self.formatting_func is not None:
            self._refuse_turns("formatting_func makes plain text of them")
            texts = map(self.formatting_func, rows)
            yield from self._each((Example("", text, number) for number, text in enumerate(texts, 1)), encoder)
            return
        if isinstance(first, Example):
            examples: Iterator[Example] = rows
        elif isinstance(first, Pair) or "rejected" in first:
            self._refuse_turns("of preference pairs the chosen response is trained on")
            pairs = rows if isinstance(first, Pair) else read_pairs(rows, name, encoder.report.dropped, encoder.report.notes)
            examples = (Example(p.prompt, p.chosen, p.row, p.tools, p.template_kwargs) for p in pairs)
        else:
            field = args.dataset_text_field
            if not _is_conversational(first) and field in first:
                rows = ({"text": row[field]} for row in rows)
            elif not _is_conversational(first) and field != "text":
                raise ConfigError(f"{name}: no column {field!r} (dataset_text_field); columns: {', '.join(map(str, first))}", code="PF-D01")
            examples = examples_of(rows, name, encoder.report.dropped, encoder.report.notes)
            example = next(examples, None)
            if example is None:
                return
            if name == "train_dataset":
                self._whole_rows = example.whole or example.prompt == ""
            examples = itertools.chain([example], examples)
            if isinstance(example.prompt, str):
                self._refuse_turns("these rows are not conversational")
        yield from self._each(examples, encoder)

    def _refuse_turns(self, why: str) -> None:
        if self.args.assistant_only_loss:
            raise ConfigError(f"assistant_only_loss is for messages, and {why}; leave it out")

    def _each(self, examples: Iterable[Example], encoder: Encoder) -> Iterator[PromptGroup]:
        asked = ((example, self._trained(example), self.args.split_texts) for example in examples)
        for _, groups in spread(asked, encoder, _of_example, self.encoding_workers):
            yield from groups

    def _trained(self, example: Example) -> Trained:
        """What counts of an example."""
        args = self.args
        if args.completion_only_loss and (example.whole or example.prompt == ""):
            raise ConfigError("completion_only_loss is for rows of prompt and completion, and these are whole; leave it out")
        all_of_it = self._whole_rows if args.completion_only_loss is None else not args.completion_only_loss
        if not example.whole and not all_of_it:
            return "answer"
        return "turns" if args.assistant_only_loss else "all"

    # ---- gradients

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """An update's batches; their tokens are counted together, over all processes, so that each weighs the same."""
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches:
            weights = torch.tensor(sum(_weight(b["groups"]) for b in batches))
            self._mean_weight = max(1.0, self.together.mean(weights)) / len(batches)
        return batches, count

    def batch_backward(self, groups: list[PromptGroup], scale: float) -> torch.Tensor:
        """Token-mean cross-entropy; with accumulated gradients, over all of an update's tokens."""
        total_weight = self._mean_weight or max(1.0, _weight(groups))
        total = torch.zeros((), device=self.args.device)
        for pack in self.packs(groups):
            with self.scorer.attending(pack), self._noisy(pack):
                with self.compute_loss_context_manager():
                    losses_N, stats, _ = self._losses(pack, self.will_log)
                    aux_loss = self.scorer.aux_loss
                    loss = _weighted(losses_N, pack) / total_weight
                    if aux_loss is not None:
                        self.note("train", "aux_loss", aux_loss.item(), len(pack.groups))
                        loss = loss + self.router_aux_loss_coef * aux_loss * (len(pack.groups) / self.mean_number)
                self.backward(loss * scale)
            self.note_pack(pack)
            if stats is not None:
                self._note_tokens("train", pack, stats)
            total += loss.detach()
        return total

    def _losses(self, pack: Pack, with_stats: bool, with_all: bool = False) -> tuple[torch.Tensor, TokenStats | None, torch.Tensor | None]:
        """Each token's loss, shape (N,): its negative log-likelihood, or that times its probability (DFT, arXiv 2508.05629, eq. 9).

        Returns:
            Losses, statistics, and where asked for the log-probs of all the vocabulary (N, V).
        """
        scorer = self.scorer

        def work(hidden_ND: torch.Tensor) -> tuple[Any, ...]:
            found = scorer.head_logps_and_stats(hidden_ND, pack, with_stats)
            return *found, head_logps(hidden_ND, scorer.head, scorer.scaling) if with_all else None

        logps_N, stats, logps_NV = scorer.read(pack, work)
        return -logps_N if self.args.loss_type == "nll" else -logps_N * logps_N.detach().exp(), stats, logps_NV

    def _note_tokens(self, mode: str, pack: Pack, stats: TokenStats) -> None:
        """TRL's ``entropy`` and ``mean_token_accuracy``, means over the tokens that count."""
        counts_N = torch.ones_like(pack.target_N, dtype=torch.bool) if pack.weight_N is None else pack.weight_N.bool()
        self.note_tokens(mode, {"entropy": (stats.entropy, counts_N), "mean_token_accuracy": (stats.is_top1, counts_N)})

    @contextmanager
    def _noisy(self, pack: Pack) -> Iterator[None]:
        if self.noise is None:
            yield
            return
        with self.noise.over(pack, self.scorer.layout == "padded"):
            yield

    def batch_loss(self, groups: list[PromptGroup], predict: bool = False) -> Evaluated:
        """Token-mean cross-entropy without gradient.

        Predictions are the logits (log-probs) of every position, shape (B, L, V), and labels the ids (B, L), -100 where a token does
        not count: as transformers' language models have them, so that ``predictions[:, :-1]`` predict ``labels[:, 1:]``. Logits are 0
        where nothing was to be predicted.
        """
        total_weight = max(1.0, _weight(groups))
        total = torch.zeros((), device=self.args.device)
        found: list[tuple[PromptGroup, torch.Tensor]] = []
        for pack in self.packs(groups):
            with self.scorer.attending(pack):
                losses_N, stats, logps_NV = self._losses(pack, True, predict)
                aux_loss = self.scorer.aux_loss
                total += _weighted(losses_N, pack) / total_weight
            assert stats is not None
            self._note_tokens("eval", pack, stats)
            if aux_loss is not None:
                self.note("eval", "aux_loss", aux_loss.item(), len(pack.groups))
                total += self.router_aux_loss_coef * aux_loss * (len(pack.groups) / len(groups))
            if logps_NV is not None:
                found += zip(pack.groups, logps_NV.split([g.num_completion_tokens for g in pack.groups]), strict=True)
        return Evaluated(total, *_as_rows(groups, found)) if predict else Evaluated(total)


def _as_rows(groups: Sequence[PromptGroup], found: Sequence[tuple[PromptGroup, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs at completion positions as padded rows in the groups' order, and labels."""
    place = {id(group): row for row, group in enumerate(groups)}
    width = max(len(g.prompt_ids) + g.num_completion_tokens for g in groups)
    first = found[0][1]
    logits = torch.zeros(len(groups), width, first.shape[1], device=first.device)
    labels = torch.full((len(groups), width), -100, dtype=torch.long, device=first.device)
    for group, logps in found:
        row, start = place[id(group)], len(group.prompt_ids)
        logits[row, start - 1 : start - 1 + len(logps)] = logps.float()
        ids = torch.from_numpy(group.completion_ids[0].astype(np.int64))
        counts = torch.from_numpy(weights_of(group)) > 0
        labels[row, start : start + len(ids)] = torch.where(counts, ids, torch.full_like(ids, -100)).to(labels.device)
    return logits, labels


def _has_transform(dataset: Any) -> bool:
    """Whether a ``datasets.Dataset`` makes its rows as they are asked for."""
    return isinstance(getattr(dataset, "format", None), dict) and dataset.format.get("type") == "custom"


def _of_example(encoder: Encoder, asked: tuple[Example, Trained, bool]) -> list[PromptGroup]:
    return encoder.encode_example(*asked)


def _is_conversational(row: Mapping[str, Any]) -> bool:
    """Whether a row has TRL's columns of more than plain text."""
    return any(name in row for name in CONVERSATION_COLUMNS) or {"prompt", "completion"} <= row.keys()


def _weight(groups: Sequence[PromptGroup]) -> float:
    return float(sum(weights_of(g).sum() for g in groups))


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


def encoded(rows: Sequence[Any], args: SFTConfig, tokenizer: Any) -> Iterator[Any]:
    """Rows as a trainer of this config would encode them, without a trainer: to know how long they are."""
    trainer = SFTTrainer.__new__(SFTTrainer)
    trainer.args, trainer.formatting_func, trainer._streams = args, None, set()
    return trainer.encode_rows(iter(rows), "train_dataset", args.encoder(tokenizer))
