"""The common trainer: batches of prompt groups, packs under a token budget, out-of-memory survived.

A subclass says how a batch becomes gradients (:meth:`PackTrainer.batch_backward`); this
file owns the split, the retry, retention, metrics and checkpoints.
"""

from __future__ import annotations

import functools
import math
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType, FullyShardedDataParallelPlugin, PartialState
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainerCallback, TrainerState, set_seed
from transformers.trainer import OPTIMIZER_NAME, SCALER_NAME, SCHEDULER_NAME, TRAINER_STATE_NAME

from prefine.checkpoints import SAVING, begin, check, newest, publish, rotate, seal, storing
from prefine.errors import CheckpointError, ConfigError, DataError, ModelError, PrefineError
from prefine.packing.budget import TRAINING_ADVICE, TokenBudget
from prefine.packing.encoding import KWARGS_NAME, Encoder
from prefine.packing.end_tokens import keep_ends
from prefine.packing.group import PromptGroup
from prefine.packing.learned_tokens import memory_key
from prefine.packing.out_of_memory import is_out_of_memory, smaller_on_oom
from prefine.packing.pack import Pack
from prefine.packing.rendering import read_template_kwargs
from prefine.packing.spread import workers_for
from prefine.scoring.adapter_start import TakenStart, takes_from_base
from prefine.scoring.liger import apply_liger
from prefine.scoring.limits import check_groups, fit_tokenizer
from prefine.scoring.loading import add_adapter, as_in_training, check_same_tokenizer, first_line, load_model, load_tokenizer
from prefine.scoring.proof import Proof, prove_layout
from prefine.scoring.reference import Reference
from prefine.scoring.scorer import Scorer
from prefine.training.arguments import fit_settings, refuse_hooks
from prefine.training.card import write_card
from prefine.training.config import PackConfig
from prefine.training.config.pack import FSDP1, is_launched_sharded
from prefine.training.dealing import DealtByTokens
from prefine.training.notes import Notes, Sums
from prefine.training.offload import OffloadActivations
from prefine.training.optimizer_step import survive_out_of_memory
from prefine.training.peak_memory import peak_memory_bytes
from prefine.training.prepared import Encode, LazyGroups, StreamedGroups, are_groups, flat, in_memory, is_stream, prepare_rows, with_first
from prefine.training.refusals import refusals
from prefine.training.retention import Retention
from prefine.training.sharded_checkpoint import gathered, gathered_optimizer, hand_out, hand_out_optimizer, hand_out_weights
from prefine.training.together import Together, divided
from prefine.training.zero import own_part, reading_data_alone, share_out

MOST_SKIPPED = 10
"""Updates without a finite gradient, one after the other, that end a run."""
MOVED_REFERENCE = "reference.pt"
"""In a checkpoint: the reference's weights, where they moved."""


@dataclass(frozen=True)
class Batch:
    """What one process has of a batch of all.

    Attributes:
        groups: its own; spare: one or more to make passes of for nothing.
        number: how many all processes have, where they are no equal parts; of_all: these, where they are known.
    """

    groups: list[PromptGroup]
    spare: list[PromptGroup]
    number: int | None = None
    of_all: Sequence[PromptGroup] | None = None


@dataclass(frozen=True)
class Evaluated:
    """An evaluation batch: its mean loss, and predictions with labels, the batch first, where they were wanted."""

    loss: torch.Tensor
    predictions: torch.Tensor | None = None
    labels: torch.Tensor | None = None


def collate(items: list[Any]) -> dict[str, Any]:
    """A batch is its groups; packs are made later, under the budget of the moment. An item may be a block of several."""
    # transformers finds a batch's size by its first tensor; it says how many groups each item has.
    return {"items": torch.tensor([len(flat([item])) for item in items]), "groups": flat(items)}


class PackTrainer(Trainer):
    """Base of Prefine's trainers. Arguments are those of TRL's trainers.

    Raises:
        PrefineError: a model, tokenizer or dataset that does not fit, or an option that transformers refuses.
    """

    args: PackConfig
    is_deepspeed_enabled: bool
    scorer_kind: type[Scorer] = Scorer
    """What runs the model on packs."""
    tags: tuple[str, ...] = ("prefine",)
    """Of the model, for the Hub."""

    def __init__(
        self,
        model: str | nn.Module,
        args: PackConfig,
        train_dataset: Any,
        eval_dataset: Any = None,
        processing_class: Any = None,
        callbacks: list[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        peft_config: Any = None,
        needs_reference: bool = False,
        ref_model: str | nn.Module | None = None,
        **more: Any,
    ) -> None:
        if train_dataset is None:
            raise DataError(f"`train_dataset` is required: {self.wanted_rows}")
        quantization_config = more.pop("quantization_config", None)
        self._refuse_unread(model, args, quantization_config)
        if processing_class is None:
            name = model if isinstance(model, str) else str(getattr(model.config, "_name_or_path", ""))
            processing_class = load_tokenizer(name, args.trusts_code, revision=args.init_kwargs().get("revision"))
        if args.chat_template_kwargs is not None:
            processing_class.init_kwargs[KWARGS_NAME] = read_template_kwargs(args.chat_template_kwargs)  # saved with the model
        set_seed(args.seed)  # of new heads and adapters
        policy = as_in_training(self.load(model, args, quantization_config))
        fit_settings(policy, processing_class, args)
        self.limits = fit_tokenizer(policy, processing_class)
        keep_ends(policy, processing_class)
        if isinstance(ref_model, str):
            check_same_tokenizer(processing_class, ref_model, args.trusts_code)
        if peft_config is not None:
            if hasattr(policy, "peft_config"):
                raise ModelError("the model already has an adapter and peft_config asks for another; give one of the two")
            if peft_config.peft_type == "PREFIX_TUNING" and args.gradient_checkpointing:
                raise ConfigError("prefix tuning keeps its prefix in a cache, which gradient_checkpointing leaves out; switch that off")
            policy = add_adapter(policy, peft_config, args.gradient_checkpointing)
        self.taken = TakenStart(policy) if peft_config is not None and takes_from_base(peft_config) else None
        if self.taken is not None and (args.is_sharded or args.zero_stage or args.load_best_model_at_end):
            other = "load_best_model_at_end" if args.load_best_model_at_end else "FSDP2 or DeepSpeed"
            raise ConfigError(f"init_lora_weights {peft_config.init_lora_weights} does not go with {other}; leave one of the two out")
        if args.disable_dropout:
            disable_dropout(policy)
        half = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 and args.device.type != "cpu" else None
        if _is_placed_whole(policy, args):
            policy.to(args.device)  # what is proven is what trains there
        if args.use_liger_kernel:
            args.liger_kernel_config = apply_liger(policy, args.liger_kernel_config)  # transformers puts them in once more
        self.proof: Proof = prove_layout(policy, args.max_length, self.scorer_kind, half)
        self.scorer = self.scorer_kind(policy, self.proof.layout)
        self.encoder = args.encoder(processing_class)
        self._encoders: dict[str, Encoder] = {"train_dataset": self.encoder}
        self._workers = workers_for(args.dataset_num_proc)
        train_groups = self._prepare_train(train_dataset, args)
        eval_groups = self._prepare_eval(eval_dataset, args)
        self.retention = None
        if args.retain is not None:
            self.retention = Retention.load(args.retain, self.encoder, args.seed)
            check_groups(self.limits, self.retention.groups, args.retain)
            needs_reference = needs_reference or self.retention.uses_reference
        self.reference = None
        if needs_reference:
            self.reference = Reference(self.scorer, None if ref_model is None else _loaded(ref_model, args))
            if half is not None and not isinstance(ref_model, nn.Module) and not getattr(args, "sync_ref_model", False):
                self.reference.hold_in(half)
            if ref_model is None and peft_config is not None and self.reference.adapter is not None:
                warnings.warn(
                    f"a new {peft_config.peft_type} adapter changes the model before it is trained: the reference is the model with the "
                    "adapter as it starts, not the base",
                    stacklevel=3,
                )
        self.external_reference = ref_model is not None
        text = self.scorer.unwrapped.config.get_text_config()
        width = getattr(text, "num_hidden_layers", 0) * getattr(text, "hidden_size", 0)
        key = memory_key(policy, "train", args.device, args.gradient_checkpointing)
        self.budget = TokenBudget.of(args.token_budget, args.device.type, width, key, TRAINING_ADVICE)
        args._n_gpu = min(args.n_gpu, 1)  # without a launcher transformers would spread a single row over all GPUs (DataParallel)
        if args.accelerator_config.dispatch_batches:
            raise ConfigError(
                "accelerator_config: dispatch_batches would be ignored: a batch is groups, made in each process; leave it out"
            )
        args.accelerator_config.dispatch_batches = False  # a batch is groups, which another process cannot be sent
        if args.world_size > 1 and (args.accelerator_config.split_batches or not args.accelerator_config.even_batches):
            raise ConfigError(
                "accelerator_config: split_batches and even_batches would be ignored: each process takes per_device_train_batch_size rows, "
                "and what fills a last batch up is left out; leave both out",
                code="PF-C04",
            )
        self._since_update: list[Batch] = []
        self._tried: Sequence[PromptGroup] = ()  # the batch that is computed
        self.notes = Notes()
        self.of_all: Sequence[PromptGroup] = ()  # the batch's groups of all processes, where they are no equal parts
        self.mean_number = 0.0  # of the batch's groups, over processes
        self._missing = 0  # passes that other processes make beyond this one's
        self._made_up = self._reference_placed = False
        self._notes_before: Sums = {}
        self._pending_tokens = 0
        self._clock = time.perf_counter()
        self._checked_start = self._faster_b = False
        self.skipped_in_a_row = 0
        self.first_loss: float | None = None
        self._evaluating = False
        self.on_event: Any = lambda kind, **what: None
        self._saving = False
        self.nothing_left = False  # of the steps, when training begins
        self.ended_at: int | None = None  # the step at which what watches the run ended it, before it was resumed
        self._resumed_step: int | None = None
        self.verified = ""  # a checkpoint whose files were verified already
        with refusals():
            super().__init__(
                model=policy,
                args=args,
                data_collator=collate,
                train_dataset=train_groups,
                eval_dataset=eval_groups,
                processing_class=processing_class,
                callbacks=callbacks,
                optimizers=optimizers,
                **more,
            )
        self.model_accepts_loss_kwargs = False
        self.together = Together(self.accelerator)
        if self.together.by_fsdp and self.accelerator.state.fsdp_plugin.fsdp_version != 2:
            raise ConfigError(FSDP1, code="PF-C02")  # of accelerate's configuration
        for scorer in (self.scorer, *([self.reference.scorer] if self.reference is not None else [])):
            scorer.autocast = self.accelerator.autocast
        if not self.together.sharded:
            self._place_reference()
        if isinstance(self.train_dataset, StreamedGroups):
            self.add_callback(_SayLosses(self.train_dataset))
        if hasattr(self.scorer.unwrapped, "add_model_tags"):
            self.scorer.unwrapped.add_model_tags(list(self.tags))

    encoding_workers = 1
    """Processes that encode: several where all rows are encoded at once, one where they come as a stream."""
    wanted_rows = "rows with 'prompt', 'chosen' and 'rejected'"
    """What ``train_dataset`` is made of, in words."""

    def _refuse_unread(self, model: Any, args: PackConfig, quantization_config: Any) -> None:
        if isinstance(model, nn.Module) and any(hasattr(p, "ds_id") for p in model.parameters()):
            raise ModelError(
                "the model's weights are shared out by DeepSpeed already, and its layout is proven while it is whole; give it by its name, "
                "or make it before its config"
            )
        if isinstance(model, str):
            if quantization_config is not None and "quantization_config" in args.init_kwargs():
                raise ConfigError("quantization_config stands in model_init_kwargs too; give it once")
            return
        for name, value in (("quantization_config", quantization_config), ("model_init_kwargs", args.model_init_kwargs)):
            if value:
                raise ConfigError(
                    f"{name} would be ignored: the model is loaded already; leave it out, or give the model by its name", code="PF-C04"
                )

    def load(self, model: str | nn.Module, args: PackConfig, quantization_config: Any = None) -> nn.Module:
        """A model given by its name, or itself."""
        return _loaded(model, args, quantization_config)

    @property
    def ref_model(self) -> nn.Module | None:
        """The reference where it has weights of its own; None where it is the policy without its adapter, or is not needed."""
        if self.reference is None or self.reference.is_policy:
            return None
        reference: nn.Module = self.reference.scorer.unwrapped
        return reference

    def create_accelerator_and_postprocess(self) -> None:
        """As transformers'; FSDP that is asked for shards on processors too, where accelerate would go on without it and not say so."""
        super().create_accelerator_and_postprocess()
        state, asked = self.accelerator.state, self.args.fsdp_plugin_args or ({} if is_launched_sharded() else None)
        if asked is not None and state.distributed_type == DistributedType.MULTI_CPU:
            state.fsdp_plugin = FullyShardedDataParallelPlugin(**asked)
            for shared in (state, PartialState()):  # the second overwrites the first whenever accelerate asks for either
                shared.distributed_type = DistributedType.FSDP
            if self.accelerator.mixed_precision != "no":
                state.fsdp_plugin.set_mixed_precision(self.accelerator.mixed_precision)
            self.is_fsdp_enabled = True

    def _place_reference(self) -> None:
        """Put a reference of its own weights where the policy is: on this process's device, or shared out over all."""
        if self.reference is None or self.reference.is_policy or self._reference_placed:
            return
        self._reference_placed = True
        reference = self.reference.scorer.unwrapped
        if self.together.zero_stage and self.args.bf16:
            reference.to(torch.bfloat16)  # as the engine has the policy
        if self.together.zero_stage == 3:
            share_out(reference, self.accelerator.state.deepspeed_plugin.deepspeed_config)
        elif self.together.by_fsdp:
            from accelerate.utils.fsdp_utils import fsdp2_prepare_model

            fsdp2_prepare_model(self.accelerator, reference)
        else:
            reference.to(self.args.device)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        """As transformers'; a reference is shared out as the policy is."""
        engine = self.together.zero_stage > 0
        safely = reading_data_alone() if engine and resume_from_checkpoint is not None else nullcontext()
        with loading(resume_from_checkpoint if engine else None, "weights and optimizer"), safely:
            found = super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        self._place_reference()
        return found

    @property
    def aux_loss_enabled(self) -> bool:
        """Whether a mixture of experts' load-balancing loss is part of the loss."""
        return self.scorer.wants_aux_loss

    # ---- data

    def tokens_to_come(self, args: PackConfig) -> int:
        """How many tokens are sampled after each training sequence."""
        return 0

    def encode_rows(self, rows: Iterator[Any], name: str, encoder: Encoder) -> Iterator[PromptGroup]:
        """Turn rows, of which there is one at least, into prompt groups; what is left out stands in the encoder's report."""
        raise NotImplementedError

    def prepare(self, dataset: Any, name: str, encoder: Encoder) -> Any:
        """A dataset as groups: as it is where it holds them, encoded as it comes where it is a stream, else encoded at once."""
        dataset = in_memory(dataset)
        if are_groups(dataset):
            return dataset
        if is_stream(dataset):
            with_first(dataset, name)
            return self.streamed(dataset, name, encoder, self.encode_rows)
        self.encoding_workers = self._workers
        try:
            return prepare_rows(dataset, name, encoder, self.encode_rows)
        finally:
            self.encoding_workers = 1

    def streamed(self, dataset: Any, name: str, encoder: Encoder, encode: Encode) -> StreamedGroups:
        """A stream's groups; the training data begins anew where it ends."""
        return StreamedGroups(dataset, name, encoder, encode, functools.partial(self.check_group, name), name == "train_dataset")

    def check_group(self, name: str, item: Any) -> None:
        """Refuse a group, or a block of them, that the model cannot take."""
        check_groups(self.limits, flat([item]), name)

    def _prepare_train(self, dataset: Any, args: PackConfig) -> Any:
        return self._checked(self.prepare(dataset, "train_dataset", self.encoder), "train_dataset", args, self.tokens_to_come(args))

    def _checked(self, groups: Any, name: str, args: PackConfig, more: int = 0) -> Any:
        """Groups that the model can take; those of streams, and of rows that are read anew, are checked as they come."""
        if isinstance(groups, StreamedGroups) and args.dataloader_num_workers:
            raise ConfigError("dataloader_num_workers: a stream is encoded in one process, where what is dropped is counted; leave it out")
        if not isinstance(groups, StreamedGroups | LazyGroups):
            check_groups(self.limits, flat(groups), name, more)
        return groups

    def _prepare_eval(self, dataset: Any, args: PackConfig, name: str = "eval_dataset") -> Any:
        if dataset is None or isinstance(dataset, str):
            return dataset
        if isinstance(dataset, dict):
            return {key: self._prepare_eval(part, args, f"{name} {key}") for key, part in dataset.items()}
        if are_groups(dataset):  # an evaluation while training passes here each time, and was checked at the start
            return self._checked(dataset, name, args) if name.startswith("eval_dataset") else dataset
        encoder = self._encoders[name] = args.encoder(self.encoder.tokenizer)
        return self._checked(self.prepare(dataset, name, encoder), name, args)

    def get_train_dataloader(self) -> Any:
        """As transformers'; of several processes each has about as many tokens of a batch as the others."""
        loader, data = super().get_train_dataloader(), self.train_dataset
        if self.together.several and not isinstance(data, StreamedGroups | LazyGroups):

            def cost(place: int) -> int:
                return sum(g.num_tokens(self.scorer.shares) for g in flat([data[place]]))

            batches = loader.batch_sampler.batch_sampler
            batches.sampler = DealtByTokens(batches.sampler, cost, self._train_batch_size, self.accelerator.num_processes)
        return loader

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """As transformers'; the rows that fill the last batch of an epoch up, so that each process has as many, are left out: they were
        trained on already."""
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        each, processes = self._train_batch_size, self.accelerator.num_processes
        fills = self.together.several and not self.args.dataloader_drop_last and not isinstance(self.train_dataset, StreamedGroups)
        if fills and batches and "items" in batches[-1] and self.accelerator.gradient_state.end_of_dataloader:
            last, left = batches[-1], len(self.train_dataset) % (each * processes)
            if left:
                items = min(each, max(0, left - self.accelerator.process_index * each))
                own = last["groups"][: int(last["items"][:items].sum())]
                number = round(self.together.mean(torch.tensor(float(len(own)))) * processes)
                last |= {"groups": own, "spare": last["groups"], "number": number}
        return batches, count

    @property
    def data_report(self) -> dict[str, Any]:
        """Of each dataset: how many rows were encoded, and which were dropped (from 1) or truncated, by reason."""
        return {name: encoder.report.summary() for name, encoder in self._encoders.items()}

    # ---- gradients

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """As transformers'; its step survives running out of memory."""
        before = self.optimizer
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.args.loraplus_lr_ratio is not None and (before is None or not self._faster_b):  # training again makes none anew
            if before is not None:
                raise ConfigError("loraplus_lr_ratio would be ignored: an optimizer was given; leave one of the two out", code="PF-C04")
            faster_b(optimizer, self.model, self.args.loraplus_lr_ratio)
            self._faster_b = True
        if not self.together.zero_stage:  # whose engine moves parts of its own
            survive_out_of_memory(optimizer)
        return optimizer

    def batch_backward(self, groups: list[PromptGroup], scale: float) -> torch.Tensor:
        """Accumulate ``scale`` x the batch's mean loss's gradient; return the unscaled loss, detached.

        Means over processes are the batch's own: a mean over groups divides by ``mean_number``.
        """
        raise NotImplementedError

    def batch_loss(self, groups: list[PromptGroup], predict: bool = False) -> Evaluated:
        """The batch's mean loss without gradient, metrics noted under ``eval``.

        Args:
            predict: whether predictions are wanted, for ``compute_metrics`` and ``predict``.
        """
        raise NotImplementedError

    def packs(self, groups: Sequence[PromptGroup]) -> list[Pack]:
        """Split a batch under the present budget; where processes wait for each other, into as many packs as in every other."""
        parts = self.budget.split(groups, self.scorer.shares)
        if self.together.in_step and not self._made_up:
            wanted = self.together.most(len(parts))
            parts = divided(parts, wanted)
            self._missing = wanted - len(parts)
        return [self.scorer.pack(part) for part in parts]

    def agree_on_nothing(self) -> None:
        """Agree with the others on the passes of an evaluation batch of which this process has no row."""
        self.packs([])

    def _make_up(self, passes: Callable[[list[PromptGroup]], Any], mode: str) -> None:
        """The passes that other processes make beyond those of this one, which has too few groups: of one group, and for nothing."""
        missing, self._missing = self._missing, 0
        if not missing:
            return
        before, self._made_up = self.notes.so_far(mode), True
        try:
            for _ in range(missing):
                passes([self._shortest])
        finally:
            self._made_up = False
            self.notes.take_back(mode, before)

    def backward(self, loss: torch.Tensor) -> None:
        """Backward through accelerate (loss scaling, distributed), or DeepSpeed's engine, which the update ends."""
        if self.together.zero_stage:
            self.deepspeed.backward(loss, scale_wrt_gas=False)
        else:
            self.accelerator.backward(loss)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """One batch: gradients of its mean loss, whatever number of packs it takes."""
        model.train()
        # DDP's own forward would have processes meet in it, which may make another number of passes; gradients are averaged below.
        self.scorer.model = model.module if isinstance(model, DistributedDataParallel) else model
        if not self._since_update:
            self._notes_before = self.notes.so_far("train")
        of_all = inputs.get("of_all")
        number = inputs.get("number") if of_all is None else len(of_all)
        self._since_update.append(Batch(inputs["groups"], inputs.get("spare", inputs["groups"]), number, of_all))
        self._pending_tokens += sum(map(self.tokens_seen, inputs["groups"]))
        with self._offload():
            loss = self._batches_since_update(model)
        if self.first_loss is None and self.state.global_step == 0:
            self.first_loss = float(loss) * self.current_gradient_accumulation_steps
        every = self.args.torch_empty_cache_steps
        if every and self.state.global_step % every == 0 and torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self.accelerator.sync_gradients:
            self._since_update.clear()
            if self.together.zero_stage:
                self.deepspeed.step()
            self._average_gradients(model)
        return loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """As transformers'; an update without a finite gradient is skipped and counted: it would turn every weight into NaN.

        Raises:
            ModelError: that many were skipped in a row.
        """
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        if self.accelerator.scaler is not None:  # of float16: it skips, and finds its scale by that
            return norm
        if math.isfinite(float(norm)):
            self.skipped_in_a_row = 0
            return norm
        if self.together.zero_stage:
            raise ModelError(
                f"the gradient of step {self.state.global_step + 1} is not finite, and DeepSpeed has moved the weights by it already; "
                "checkpoints are kept. Go on from the last one with a lower learning rate",
                code="PF-M18",
            )
        self.drop_gradients(model)
        self.skipped_in_a_row += 1
        self.note("train", "skipped_updates", 1.0)
        self.on_event("skipped_update", step=self.state.global_step + 1)
        if self.skipped_in_a_row >= MOST_SKIPPED:
            raise ModelError(
                f"{MOST_SKIPPED} updates in a row, up to step {self.state.global_step + 1}, had no finite gradient: the weights have left "
                "the region where the model works, or every batch holds a row that breaks the loss; checkpoints are kept. Lower the "
                "learning rate, or go on from the last checkpoint with a lower one",
                code="PF-M18",
            )
        return norm

    def weights_are_finite(self) -> bool:
        """Whether every trained weight is a number."""
        parts = [own_part(p) for p in self.scorer.unwrapped.parameters() if p.requires_grad]
        return self.together.all(all(bool(torch.isfinite(part).all()) for part in parts))

    def drop_gradients(self, model: nn.Module) -> None:
        """Forget gradients of everything that is trained."""
        for parameter in model.parameters():
            parameter.grad = None

    def let_go(self) -> None:
        """Forget gradients and optimizer: training is over, and their memory is wanted."""
        self.drop_gradients(self.model)
        for name in ("optimizer", "lr_scheduler", "deepspeed"):
            setattr(self, name, None)
        self.model_wrapped = self.model
        self.accelerator.free_memory()

    def _offload(self) -> Any:
        if self.args.activation_offloading and self.args.device.type == "cuda":
            return OffloadActivations(self.scorer.unwrapped)
        return nullcontext()

    def _average_gradients(self, model: nn.Module) -> None:
        """Average over processes once, after all packs: their number may differ between processes."""
        if isinstance(model, DistributedDataParallel):
            self.together.average_gradients(p for p in model.parameters() if p.requires_grad)

    def _batch(self, batch: Batch, micro: int) -> torch.Tensor:
        scale, groups = 1.0 / self.current_gradient_accumulation_steps, batch.groups
        if batch.number == 0:  # sampled, and nothing to learn from
            return torch.zeros((), device=self.args.device)
        self.mean_number = len(groups) if batch.number is None else batch.number / self.accelerator.num_processes
        self.of_all, self._tried = batch.of_all or groups, groups
        Scorer.attended = ()
        if batch.spare:
            self._shortest = min(batch.spare, key=PromptGroup.num_tokens)
        loss = self.batch_backward(groups, scale)
        self._make_up(lambda few: self.batch_backward(few, 0.0), "train")
        if self.retention is not None:
            process, processes = self.accelerator.process_index, self.accelerator.num_processes
            number = round((self.args.retain_batch_size or self.mean_number) * processes)
            drawn, tokens = self.retention.draw(number, self.state.global_step, micro, process, processes)
            retained = self.retain_backward(drawn, scale * self.args.retain_weight, tokens)
            self._make_up(lambda few: self.retain_backward(few, 0.0, tokens), "train")
            self.note("train", "retention/loss", retained.item(), number / processes)
            loss = loss + self.args.retain_weight * retained
        return loss * scale

    def _batches_since_update(self, model: nn.Module) -> torch.Tensor:
        """The newest batch's gradients; out of memory, those of every batch since the last update, from zero gradients.

        A backward that ran out of memory may have left part of its gradients behind.
        """
        first = len(self._since_update) - 1

        def work() -> torch.Tensor:
            return [self._batch(batch, micro) for micro, batch in enumerate(self._since_update) if micro >= first][-1]

        def undo() -> None:
            nonlocal first
            first = 0
            self.drop_gradients(model)
            self.notes.take_back("train", self._notes_before)

        loss = smaller_on_oom(work, self._shrink, undo)
        self.budget.keep()
        return loss

    @property
    def waits_within_batches(self) -> bool:
        """Whether processes meet before a batch is done, so that none can do it again by itself."""
        return self.together.in_step

    def _shrink(self) -> None:
        """Halve the budget, since the pack that was run last did not fit."""
        before = self.budget.tokens
        if self.waits_within_batches:
            raise ModelError(
                f"out of memory in process {self.accelerator.process_index} with packs of {before} tokens, and this cannot take a step "
                f"back, as the others wait within it; go on from the last checkpoint with --token-budget {before // 2}",
                code="PF-M07",
            )
        # Of the batch, where not one pack was run: moving one to the device did not fit.
        self.budget.shrink(Scorer.attended or self._tried, self.scorer.shares)
        self.on_event("out_of_memory", step=self.state.global_step, token_budget_before=before, token_budget=self.budget.tokens)

    def retain_backward(self, groups: list[PromptGroup], scale: float, total_tokens: float) -> torch.Tensor:
        """Gradients of the retention loss, summed over the groups' tokens and divided by so many."""
        assert self.retention is not None
        total = torch.zeros((), device=self.args.device)
        for pack in self.packs(groups):
            ref_hidden = self.reference.hidden(pack) if self.retention.uses_reference and self.reference else None
            with self.scorer.attending(pack):
                with self.compute_loss_context_manager():
                    losses_N = self.retention.token_losses(self.scorer, self.reference, pack, ref_hidden)
                    loss = losses_N.sum() / total_tokens
                self.backward(loss * scale)
            total += loss.detach()
        return total

    # ---- evaluation and logs

    def train(self, resume_from_checkpoint: str | Path | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As transformers'; a checkpoint that is resumed from is verified, and where it has all steps no further one is taken.

        Args:
            resume_from_checkpoint: True takes the newest whole one in ``output_dir``, and warns of each that is damaged.

        Raises:
            CheckpointError: the checkpoint is damaged, or all are.
            ConfigError: a hook that was put in after the trainer was made.
            ModelError: nothing is trained; or it was trained by DeepSpeed before.
        """
        if not any(p.requires_grad for p in self.model.parameters()):
            raise ModelError(
                "no weight requires a gradient, so nothing would be trained; unfreeze the model, or give an adapter", code="PF-M19"
            )
        if self.deepspeed is not None:
            raise ModelError("DeepSpeed's engine has the model, and does not begin anew on it; make another trainer for another training")
        refuse_hooks(self, None if self.data_collator is collate else self.data_collator)
        found = resume_from_checkpoint or None
        if found is True:
            found = newest(Path(self.args.output_dir), _warn_of) or True
        elif found is not None and str(found) != self.verified:
            check(Path(found))
        found = found if found is None or found is True else str(found)
        state = Path(str(found)) / TRAINER_STATE_NAME
        self._resumed_step = None
        if state.exists():
            with loading(str(found), TRAINER_STATE_NAME):
                self._resumed_step = int(TrainerState.load_from_json(str(state)).global_step)
        return super().train(found, *args, **kwargs)

    def evaluate(self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """As transformers', on raw data too: what is not prepared is encoded as the trainer's own data was."""
        was, self._evaluating = self._evaluating, True
        try:
            if eval_dataset is not None and not isinstance(eval_dataset, str):
                eval_dataset = self._prepare_eval(eval_dataset, self.args, "evaluated dataset")
            metrics: dict[str, float] = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
            return metrics
        finally:
            self._evaluating = was

    def predict(self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test") -> Any:
        """As transformers', on raw data too; :meth:`batch_loss` says what predictions and labels are."""
        return super().predict(self._prepare_eval(test_dataset, self.args, "predicted dataset"), ignore_keys, metric_key_prefix)

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> Any:
        """transformers', with our metrics under the dataset's own name."""
        self._place_reference()
        self.notes.clear("eval")
        with nullcontext() if self.accelerator._models else self._as_it_is():
            out = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        for name, (mean, _) in self._means("eval").items():
            out.metrics[f"{metric_key_prefix}_{name}"] = mean
        out.metrics[f"{metric_key_prefix}_num_tokens"] = float(self._count_tokens())
        return out

    @contextmanager
    def _as_it_is(self) -> Iterator[None]:
        """Evaluate a model that was not made ready to train: whole, in each process.

        What accelerate makes ready to be evaluated it would take for ready to be trained: without DDP, or half sharded.
        """
        if self.args.is_sharded and getattr(self.model, "hf_quantizer", None) is None:
            self.model.to(self.args.device)
        by_engine, self.is_deepspeed_enabled = self.is_deepspeed_enabled, False
        self.accelerator._models.append(self.model)
        try:
            yield
        finally:
            self.is_deepspeed_enabled = by_engine
            self.accelerator._models.remove(self.model)

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Loss and metrics of an evaluation batch, and predictions with labels where they are wanted."""
        groups, before = inputs["groups"], self.notes.so_far("eval")
        count = self._not_repeated(len(inputs["items"]))
        fresh = groups[: int(inputs["items"][:count].sum())]
        self._shortest, self._tried = min(groups, key=PromptGroup.num_tokens), groups
        Scorer.attended = ()

        def work() -> Evaluated:
            if not fresh and self.together.in_step:
                self.agree_on_nothing()
            out = self.batch_loss(fresh, not prediction_loss_only) if fresh else Evaluated(torch.zeros((), device=self.args.device))
            self._make_up(self.batch_loss, "eval")
            return out

        with torch.no_grad(), self.compute_loss_context_manager():
            out = smaller_on_oom(work, self._shrink, lambda: self.notes.take_back("eval", before))
            if not prediction_loss_only and self._repeats:  # rows that are repeated are cut off behind what all processes give
                so_far = self.notes.so_far("eval")
                whole = self.batch_loss(groups, True)
                self.notes.take_back("eval", so_far)
                out = Evaluated(out.loss, whole.predictions, whole.labels)
        if fresh:
            self.note("eval", "loss", float(out.loss), count)
        self.budget.keep()
        return out.loss, out.predictions, out.labels

    def _not_repeated(self, number: int) -> int:
        """How many of a batch's items were not dealt out before."""
        left = self.accelerator.gradient_state.remainder - self.accelerator.process_index * number
        return min(number, max(0, left)) if self._repeats else number

    @property
    def _repeats(self) -> bool:
        """Whether this evaluation batch is the last of several processes', filled up with rows that were dealt out already."""
        state = self.accelerator.gradient_state
        return bool(self.together.several and state.end_of_dataloader and state.remainder > 0)

    def note(self, mode: str, name: str, mean: float, count: float = 1.0) -> None:
        """Add a mean over so many to a metric's sum and count; logged as their ratio."""
        self.notes.add(mode, name, mean * count, count)

    def note_tokens(self, mode: str, values: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Note means over tokens: by name, the values of all and which of them count, shapes (N,)."""
        totals = torch.stack([(values_N * which_N).sum() for values_N, which_N in values.values()])
        self.notes.add_later(mode, tuple(values), totals, torch.stack([which_N.sum() for _, which_N in values.values()]))

    @property
    def will_log(self) -> bool:
        """Whether the step in progress is one that is logged, or the last: what is dear to measure is measured on these alone."""
        if self.state.global_step + 1 >= self.state.max_steps > 0:
            return True
        if self.args.logging_strategy != "steps" or (self.args.logging_first_step and self.state.global_step == 0):
            return True
        return (self.state.global_step + 1) % max(1, self.state.logging_steps) == 0

    def tokens_seen(self, group: PromptGroup) -> int:
        """A group's tokens, every completion with its prompt."""
        return len(group.prompt_ids) * len(group.completion_ids) + group.num_completion_tokens

    def _count_tokens(self) -> int:
        """Tokens seen in all (as a padded batch would hold them, without its padding); kept in checkpoints."""
        ((pending,),) = self.together.summed({"tokens": [float(self._pending_tokens)]}).values()
        self._pending_tokens = 0
        self.state.num_input_tokens_seen += int(pending)
        return int(self.state.num_input_tokens_seen)

    def note_pack(self, pack: Pack) -> None:
        """Count tokens computed, and tokens that sharing saved."""
        self.note("train", "tokens", 1.0, pack.num_tokens)
        self.note("train", "tokens_unshared", 1.0, pack.num_tokens_unshared)

    def _means(self, mode: str) -> dict[str, tuple[float, float]]:
        """Metrics' means and counts over all processes; they begin anew."""
        return {
            name: (total / count if count else 0.0, count) for name, (total, count) in self.together.summed(self.notes.take(mode)).items()
        }

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the metrics gathered since the last log."""
        if self.nothing_left and "train_runtime" in logs:  # of a run that was done already
            return
        means = {} if self._evaluating else self._means("train")
        if "skipped_updates" in means:
            means["skipped_updates"] = (means["skipped_updates"][1] / self.accelerator.num_processes, 1.0)  # each counted it
        if not math.isfinite(float(logs.get("grad_norm") or 0.0)):
            logs.pop("grad_norm")
        tokens, unshared = means.pop("tokens", (0.0, 0.0))[1], means.pop("tokens_unshared", (0.0, 0.0))[1]
        logs |= {name: mean for name, (mean, _) in means.items()}
        if tokens:
            now = time.perf_counter()
            logs["tokens_per_second"] = round(tokens / max(now - self._clock, 1e-9), 1)
            logs["tokens_saved_by_sharing"] = round(1 - tokens / unshared, 4)
            logs["peak_memory_bytes"] = float(peak_memory_bytes())
            logs["num_tokens"] = float(self._count_tokens())
            self._clock = now
        super().log(logs, start_time)

    # ---- the Hub

    def create_model_card(
        self, model_name: str | None = None, dataset_name: str | None = None, tags: str | list[str] | None = None, **more: Any
    ) -> None:
        """Write ``README.md`` into the output folder; ``push_to_hub(dataset_name=...)`` calls it.

        Args:
            more: of transformers' arguments ``license`` and ``finetuned_from`` are read.
        """
        if not self.is_world_process_zero():
            return
        unread = sorted(set(more) - {"license", "finetuned_from"})
        if unread:
            raise ConfigError(f"create_model_card: {', '.join(unread)} would be ignored; leave it out", code="PF-C04")
        given = [tags] if isinstance(tags, str) else list(tags or [])
        base = more.get("finetuned_from") or str(getattr(self.scorer.unwrapped.config, "_name_or_path", "") or "a model")
        names = ("learning_rate", "beta", "loss_type", "max_length", "num_train_epochs", "max_steps", "per_device_train_batch_size", "seed")
        settings = {name: getattr(self.args, name) for name in names if hasattr(self.args, name)}
        method, folder = self.tags[-1].replace("-trainer", "").upper(), Path(self.args.output_dir)
        every = [*given, *self.tags]
        write_card(folder, base, method, settings, self.data_report, every, model_name, dataset_name, more.get("license"))

    # ---- checkpoints

    @property
    def may_stop(self) -> bool:
        """Whether a checkpoint of this step would hold all there is to know."""
        return True

    def set_initial_training_values(self, *args: Any, **kwargs: Any) -> Any:
        """As transformers'; no epoch is left where the checkpoint that is resumed from has all steps, or its loop would take one more."""
        num_epochs, *more, max_steps = super().set_initial_training_values(*args, **kwargs)
        last = max_steps if self.ended_at is None else min(self.ended_at, max_steps)
        self.nothing_left = self._resumed_step is not None and self._resumed_step >= last
        return (0 if self.nothing_left else num_epochs, *more, max_steps)

    def _get_output_dir(self, trial: Any) -> str:
        folder = str(super()._get_output_dir(trial))
        return str(Path(folder) / SAVING) if self._saving else folder

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """As transformers', but whole or not at all: it is written aside, and older ones are removed once it stands in its place.

        Raises:
            StorageError: the disk took no more; what stood before still stands.
        """
        if not self.weights_are_finite():
            self.on_event("not_saved", step=self.state.global_step, why="weights are not finite numbers")
            return
        self._count_tokens()
        root, step, saves = Path(self._get_output_dir(trial)), self.state.global_step, self.args.should_save
        staged, place = root / SAVING / f"checkpoint-{step}", root / f"checkpoint-{step}"
        try:
            with storing(f"the checkpoint of step {step} in {root}"):
                if saves:
                    begin(root)
                self.accelerator.wait_for_everyone()
                self._saving = True
                super()._save_checkpoint(model, trial)
                self._saving = False
                self.accelerator.wait_for_everyone()
                self._save_more(staged)
                if saves:
                    best = self.state.best_model_checkpoint
                    if best is not None:  # by the name that it will have
                        self.state.best_model_checkpoint = best = str(root / Path(best).name)
                        self.state.save_to_json(str(staged / TRAINER_STATE_NAME))
                    seal(staged)
                    publish(staged, place)
                    rotate(root, place, self.args.save_total_limit, Path(best) if best else None)
        finally:
            self._saving = False
            if saves:
                shutil.rmtree(root / SAVING, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(place))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if not self._saving:  # transformers asks for it before the checkpoint has its place
            super()._push_from_checkpoint(checkpoint_folder)

    def _save_more(self, folder: Path) -> None:
        """Write what a checkpoint holds beside transformers' files. Every process calls it; the first writes."""
        if getattr(self.args, "sync_ref_model", False) and self.reference is not None:
            moved = {name: gathered(weight) for name, weight in self.reference.scorer.unwrapped.state_dict().items()}
            if self.args.should_save:
                torch.save(moved, folder / MOVED_REFERENCE)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with loading(resume_from_checkpoint, "the weights"):
            if self.together.by_fsdp:
                hand_out_weights(self.model, Path(resume_from_checkpoint))
            elif self.taken is not None:
                self.taken.load(self.accelerator.unwrap_model(self.model), Path(resume_from_checkpoint))
            else:
                super()._load_from_checkpoint(resume_from_checkpoint, model)
        moved = Path(resume_from_checkpoint) / MOVED_REFERENCE
        if self.reference is not None and moved.exists():
            with loading(resume_from_checkpoint, MOVED_REFERENCE):
                kept, weights = torch.load(moved, map_location="cpu", weights_only=True), self.reference.scorer.unwrapped.state_dict()
                if kept.keys() != weights.keys():
                    raise ValueError("weights of another model")
                for name, weight in weights.items():
                    hand_out(weight, kept[name])

    def trained(self) -> nn.Module:
        """What the optimizer's parameters are of."""
        model: nn.Module = self.model
        return model

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with loading(checkpoint, "optimizer or schedule"):
            if checkpoint is None or not self.together.by_fsdp:
                super()._load_optimizer_and_scheduler(checkpoint)
                return
            hand_out_optimizer(self.trained(), self.optimizer.optimizer, Path(checkpoint) / OPTIMIZER_NAME)
            self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.together.by_fsdp:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        state = gathered_optimizer(self.trained(), self.optimizer.optimizer)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)
            if self.accelerator.scaler is not None:
                torch.save(self.accelerator.scaler.state_dict(), Path(output_dir) / SCALER_NAME)

    def _load_scaler(self, checkpoint: str | None) -> None:
        with loading(checkpoint, "the loss scale"):
            super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with loading(checkpoint, "random states"):
            super()._load_rng_state(checkpoint)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        model = self.accelerator.unwrap_model(self.model)
        if state_dict is not None:  # gathered: tied weights came as several tensors, and would be saved as such
            first: dict[int, str] = {}
            for name, parameter in model.named_parameters(remove_duplicate=False):
                if name in state_dict:
                    state_dict[name] = state_dict[first.setdefault(id(parameter), name)]
        if len(getattr(model, "peft_config", ())) > 1:  # the reference's, a reward's or the values' stand beside the policy's
            folder = output_dir or self.args.output_dir
            saves = self.args.should_save
            model.save_pretrained(folder, selected_adapters=[model.active_adapter], state_dict=state_dict, is_main_process=saves)
            if saves:
                self.processing_class.save_pretrained(folder)
                torch.save(self.args, Path(folder) / "training_args.bin")
        else:
            super()._save(output_dir, state_dict)
        if self.args.should_save and hasattr(model, "peft_config"):
            _move_up(Path(output_dir or self.args.output_dir), model.active_adapter)
        if self.taken is not None and self.args.should_save:
            self.taken.save_plain(Path(output_dir or self.args.output_dir))


def _move_up(folder: Path, name: str) -> None:
    """An adapter of a name of its own, which PEFT saves into a folder of that name, where every loader looks for it."""
    if name != "default" and (folder / name / "adapter_config.json").exists():
        for file in (folder / name).iterdir():
            file.replace(folder / file.name)
        (folder / name).rmdir()


def faster_b(optimizer: Any, model: nn.Module, ratio: float) -> None:
    """Give LoRA's B a learning rate ``ratio`` times that of the rest (LoRA+, arXiv 2402.12354), in groups of their own.

    Raises:
        ConfigError: there is no such weight.
    """
    of_b = {id(p) for name, p in model.named_parameters() if p.requires_grad and (".lora_B." in name or ".lora_embedding_B." in name)}
    if not of_b:
        raise ConfigError("loraplus_lr_ratio would be ignored: no LoRA adapter is trained; give --lora-r 16, say", code="PF-C04")
    for group in list(optimizer.param_groups):
        faster = [p for p in group["params"] if id(p) in of_b]
        group["params"] = [p for p in group["params"] if id(p) not in of_b]
        if faster:
            optimizer.add_param_group({**group, "params": faster, "lr": group["lr"] * ratio})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]


class _SayLosses(TrainerCallback):
    """Says what a stream's rows lost when training ends before the stream does."""

    def __init__(self, stream: StreamedGroups) -> None:
        self.stream = stream

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Now all is known that will be."""
        self.stream.say_losses()


@contextmanager
def loading(checkpoint: str | None, what: str) -> Iterator[None]:
    """A block that reads part of a checkpoint: what it is not able to read is an error of the checkpoint.

    Raises:
        CheckpointError: in place of what reading such content raises.
    """
    try:
        yield
    except PrefineError:
        raise
    except Exception as error:  # of torch, transformers, PEFT and safetensors, for whatever the files hold
        if checkpoint is None or is_out_of_memory(error):
            raise
        told = f"{type(error).__name__}: {first_line(error)}"
        raise CheckpointError(f"{checkpoint}: {what} could not be loaded from the checkpoint ({told}); resume from another") from error


def _warn_of(checkpoint: str, wrong: list[str]) -> None:
    warnings.warn(f"{checkpoint} is passed over: {', '.join(wrong)}", stacklevel=4)


def route(scorer: Scorer, coefficient: float | None) -> float:
    """The weight of a mixture of experts' load-balancing loss; 0 where there is none. Unset: the model's own.

    Raises:
        ConfigError: a weight for a model that has no such loss.
    """
    config = scorer.unwrapped.config.get_text_config()
    has_routers = hasattr(config, "output_router_logits")
    if coefficient and not has_routers:
        raise ConfigError(
            f"router_aux_loss_coef is {coefficient}, but {type(scorer.unwrapped).__name__} is no mixture of experts "
            "that returns its router logits; leave it out"
        )
    weight = float(getattr(config, "router_aux_loss_coef", 0.0) if coefficient is None else coefficient) if has_routers else 0.0
    scorer.wants_aux_loss = weight != 0.0
    return weight


def disable_dropout(model: nn.Module) -> None:
    """Switch all of a model's dropout off, an adapter's too, as TRL does."""
    for path, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            if module.p and ".lora_dropout." in path:
                warnings.warn("lora_dropout is switched off by disable_dropout, as in TRL", stacklevel=3)
            module.p = 0.0
        for name in ("attention_dropout", "attn_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _is_placed_whole(model: Any, args: PackConfig) -> bool:
    """Whether transformers will move the model to this process's device as it is: not sharded, spread, or quantised where it lies."""
    if getattr(model, "hf_device_map", None) or getattr(model, "hf_quantizer", None) or args.place_model_on_device is False:
        return False
    return not args.is_sharded


def _loaded(model: str | nn.Module, args: PackConfig, quantization_config: Any = None) -> nn.Module:
    if isinstance(model, nn.Module):
        return model
    quantized = {} if quantization_config is None else {"quantization_config": quantization_config}
    loaded: nn.Module = load_model(model, trust_remote_code=args.trusts_code, **args.init_kwargs() | quantized)
    return loaded
