"""What a training command says of memory before it loads weights, and when it does not start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prefine.api.adapter_options import is_adapter
from prefine.api.plan_time import duration, operations_of, rate_of, uses_reference
from prefine.errors import ConfigError
from prefine.runs import RunDirectory, models_of

if TYPE_CHECKING:
    from prefine.api.training_setup import TrainingSetup
    from prefine.planning.devices import Device
    from prefine.planning.lengths import Lengths
    from prefine.planning.memory import Demand, Memory

CERTAIN = 1.15
"""A training that needs more than the device's memory times this, with packs of a single prompt, does not start."""
KEPT = 3
"""What malloc keeps of freed memory may make a process on a CPU this many times as large as what it uses (2.4 was measured)."""
LONG = 1e12
"""Floating-point operations from which a training is worth telling how long it takes: half a minute, of a processor's core."""
MEASURED = 0.3
"""Seconds for which the machine's rate is measured then."""
FRAMEWORK = 60 * 2**20
"""What a process takes on its way beside tensors once libraries are loaded: measured on a CPU, a trainer's own modules and oneDNN's."""
SHORT = {
    **{"weights": "weights", "adapter": "adapter", "gradients": "gradients", "optimizer states": "optimizer", "reference": "reference"},
    **{"reward and value models": "reward and value", "activations": "activations", "KV cache": "KV cache"},
}


@dataclass(frozen=True)
class Planned:
    """A run's memory on a device.

    Attributes:
        framework: bytes that Python, torch and the device's own libraries hold; steps: optimizer updates.
        seconds: of all updates, sampling and evaluation aside; None where no one knows, or where they are few.
    """

    memory: Memory
    device: Device
    framework: int
    steps: int
    seconds: float | None = None

    @property
    def total(self) -> int:
        """Bytes in all, at the peak."""
        return self.memory.total + self.framework

    def summary(self) -> dict[str, Any]:
        """As ``data.json`` holds it."""
        return {
            "device": self.device.name,
            "device_bytes": self.device.memory_bytes,
            "total_bytes": self.total,
            "own_bytes": self.memory.total,
            "framework_bytes": self.framework,
            "parts": dict(self.memory.parts),
            "phases": dict(self.memory.phases),
            "counted": self.memory.counted,
            "parameters": self.memory.parameters,
            "trained_parameters": self.memory.trained,
            "steps": self.steps,
            "seconds": self.seconds,
        }

    def line(self) -> str:
        """The training's first line."""
        parts = sorted(((v, SHORT[k]) for k, v in self.memory.parts.items() if k in SHORT), reverse=True)
        told = ", ".join(f"{name} {gib(size)}" for size, name in parts if size >= 0.01 * self.total) or "hardly anything"
        steps = f"; {self.steps:,} steps" if self.steps else ""
        steps += f", about {duration(self.seconds)} of updates at this machine's rate" if self.seconds else ""
        return f"memory: about {gib(self.total)} of {gib(self.device.memory_bytes)} GiB on {self.device.name} ({told}){steps}"


def gib(size: float) -> str:
    """Bytes as GiB, to two digits or so."""
    value = size / 2**30
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def framework_bytes(device: Device) -> int:
    """What is there before any model: on a CPU what this process holds now, on a GPU its context."""
    from prefine.planning.devices import CUDA_CONTEXT, resident_bytes

    return CUDA_CONTEXT if device.kind == "cuda" else resident_bytes() + FRAMEWORK


def prompts_per_update(command: str, args: Any) -> int:
    """Prompts whose gradients are taken in one go: a batch, or a rollout's part."""
    batch: int = args.per_device_train_batch_size
    if command == "ppo":
        return max(1, batch * int(args.gradient_accumulation_steps) // int(args.num_mini_batches))
    return batch


def steps_of(command: str, args: Any, prompts: int) -> int:
    """Optimizer updates of a run on so many groups, in this process alone."""
    if args.max_steps > 0:
        return int(args.max_steps)
    each = args.per_device_train_batch_size * args.gradient_accumulation_steps
    if command == "ppo":
        episodes = args.total_episodes or args.num_train_epochs * prompts * args.num_samples
        rollouts = max(1, round(episodes / (each * args.num_samples)))
        return int(rollouts * args.num_ppo_epochs * args.num_mini_batches)
    return max(1, int(args.num_train_epochs * -(-prompts // each)))


def accumulates(command: str, args: Any) -> bool:
    """Whether gradients of several batches are one update's: PPO's are taken in one go."""
    return command != "ppo" and args.gradient_accumulation_steps > 1


def demand_of(
    setup: TrainingSetup, lengths: Lengths, device: Device, quantised: float | None, dtype: Any, autocast: Any
) -> tuple[Demand, Any]:
    """What decides the run's memory, from its options and its data's lengths; and the token budget.

    Args:
        dtype: of the weights; autocast: mixed precision's, or None.
    """
    import os

    from prefine.packing.budget import TokenBudget
    from prefine.planning.memory import Demand, Rollout
    from prefine.scoring.adapter_start import takes_from_base
    from prefine.scoring.loading import check_base, load_settings

    own, args, command = setup.options, setup.args, setup.command
    folder, adapter = own.model, own.peft_config()
    copied = takes_from_base(adapter)  # its start stands beside it
    if check_base(folder):
        adapter = load_settings(folder, adapter=True)
        adapter.inference_mode, folder, copied = False, str(adapter.base_model_name_or_path), True
    config = load_settings(folder, args.trust_remote_code)
    text = config.get_text_config()
    width = getattr(text, "num_hidden_layers", 0) * getattr(text, "hidden_size", 0)
    budget = TokenBudget.of(args.token_budget, device.kind, width)
    batch = prompts_per_update(command, args)
    pack, several = lengths.largest_pack(budget, batch, args.seed)
    reference = uses_reference(command, args)
    known = getattr(args, "precompute_ref_log_probs", False)
    longest = lengths.longest[0]
    rollout = None
    if command in ("ppo", "online-dpo"):
        rows = args.per_device_train_batch_size * args.num_samples
        rows *= args.gradient_accumulation_steps if command == "ppo" else 1
        rollout = Rollout(min(rows, args.sampling_batch_size), longest, args.response_length) if args.rollout_engine != "vllm" else None
    elif command in ("dpo", "kto") and setup.extra.final_eval != "off":
        from prefine.api.final_evaluation import FULL_TOKENS, QUICK_TOKENS

        rollout = Rollout(32, longest, QUICK_TOKENS if setup.extra.final_eval == "quick" else FULL_TOKENS)
    models = [name for given in getattr(setup.extra, "reward_model", None) or [] for name in models_of(given)]
    whole = [name for name in models if not is_adapter(name)]
    values = command == "ppo" and args.advantage_estimator == "gae"
    demand = Demand(
        config=config,
        dtype=dtype,
        pack=tuple(pack),
        device=device.kind,
        autocast=autocast,
        adapter=adapter,
        classifier=command == "reward",
        quantised=quantised,
        optim=getattr(args.optim, "value", args.optim),
        checkpointing=args.gradient_checkpointing,
        offloading=args.activation_offloading and device.kind == "cuda",
        several=several or accumulates(command, args),
        reference=reference and not (known and adapter is None),
        moving=getattr(args, "sync_ref_model", False),
        base_again=command in ("dpo", "kto") and (not reference or bool(known and adapter is None) or args.sync_ref_model),
        rewards=tuple(load_settings(name, args.trust_remote_code) for name in whole),
        value=values and args.value_role != "policy" and bool(whole),
        adapters=(len(models) - len(whole)) * (1 + values) + copied * reference,
        rollout=rollout,
        token_metrics=command in ("dpo", "kto", "sft", "online-dpo"),
        processes=int(os.environ.get("WORLD_SIZE", "1")),
    )
    return demand, budget


RECOMPUTES = frozenset(f"{name}_checkpointing{end}" for name in ("gradient", "activation") for end in ("", "_kwargs"))
"""Options that say whether activations are computed again."""
ROOMY = 1.25
"""Activations are kept on a GPU where the estimate times this fits: where memory runs out, packs become smaller still."""


def without_recompute(
    setup: TrainingSetup, demand: Demand, lengths: Lengths, device: Device, framework: int, kept: bool | None = None
) -> Demand:
    """On a GPU the run without gradient checkpointing, where nobody said and that fits; else as it was. The config says so afterwards.

    Computing activations again takes a third of a step's time or a quarter. Packs can be smaller for it, as rows that are padded cannot.

    Args:
        kept: what a run that is resumed had.
    """
    from prefine.packing.budget import KEEPING_TOKENS, TokenBudget
    from prefine.planning.memory import estimate, with_pack

    args = setup.args
    if device.kind != "cuda" or not demand.checkpointing or RECOMPUTES & setup.given or kept:
        return demand
    budgets = KEEPING_TOKENS if args.token_budget == "auto" else (int(args.token_budget),)
    for tokens in budgets:
        pack, several = lengths.largest_pack(TokenBudget(tokens), prompts_per_update(setup.command, args), args.seed)
        tried = with_pack(replace(demand, checkpointing=False), pack, several or accumulates(setup.command, args))
        if ROOMY * (estimate(tried).total + framework) <= device.room or (kept is False and tokens == budgets[-1]):
            for name in ("gradient_checkpointing", "activation_checkpointing"):
                if hasattr(args, name):
                    setattr(args, name, False)
            setup.training["gradient_checkpointing"] = False
            if tokens != budgets[0]:
                args.token_budget = str(tokens)
            return tried
    return demand


def recomputed(setup: TrainingSetup) -> bool | None:
    """Whether the run that is resumed computes activations again; None where none is."""
    run = RunDirectory(setup.output_dir)
    if not setup.options.resume or not (run.path / "config.yaml").exists():
        return None
    return bool(run.config().get("gradient_checkpointing"))


def plan_training(setup: TrainingSetup, lengths: Callable[[], Lengths]) -> Planned | None:
    """The plan of a training that is about to load its model, told; None, and told too, where the model allows none.

    Raises:
        ConfigError: it cannot fit, and ``ignore_plan`` was not given; the sentence says what would.
    """
    import torch

    from prefine.packing.budget import KEEPING_TOKENS
    from prefine.planning.devices import found
    from prefine.planning.memory import estimate, smallest
    from prefine.training.peak_memory import give_back_freed_memory

    if setup.args.is_sharded or setup.args.zero_stage:
        setup.progress.say("memory: not planned, as what is trained is shared out over processes")
        return None
    device = found()
    autocast = torch.bfloat16 if setup.args.bf16 else torch.float16 if setup.args.fp16 else None
    try:
        known = lengths()
        demand, _ = demand_of(setup, known, device, setup.options.quantised_bytes, setup.dtype, autocast)
        framework = framework_bytes(device)
        asked, demand = demand, without_recompute(setup, demand, known, device, framework, recomputed(setup))
        planned = Planned(estimate(demand), device, framework, steps_of(setup.command, setup.args, known.total))
        least = planned
        if planned.total > CERTAIN * device.memory_bytes:
            least = Planned(smallest(demand, known.longest), device, planned.framework, planned.steps)
        operations = operations_of(setup.command, setup.args, demand, known, planned.steps)
    except Exception as error:  # whatever an unusual model's config lacks: a plan must not stop what could run
        setup.progress.say(f"memory: not planned ({type(error).__name__}: {' '.join(str(error).split())[:200]})")
        return None
    if not setup.options.ignore_plan:
        refuse_what_cannot_fit(setup.command, least, demand, known)
    if operations > LONG:
        rate, _ = rate_of(device, demand, MEASURED)
        planned = replace(planned, seconds=operations / rate if rate else None)
    setup.progress.say(planned.line())
    if demand is not asked:
        tokens = KEEPING_TOKENS[0] if setup.args.token_budget == "auto" else int(setup.args.token_budget)
        setup.progress.say(f"memory: activations are kept, as packs of {tokens:,} tokens fit without gradient checkpointing")
    if device.kind == "cpu" and KEPT * planned.total > device.room and give_back_freed_memory():
        setup.progress.say("memory: freed memory is given back at once, which takes some time, as this machine has little more")
    return planned


def refuse_what_cannot_fit(command: str, planned: Planned, demand: Demand, lengths: Lengths) -> None:
    """Raise where even packs of one prompt are too much.

    Raises:
        ConfigError: how much there is, how much it would take, and what would fit.
    """
    if planned.total <= CERTAIN * planned.device.memory_bytes:
        return
    fits = next((c for c in choices(command, demand, lengths, planned.device, planned.framework) if c.fits), None)
    instead = f"{flags_of(fits.settings)} fits in about {gib(fits.total)} GiB" if fits else "none of its smaller settings fits either"
    raise ConfigError(
        f"this needs about {gib(planned.total)} GiB even with one prompt a pack, and {planned.device.name} has "
        f"{gib(planned.device.memory_bytes)}; {instead}; prefine plan shows more, and --ignore-plan starts all the same",
        code="PF-C14",
    )


IN_BFLOAT16 = {"dtype": "bfloat16", "optim": "adamw_torch_8bit", "optim_args": "bf16_stochastic_round=True"}
"""Whole training without float32 weights: torchao's optimizer, which needs that package."""
SPARE = 1.1
"""Settings fit where the estimate times this is within the device's memory."""


@dataclass(frozen=True)
class Choice:
    """Settings and what they would hold.

    Attributes:
        settings: options beside those given; total: bytes in all; memory: its parts.
    """

    name: str
    settings: Mapping[str, Any]
    total: int
    fits: bool
    memory: Memory


def flags_of(settings: Mapping[str, Any]) -> str:
    """Options as they are written on the command line."""
    from prefine.api.options import as_flags

    return " ".join(as_flags("x", settings)[1:])


def choices(command: str, demand: Demand, lengths: Lengths, device: Device, framework: int) -> Sequence[Choice]:
    """Settings in order of preference: as given, then what changes no result, then what does; each row keeps those above that apply."""
    import torch
    from peft import LoraConfig

    from prefine.planning.memory import estimate, with_pack
    from prefine.planning.skeleton import NF4_BYTES

    stored: dict[str, Any] = {} if demand.checkpointing else {"gradient_checkpointing": True}
    p, c = lengths.longest
    least = p + sum(c) - len(c)
    small = {**stored, "token_budget": str(least)}
    ahead: dict[str, Any] = (
        {"precompute_ref_log_probs": True} if demand.reference and demand.adapter is None and command in ("dpo", "kto") else {}
    )
    one = with_pack(replace(demand, checkpointing=True), [lengths.longest], True)
    adapter = demand.adapter or LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    half = demand.autocast if device.kind == "cuda" and device.half == "bfloat16" else None
    lora: dict[str, Any] = {} if demand.adapter is not None else {"lora_r": 16}
    light = replace(demand, adapter=adapter, dtype=half or demand.dtype, checkpointing=True, base_again=False)
    tried: list[tuple[str, dict[str, Any], Demand]] = [("as given", {}, demand)]
    if stored:
        tried.append(("gradient checkpointing", stored, replace(demand, checkpointing=True)))
    tried.append(("packs of one prompt", small, one))
    if ahead:
        tried.append(("reference computed before", small | ahead, replace(one, reference=False, base_again=True)))
    if device.kind == "cuda" and device.half == "bfloat16" and demand.adapter is None:
        whole = replace(
            one, dtype=torch.bfloat16, optim="adamw_torch_8bit", reference=demand.reference and not ahead, base_again=bool(ahead)
        )
        tried.append(("all in bfloat16, rounded at random, 8-bit AdamW", small | ahead | IN_BFLOAT16, whole))
    if lora:
        tried.append(("LoRA", stored | lora, light))
        tried.append(("LoRA, packs of one prompt", small | lora, with_pack(light, [lengths.longest], True)))
    if device.kind == "cuda" and not demand.quantised:
        in_4bit = replace(with_pack(light, [lengths.longest], True), quantised=NF4_BYTES)
        tried.append(("QLoRA (4-bit), packs of one prompt", small | lora | {"load_in_4bit": True}, in_4bit))
    out = []
    for name, settings, wanted in tried:
        memory = estimate(wanted)
        total = memory.total + framework
        out.append(Choice(name, settings, total, SPARE * total <= device.room, memory))
    return out
