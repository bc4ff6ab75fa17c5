"""Memory of a run by part and by phase, before its weights are loaded.

Parts do not all stand at the same time: the estimate is the largest phase. What is left out: the allocator's fragmentation, and what
rewards that are functions hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from prefine.generation.generate import BATCH_TOKENS
from prefine.generation.rows import PREFILL_TOKENS
from prefine.packing.budget import ACTIVATIONS_PER_VALUE
from prefine.planning.optimizers import state_bytes, step_bytes
from prefine.planning.skeleton import Shape, Step, forward_bytes, run_step, skeleton, trained_shapes, weight_bytes
from prefine.scoring.held_in_half import hold_frozen_linears
from prefine.scoring.token_logps import CHUNK_BYTES

DRAW_BYTES = 16
"""Of a row and a token of the vocabulary while one is drawn: logits twice in float32, weights, and those to draw from."""


@dataclass(frozen=True)
class Rollout:
    """Responses that are sampled at once: how many, and tokens of the longest prompt and of a response."""

    rows: int
    prompt: int
    response: int


@dataclass(frozen=True)
class Demand:
    """What decides a run's memory.

    Attributes:
        config: the model's, of transformers; dtype: its weights'; autocast: mixed precision's dtype, or None.
        adapter: a peft configuration; classifier: a reward model is trained.
        quantised: bytes of a weight of the base's linear layers; None where they are not quantised.
        pack: lengths of the largest pack's groups; several: a step takes several packs, so that gradients stay between them.
        reference: a reference is used while training; where there is no adapter it is a copy; moving: which follows the policy.
        base_again: the base is loaded once more for the evaluation that ends the run.
        adapters: others of the adapter's size that stand beside it: of a reward, of values, a reference's.
        rewards: configs of reward models with weights of their own; value: the value model is a copy of the first.
        rollout: what is sampled at once, by training or by the evaluation that ends it; None where nothing is.
        processes: of the run, each of which holds all of this.
    """

    config: Any
    dtype: torch.dtype
    pack: tuple[Shape, ...]
    device: str = "cpu"
    autocast: torch.dtype | None = None
    adapter: Any = None
    classifier: bool = False
    quantised: float | None = None
    optim: str = "adamw_torch_fused"
    checkpointing: bool = False
    offloading: bool = False
    several: bool = False
    reference: bool = False
    moving: bool = False
    base_again: bool = False
    rewards: tuple[Any, ...] = ()
    value: bool = False
    adapters: int = 0
    rollout: Rollout | None = None
    token_metrics: bool = True
    processes: int = 1


@dataclass(frozen=True)
class Memory:
    """Bytes by part, and the most at a time by phase; neither holds the framework's.

    Attributes:
        counted: whether activations were counted on the model itself; else they are a rule of thumb.
    """

    parts: Mapping[str, int]
    phases: Mapping[str, int]
    parameters: int
    trained: int
    counted: bool = True
    settings: Demand | None = field(default=None, repr=False)

    @property
    def total(self) -> int:
        """The largest phase."""
        return max(self.phases.values())

    @property
    def fixed(self) -> int:
        """What no smaller pack makes less: weights, optimizer states, gradients."""
        return sum(v for k, v in self.parts.items() if k not in ("activations", "working memory", "KV cache"))


def estimate(demand: Demand) -> Memory:
    """Memory of a run; the model is built without weights, and runs one pack without computing."""
    with torch.random.fork_rng(devices=[]):  # a seeded run draws the same with a plan and without
        return _estimate(demand)


def _estimate(demand: Demand) -> Memory:
    model = skeleton(demand.config, demand.dtype, demand.adapter, demand.classifier, demand.quantised, demand.checkpointing)
    base, adapter = weight_bytes(model, demand.quantised)
    shapes = trained_shapes(model)
    gradients = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    parts = {"weights": base, "adapter": adapter, "gradients": gradients, "optimizer states": state_bytes(demand.optim, shapes)}
    parts["reference"] = 0
    if demand.reference and demand.adapter is None:
        copied = skeleton(demand.config, demand.dtype).requires_grad_(False)
        if demand.autocast is not None and not demand.moving:
            hold_frozen_linears(copied, demand.autocast)
        parts["reference"] = weight_bytes(copied)[0]
    trained = [shapes]
    parts["reward and value models"] = demand.adapters * adapter
    for place, config in enumerate(demand.rewards):
        judge = skeleton(config, torch.float32, classifier=True)
        copies = 2 if place == 0 and demand.value else 1
        parts["reward and value models"] += copies * weight_bytes(judge)[0]
        if copies == 2:
            own = trained_shapes(judge)
            trained.append(own)
            parts["gradients"] += sum(p.nbytes for p in judge.parameters())
            parts["optimizer states"] += state_bytes(demand.optim, own)
    counted, step = True, None
    try:
        step = run_step(
            model,
            demand.pack,
            demand.device,
            demand.autocast,
            demand.checkpointing,
            demand.offloading,
            demand.several,
            demand.token_metrics,
        )
    except Exception:  # an architecture whose code asks for numbers: training finds out what it can do, and a plan must not stop it
        counted, step = False, _rule_of_thumb(demand, gradients)
    there = parts["gradients"] if demand.several else parts["gradients"] - gradients
    in_peak = 0 if demand.several else gradients
    parts["activations"] = step.kept
    parts["working memory"] = max(0, step.peak - step.kept - (in_peak if step.peak > step.kept + in_peak else 0))
    held = base + adapter + parts["reference"] + parts["reward and value models"] + parts["optimizer states"]
    phases = {
        "forward and backward": held + there + step.peak,
        "optimizer step": held + parts["gradients"] + max(step_bytes(demand.optim, s, demand.device) for s in trained),
    }
    if demand.processes > 1:
        # DistributedDataParallel's buckets are a copy of the gradients, and they are averaged in one flat one.
        parts["gradients"] += parts["gradients"]
        phases["optimizer step"] = max(phases["optimizer step"], held + int(1.5 * parts["gradients"]))
    if demand.rollout is not None:
        cache, more = _sampling(model, demand)
        parts["KV cache"] = cache
        phases["sampling"] = held + cache + more + (base if demand.base_again else 0)
    total = sum(p.numel() for p in model.parameters())
    return Memory(
        {k: v for k, v in parts.items() if v}, phases, total, sum(p.numel() for p in model.parameters() if p.requires_grad), counted, demand
    )


def _rule_of_thumb(demand: Demand, gradients: int) -> Step:
    text = demand.config.get_text_config()
    tokens = sum(p + sum(c) for p, c in demand.pack)
    size = 2 if demand.autocast is not None else 4
    layer = tokens * int(getattr(text, "hidden_size", 0)) * ACTIVATIONS_PER_VALUE * size // 4
    layers = int(getattr(text, "num_hidden_layers", 1))
    kept = tokens * int(getattr(text, "hidden_size", 0)) * size * layers if demand.checkpointing else layers * layer
    chunk = CHUNK_BYTES.get(demand.device, CHUNK_BYTES["cpu"])
    return Step(kept, kept + layer + 3 * chunk + gradients, gradients)


def _sampling(model: Any, demand: Demand) -> tuple[int, int]:
    """Bytes of the keys and values of a batch of responses, and of what is beside them."""
    text, rollout = demand.config.get_text_config(), demand.rollout
    assert rollout is not None
    width = rollout.prompt + rollout.response
    rows = max(1, min(rollout.rows, BATCH_TOKENS // width))
    heads = int(getattr(text, "num_attention_heads", 1))
    few = int(getattr(text, "num_key_value_heads", None) or heads)
    size = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    item = torch.tensor([], dtype=demand.autocast or demand.dtype).element_size()
    layer = 2 * few * size * rows * width * item
    cache = layer * int(text.num_hidden_layers)
    repeated = 2 * heads * size * rows * width * item if few != heads else 0
    piece = min(rollout.prompt, max(1, PREFILL_TOKENS.get(demand.device, PREFILL_TOKENS["cuda"]) // rows))
    try:
        forward = forward_bytes(model, rows, piece)
    except Exception:  # as above
        forward = rows * piece * int(text.hidden_size) * 16
    return cache, max(forward, rows * int(text.vocab_size) * DRAW_BYTES) + layer + repeated


def smallest(demand: Demand, longest: Shape) -> Memory:
    """The same run with a budget of one group a pack: what is there however small packs become."""
    return estimate(replace(demand, pack=(longest,), rollout=None))


def with_pack(demand: Demand, pack: Sequence[Shape], several: bool) -> Demand:
    """The same run with other packs."""
    return replace(demand, pack=tuple(pack), several=several)
