"""A model without weights: its parts on the meta device, counted and run there as they would be on a real one."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from prefine.errors import ModelError
from prefine.packing import varlen
from prefine.packing.attention import attend
from prefine.packing.group import PromptGroup, as_ids
from prefine.planning.live_bytes import AsDevice, LiveBytes, varlen_kernel
from prefine.scoring.adapter_start import takes_from_base
from prefine.scoring.held_in_half import linears_alone_in_half
from prefine.scoring.loading import add_adapter, whole
from prefine.scoring.reward_scorer import RewardScorer
from prefine.scoring.scorer import Scorer
from prefine.scoring.token_logps import call_head

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a weight in 4-bit with double quantisation: four bits, and a scale of a byte for 64, of four for 256 of those (arXiv 2305.14314)."""
SINGLE_4BIT_BYTES = 0.5 + 4 / 64
"""Without double quantisation: a scale of four bytes for 64."""

Shape = tuple[int, tuple[int, ...]]
"""A group's lengths: of its prompt and of each completion, tokens."""


def skeleton(
    config: Any,
    dtype: torch.dtype,
    adapter: Any = None,
    classifier: bool = False,
    quantised: float | None = None,
    checkpointing: bool = False,
) -> Any:
    """A model as its command would load it, on the meta device.

    Args:
        config: transformers'; dtype: of its weights; adapter: a peft configuration to train.
        classifier: with a head of one label, not a language model's.
        quantised: bytes of a weight of linear layers, which stand for quantised ones; None where they are not.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    trusted = type(config).__module__.startswith("transformers_modules.")  # it was loaded so: the model's code may run
    with torch.device("meta"), whole(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if classifier:
            config.num_labels = 1
            model = AutoModelForSequenceClassification.from_config(config, dtype=dtype, trust_remote_code=trusted)
        else:
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=trusted)
        if dtype is torch.float16:
            linears_alone_in_half(model)
        if quantised is not None:
            packed = {id(p) for p in _quantised(model)}
            for parameter in model.parameters():
                if id(parameter) not in packed:
                    parameter.data = parameter.data.float()  # as peft's prepare_model_for_kbit_training does
        if adapter is not None:
            adapter = copy.deepcopy(adapter)  # peft writes the names of the model's layers into it
            if takes_from_base(adapter):  # of weights that are not there; its shapes are the same
                adapter.init_lora_weights = True
            if classifier:
                adapter.task_type = "SEQ_CLS"  # the head is trained beside the adapter
            model = add_adapter(model, adapter, checkpointing)
    return model.train()


def _quantised(model: Any) -> list[torch.Tensor]:
    """Weights that are loaded in four bits: those of linear layers but for the head."""
    heads: set[int] = {id(h) for h in (model.get_output_embeddings(), getattr(model, "score", None)) if h is not None}
    return [m.weight for n, m in model.named_modules() if isinstance(m, nn.Linear) and "lora_" not in n and id(m) not in heads]


def weight_bytes(model: Any, quantised: float | None = None) -> tuple[int, int]:
    """Bytes of the weights and buffers that are not trained by an adapter, and of the adapter's; a tensor that is tied counts once."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    packed = {id(p) for p in _quantised(base)} if quantised is not None else set()
    own = adapter = 0.0
    for tensor in {id(t): t for t in (*model.parameters(), *model.buffers())}.values():
        if base is not model and tensor.requires_grad:
            adapter += tensor.nbytes
        else:
            own += tensor.numel() * (quantised or 0.0) if id(tensor) in packed else tensor.nbytes
    return int(own), int(adapter)


def trained_shapes(model: Any) -> list[tuple[tuple[int, ...], bool]]:
    """Shape of every trained tensor, and whether it is an embedding."""
    embeddings = {id(p) for m in model.modules() if isinstance(m, nn.Embedding) for p in m.parameters()}
    return [(tuple(p.shape), id(p) in embeddings) for p in model.parameters() if p.requires_grad]


def groups_of(shapes: Sequence[Shape]) -> list[PromptGroup]:
    """Groups of these lengths; what their tokens are changes nothing."""
    return [PromptGroup(as_ids([0] * p), tuple(as_ids([0] * c) for c in completions)) for p, completions in shapes]


@dataclass(frozen=True)
class Step:
    """What one pack holds beside weights and optimizer states.

    Attributes:
        kept: bytes that are held when the trunk's forward ends, most of them for backward; peak: the most at a time, with the gradients
            that are there by then; gradients: all of them.
    """

    kept: int
    peak: int
    gradients: int


def run_step(
    model: Any,
    shapes: Sequence[Shape],
    device: str,
    autocast: torch.dtype | None = None,
    checkpointing: bool = False,
    offloading: bool = False,
    gradients_stay: bool = False,
    token_metrics: bool = False,
) -> Step:
    """Forward and backward of one pack of these lengths, nothing computed.

    Args:
        device: whose attention path is taken: ``cuda`` has one kernel for a pack.
        gradients_stay: there are gradients already, of the batch's other packs.
        token_metrics: entropy and the like are measured, as in steps that are logged.

    Raises:
        ModelError: prompts cannot be shared, since the model's attention is its own.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    gradients = sum(p.nbytes for p in trained)
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter) if gradients_stay else None
    scorer, work = _scorer(model, device, token_metrics)
    stand_in = AsDevice(autocast)
    if checkpointing:
        kwargs = {"use_reentrant": False, "context_fn": stand_in.again}
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=kwargs)
        if hasattr(model, "enable_input_require_grads") and hasattr(model, "peft_config"):
            model.enable_input_require_grads()
    pack = scorer.pack(groups_of(shapes))
    known = [*model.parameters(), *model.buffers(), *(p.grad for p in trained if p.grad is not None)]
    bytes_ = LiveBytes(known)
    with ExitStack() as stack:
        stack.enter_context(varlen.standing_in(varlen_kernel if device == "cuda" else None))
        seen = stack.enter_context(attend(scorer.unwrapped, pack.spans))
        if offloading:
            stack.enter_context(_offloaded(known))
        stack.enter_context(stand_in)
        stack.enter_context(bytes_)
        stand_in.casts = {} if autocast is not None else None
        kept, casts = 0, None

        def measured(hidden: torch.Tensor) -> tuple[Any, ...]:
            nonlocal kept, casts
            kept = bytes_.live
            casts, stand_in.casts = stand_in.casts, None  # there until the forward ends; the head's own is no part of them
            return (work(hidden, pack),)

        out = scorer.read(pack, measured)[0]
        del casts
        if not seen.calls:
            raise ModelError(f"{type(scorer.unwrapped).__name__}: its attention does not go through transformers.AttentionInterface")
        loss = out.sum()
        del out
        torch.autograd.backward(loss)
        peak = bytes_.peak
    for parameter in trained:
        parameter.grad = None
    return Step(kept, peak, gradients)


def _scorer(model: Any, device: str, token_metrics: bool) -> tuple[Any, Any]:
    """What runs the model on packs, and what the loss is made of."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    if hasattr(base, "score"):
        scorer: Any = RewardScorer(model)
        return scorer, lambda hidden, pack: call_head(scorer.head, hidden[pack.lengths_M.cumsum(0) - 1])
    scorer = Scorer(model)
    scorer.chunks_of = device
    return scorer, lambda hidden, pack: scorer.head_logps_and_stats(hidden, pack, token_metrics)[0]


def _offloaded(known: Sequence[torch.Tensor]) -> Any:
    """Saved tensors leave the device until backward, but for weights."""
    weights = {t.untyped_storage()._cdata for t in known}

    def pack(tensor: torch.Tensor) -> Any:
        return tensor if tensor.untyped_storage()._cdata in weights else (tensor.shape, tensor.dtype)

    def unpack(held: Any) -> torch.Tensor:
        return held if isinstance(held, torch.Tensor) else torch.empty(held[0], dtype=held[1], device="meta")

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)


@torch.no_grad()
def forward_bytes(model: Any, rows: int, tokens: int) -> int:
    """The most that a forward without gradient holds on so many rows of so many tokens, its cache and logits aside."""
    scorer, _ = _scorer(model, "cpu", False)
    pack = scorer.pack(groups_of([(max(1, tokens - 1), (2,))] * rows))
    bytes_ = LiveBytes([*model.parameters(), *model.buffers()])
    with scorer.attending(pack), AsDevice(), bytes_:
        scorer.hidden(pack)
    return bytes_.peak
