"""KTO and its kin on packs: single responses, each wanted or not; those to one prompt share it.

Legend: M responses of a pack, N tokens.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from prefine.errors import ConfigError, DataError
from prefine.losses.unpaired import UNPAIRED
from prefine.packing.encoding import Encoder, labelled_group
from prefine.packing.group import MISMATCHED, UNWANTED, WANTED, LabelledGroup, PromptGroup, weights_of
from prefine.packing.pack import Pack
from prefine.packing.spread import of_labelled, spread
from prefine.packing.store import GroupStore
from prefine.preferences.convert import Reading
from prefine.preferences.labels import labelled_rows, to_labelled
from prefine.preferences.records import Example, Labelled, Pair, Ranked
from prefine.runs import read_json, write_json
from prefine.scoring.token_logps import TokenStats
from prefine.training.arguments import config_of, refuse_hooks
from prefine.training.config import KTOConfig
from prefine.training.mismatched import Mismatched, mismatched_stream
from prefine.training.pack_trainer import Evaluated, loading
from prefine.training.prepared import StreamedGroups, with_first
from prefine.training.with_reference import ReferenceTrainer

SHIFT = "shift.json"
"""In a checkpoint: the sum and the number of the log-ratios that BCO's shift is the mean of."""
IDS = frozenset(("prompt_ids", "completion_ids", "label"))
"""Columns of rows that are token ids already; TRL's."""


@dataclass(frozen=True)
class Scored:
    """A scored pack of M responses.

    Attributes:
        ratio_M: log pi - log pi_ref, nats; logps_M: log pi; wanted_M: whether each is wanted.
        stats: what is logged of its tokens; aux_loss: the routers' auxiliary loss.
    """

    ratio_M: torch.Tensor
    logps_M: torch.Tensor
    wanted_M: torch.Tensor
    stats: TokenStats | None
    aux_loss: torch.Tensor | None


class KTOTrainer(ReferenceTrainer):
    """Preference training on single responses with a label; the signature is TRL's.

    Args:
        model: a name, a folder, or a loaded causal language model (plain or peft).
        ref_model: None for the policy's own start.
        train_dataset: rows with ``prompt``, ``completion`` and ``label``, in any format ``prefine.preferences`` reads (of pairs both
            sides), or labelled responses, or groups.
        peft_config: a peft configuration to train an adapter; the reference is then the adapter off.

    Raises:
        PrefineError: options or data that do not fit, before training.
    """

    args: KTOConfig
    tags = ("prefine", "kto")
    wanted_rows = "rows with 'prompt', 'completion' and 'label'"

    def __init__(
        self,
        model: str | nn.Module,
        ref_model: str | nn.Module | None = None,
        args: KTOConfig | None = None,
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
        self.args = args = config_of(args, KTOConfig)
        self.loss = UNPAIRED[args.loss_type]
        self.shift = [0.0, 0.0]
        self._log_ratios: dict[int, tuple[float, int]] = {}  # sum and number, by batch since the last update
        super().__init__(
            model,
            args,
            train_dataset,
            eval_dataset,
            processing_class,
            callbacks,
            optimizers,
            peft_config,
            needs_reference=True,
            ref_model=ref_model,
            compute_metrics=compute_metrics,
            quantization_config=quantization_config,
            **more,
        )
        self.label_weights = self._label_weights()
        self.ready_reference()

    # ---- data

    def encode_rows(self, rows: Iterator[Any], name: str, encoder: Encoder) -> Iterator[PromptGroup]:
        """Labelled responses, rows of them in any format, or rows of token ids."""
        first, rows = with_first(rows, name)
        if isinstance(first, Mapping) and first.keys() >= IDS:
            for number, row in enumerate(rows, 1):
                group = encoder.encode_ids(list(row["prompt_ids"]), [list(row["completion_ids"])], number)
                if group is not None:
                    yield labelled_group(group, WANTED if row["label"] else UNWANTED)
            return
        report = encoder.report
        if isinstance(first, Pair | Labelled | Ranked | Example):
            items: Iterator[Labelled] = (item for item in to_labelled(rows, Reading()) if isinstance(item, Labelled))
        else:
            items = labelled_rows(rows, name, report.dropped, report.notes)
        for _, groups in spread(items, encoder, of_labelled, self.encoding_workers):
            yield from groups

    @property
    def _most(self) -> int | None:
        """Tokens of a sequence, at most."""
        return min((n for n in (self.args.max_length, self.limits.positions) if n is not None), default=None)

    def _prepare_train(self, dataset: Any, args: Any) -> Any:
        return self._with_mismatched(super()._prepare_train(dataset, args))

    def _prepare_eval(self, dataset: Any, args: Any, name: str = "eval_dataset") -> Any:
        return self._with_mismatched(super()._prepare_eval(dataset, args, name))

    def streamed(self, dataset: Any, name: str, encoder: Encoder, encode: Any) -> StreamedGroups:
        """A stream's groups, with mismatched responses where the loss wants them."""
        if not self.loss.uses_kl:
            return super().streamed(dataset, name, encoder, encode)
        block, most = self._block, self._most
        return super().streamed(dataset, name, encoder, lambda *given: mismatched_stream(encode(*given), block, most))

    @property
    def _block(self) -> int:
        """Rows of a batch of all processes."""
        return self.args.per_device_train_batch_size * self.args.world_size

    def _with_mismatched(self, groups: Any) -> Any:
        if groups is None or isinstance(groups, str | dict | StreamedGroups):
            return groups
        if not isinstance(groups[0], LabelledGroup):
            raise DataError("the dataset's groups have no labels; give rows with 'prompt', 'completion' and 'label'", code="PF-D09")
        return Mismatched(groups, self._block, self._most) if self.loss.uses_kl and len(groups[0].labels) == 1 else groups

    def _label_weights(self) -> tuple[float, float]:
        """Weights of losses of wanted and of unwanted responses."""
        data: Any = self.train_dataset
        weights = (self.args.desirable_weight, self.args.undesirable_weight)
        if isinstance(data, StreamedGroups):
            if self.args.balance_labels:
                raise ConfigError("balance_labels counts labels before training, and a stream's are not known then; give weights instead")
            return weights
        rows = data.groups if isinstance(data, Mismatched) else data
        labels = rows.labels if isinstance(rows, GroupStore) else np.array([group.labels[0] for group in rows])
        wanted = int((labels == WANTED).sum())
        self.label_counts = (wanted, len(labels) - wanted)
        if not all(self.label_counts):
            only = "wanted" if wanted else "unwanted"
            warnings.warn(f"all {len(labels)} responses are labelled {only}: nothing tells what sets them apart", stacklevel=3)
            return weights
        if self.args.balance_labels:
            most = max(self.label_counts)
            weights = (most / self.label_counts[0], most / self.label_counts[1])
        return weights

    # ---- batches

    def tokens_seen(self, group: PromptGroup) -> int:
        """A prompt's and its own response's."""
        return len(group.prompt_ids) + len(group.completion_ids[0])

    def batch_backward(self, groups: list[PromptGroup], scale: float) -> torch.Tensor:
        """Mean loss over responses, pack by pack, against a baseline of the whole batch."""
        own, baseline = self._against(groups, "train", self.mean_number)
        total = torch.zeros((), device=self.args.device)
        ratios, number = 0.0, 0
        for pack in self.packs(self._sharing(own)):
            ref_N = self.reference_tokens(pack)
            with self.scorer.attending(pack):
                with self.compute_loss_context_manager():
                    scored = self._score(pack, ref_N, self.will_log)
                    loss = self._losses(scored, baseline).sum() / self.mean_number
                    if scored.aux_loss is not None:
                        responses = len(scored.wanted_M)
                        loss = loss + self.router_aux_loss_coef * scored.aux_loss * (responses / self.mean_number)
                        self.note("train", "aux_loss", scored.aux_loss.item(), responses)
                self.backward(loss * scale)
            total += loss.detach()
            self.note_pack(pack)
            self._note(pack, scored, baseline, "train")
            if not self._made_up and not self._checked_start:
                self.check_start(scored.logps_M.detach(), (scored.logps_M - scored.ratio_M).detach())
            if self.loss.uses_shift:
                ratios, number = ratios + float(scored.ratio_M.detach().sum()), number + len(scored.ratio_M)
        if self.loss.uses_shift and not self._made_up:
            self._log_ratios[id(groups)] = (ratios, number)
        return total

    def batch_loss(self, groups: list[PromptGroup], predict: bool = False) -> Evaluated:
        """Mean loss over responses without gradient; predictions are the implicit rewards (M,), labels (M,) 1 where wanted."""
        own, baseline = self._against(groups, "eval", len(groups))
        parts = []
        for pack in self.packs(own):
            ref_N = self.reference_tokens(pack)
            with self.scorer.attending(pack):
                parts.append(self._score(pack, ref_N, True))
            self._note(pack, parts[-1], baseline, "eval")
        total = sum((self._losses(part, baseline).sum() for part in parts), torch.zeros((), device=self.args.device))
        if not predict:
            return Evaluated(total / len(groups))
        rewards, labels = torch.cat([self.beta * part.ratio_M for part in parts]), torch.cat([part.wanted_M for part in parts])
        return Evaluated(total / len(groups), rewards.float(), labels.long())

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One batch; after an update the shift takes its log-ratios in."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients and self.loss.uses_shift:
            found = list(self._log_ratios.values())
            own = sum(ratios for ratios, _ in found), sum(number for _, number in found)
            more = [self.together.mean(torch.tensor(float(of_own))) * self.accelerator.num_processes for of_own in own]
            if math.isfinite(more[0]):  # else the update is skipped
                self.shift = [total + part for total, part in zip(self.shift, more, strict=True)]
            self._log_ratios.clear()
        return loss

    @property
    def waits_within_batches(self) -> bool:
        """Also where the baseline is of the batch of all processes."""
        return self.together.in_step or (self.together.several and self.loss.uses_kl)

    def _against(self, groups: Sequence[PromptGroup], mode: str, number: float) -> tuple[list[PromptGroup], float]:
        """The responses themselves, with the reference's log-probs where these came along, and the baseline that they are held against.

        Args:
            number: of the batch's responses, a mean over processes.
        """
        if not self.loss.uses_kl:
            baseline = self.shift[0] / max(1.0, self.shift[1]) if self.loss.uses_shift else 0.0
            return list(groups), baseline
        if self._made_up:  # the passes of the baseline were made up for after the baseline
            return [_own(g, np.zeros(len(g.completion_ids[0]), np.float32)) for g in groups], 0.0
        own, total = self._log_ratios_of_mismatched(groups, mode)
        baseline = (self.together.mean(total) if mode == "train" else float(total)) / number
        self.note(mode, "kl", max(0.0, baseline), number)
        return own, max(0.0, baseline) if math.isfinite(baseline) else baseline

    def _log_ratios_of_mismatched(self, groups: Sequence[PromptGroup], mode: str) -> tuple[list[PromptGroup], torch.Tensor]:
        """The responses themselves with the reference's log-probs, and the sum of the log-ratios of the mismatched ones."""
        total = torch.zeros((), device=self.args.device, dtype=torch.float64)
        own: list[PromptGroup] = []
        for pack in self.packs(groups):
            total += self._mismatched(pack, own)
        self._make_up(lambda few: self._mismatched(self.scorer.pack(few), []), mode)
        return own, total

    def agree_on_nothing(self) -> None:
        """Also on the baseline's passes."""
        if self.loss.uses_kl:
            self._log_ratios_of_mismatched([], "eval")
        super().agree_on_nothing()

    @torch.no_grad()
    def _mismatched(self, pack: Pack, own: list[PromptGroup]) -> torch.Tensor:
        """The sum of a pack's log-ratios of mismatched responses; its own responses go to ``own`` with their reference log-probs."""
        ref_N = self.reference_tokens(pack)
        assert ref_N is not None
        only = self.scorer.pack([_mismatched_only(g) for g in pack.groups])
        with self.scorer.attending(only), self.compute_loss_context_manager():
            logps_M = only.sum_by_completion(self.scorer.token_logps(only))
        ref_M = pack.sum_by_completion(ref_N).view(-1, 2)[:, 1]
        known_N, at = ref_N.float().cpu().numpy(), 0
        for group in pack.groups:
            own.append(_own(group, known_N[at : at + len(group.completion_ids[0])]))
            at += group.num_completion_tokens
        return (logps_M - ref_M).double().sum()

    def _sharing(self, groups: Sequence[PromptGroup]) -> list[PromptGroup]:
        """Responses to one prompt as one group, as long as a pass may be."""
        out: dict[Any, LabelledGroup] = {}
        for group in groups:
            assert isinstance(group, LabelledGroup)
            key: Any = group.prompt_ids.tobytes()
            known = out.pop(key, None)
            if known is not None and known.num_tokens() + group.num_completion_tokens > self.budget.tokens:
                out[len(out), key] = known
                known = None
            out[key] = group if known is None else _joined(known, group)
        return list(out.values())

    def _score(self, pack: Pack, ref_N: torch.Tensor | None, with_stats: bool) -> Scored:
        """Score a pack; call inside ``attending``."""
        assert ref_N is not None
        logps_N, stats = self.scorer.read(pack, lambda hidden_ND: self.scorer.head_logps_and_stats(hidden_ND, pack, with_stats))
        logps_M = pack.sum_by_completion(logps_N)
        labels = [label for group in pack.groups for label in _labels(group)]
        wanted_M = torch.tensor(labels, device=logps_M.device) == WANTED
        return Scored(logps_M - pack.sum_by_completion(ref_N), logps_M, wanted_M, stats, self.scorer.aux_loss)

    def _losses(self, scored: Scored, baseline: float) -> torch.Tensor:
        wanted, unwanted = self.label_weights
        weights_M = torch.where(scored.wanted_M, wanted, unwanted)
        return weights_M * self.loss.function(scored.ratio_M, scored.wanted_M, self.beta, baseline)

    def _note(self, pack: Pack, scored: Scored, baseline: float, mode: str) -> None:
        """TRL's metrics: means over wanted and over unwanted responses; and how many lie on their label's side of the baseline."""
        wanted_M = scored.wanted_M
        ratio_M = scored.ratio_M.detach()
        values = {"rewards": self.beta * ratio_M, "logps": scored.logps_M.detach()}
        noted = {
            f"{name}/{side}": (v, which) for name, v in values.items() for side, which in (("chosen", wanted_M), ("rejected", ~wanted_M))
        }
        noted["rewards/accuracies"] = ((ratio_M > baseline) == wanted_M, torch.ones_like(wanted_M))
        self.note_tokens(mode, noted)
        if scored.stats is not None:
            self.note_stats(mode, pack, scored.stats, wanted_M[pack.completion_N])

    def _means(self, mode: str) -> dict[str, tuple[float, float]]:
        means = super()._means(mode)
        sides = [means.get(f"rewards/{side}", (0.0, 0.0)) for side in ("chosen", "rejected")]
        if all(count for _, count in sides):
            means["rewards/margins"] = (sides[0][0] - sides[1][0], 1.0)
        return {name: (mean, count) for name, (mean, count) in means.items() if count}

    # ---- checkpoints

    def _save_more(self, folder: Path) -> None:
        super()._save_more(folder)
        if self.loss.uses_shift and self.args.should_save:
            write_json(folder / SHIFT, {"sum": self.shift[0], "number": self.shift[1]})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self.loss.uses_shift:
            with loading(resume_from_checkpoint, SHIFT):
                kept = read_json(Path(resume_from_checkpoint) / SHIFT)
                self.shift = [float(kept["sum"]), float(kept["number"])]


def _labels(group: PromptGroup) -> tuple[int, ...]:
    assert isinstance(group, LabelledGroup)
    return group.labels


def _own(group: PromptGroup, ref_logps: Any) -> LabelledGroup:
    """A row without its mismatched response, with the reference's log-probs of its own."""
    assert isinstance(group, LabelledGroup)
    ids = group.completion_ids[0]
    weights = None if group.weights is None else group.weights[: len(ids)]
    return replace(group, completion_ids=(ids,), ref_logps=ref_logps, weights=weights, labels=group.labels[:1])


def _mismatched_only(group: PromptGroup) -> LabelledGroup:
    """A row with its mismatched response alone."""
    assert isinstance(group, LabelledGroup)
    first = len(group.completion_ids[0])
    weights = None if group.weights is None else group.weights[first:]
    return replace(group, completion_ids=group.completion_ids[1:], ref_logps=None, weights=weights, labels=(MISMATCHED,))


def _joined(group: LabelledGroup, more: LabelledGroup) -> LabelledGroup:
    """Two rows of one prompt as one group."""
    weighted = group.weights is not None or more.weights is not None
    known = group.ref_logps is not None and more.ref_logps is not None
    return replace(
        group,
        completion_ids=group.completion_ids + more.completion_ids,
        ref_logps=np.concatenate((group.ref_logps, more.ref_logps)) if known else None,  # type: ignore[arg-type]
        weights=np.concatenate((weights_of(group), weights_of(more))) if weighted else None,
        labels=group.labels + more.labels,
    )
