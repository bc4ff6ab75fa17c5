"""How long a training takes: its floating-point operations, and how many a second its device does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefine.planning.devices import Device
    from prefine.planning.lengths import Lengths
    from prefine.planning.memory import Demand

CPU_EFFICIENCY = 0.6
"""Of the measured rate of matrix products, what training on a CPU reaches: 61 to 75 % of a step is products (benchmarks/RESULTS.md)."""


def uses_reference(command: str, args: Any) -> bool:
    """Whether a reference scores what is trained on."""
    from prefine.losses import LOSSES

    if command in ("dpo", "online-dpo"):
        return any(LOSSES[name].reference for name in args.loss_type)
    return command in ("ppo", "kto")


def operations_of(method: str, args: Any, demand: Demand, lengths: Lengths, steps: int) -> float:
    """Floating-point operations of all updates, and of what scores and samples beside them."""
    from prefine.planning.operations import operations
    from prefine.planning.skeleton import skeleton

    model = skeleton(demand.config, demand.dtype, demand.adapter, demand.classifier)
    each = operations(model, lengths.shapes)
    reference = uses_reference(method, args)
    prompts: float = steps * int(args.per_device_train_batch_size) * int(args.gradient_accumulation_steps)
    if method == "ppo":
        prompts /= args.num_mini_batches
        rollouts = prompts / args.num_ppo_epochs
        # Sampled and scored: the policy's forward as it samples, its reference's, each reward's and the values'.
        scoring = (2 + reference + len(demand.rewards) + demand.adapters) * (each.trunk + each.head)
        update = each.step(demand.adapter is None, demand.checkpointing) * (1 + demand.value)
        return float(prompts * update + rollouts * scoring)
    more = float(args.num_samples) / 2 * (each.trunk + each.head) if method == "online-dpo" else 0.0  # a group is a pair: two samples
    if method == "kto" and args.uses_kl:  # a mismatched response by policy and reference
        more = 2 * (each.trunk + each.head)
    return prompts * (each.step(demand.adapter is None, demand.checkpointing, int(reference)) + more)


def rate_of(device: Device, demand: Demand, seconds: float) -> tuple[float | None, str]:
    """Operations a second, and where that comes from: measured here for so many seconds, or published."""
    from prefine.planning.devices import EFFICIENCY

    if device.available_bytes is None:
        if device.flops is None:
            return None, ""
        return EFFICIENCY * device.flops, f"{EFFICIENCY:.0%} of {device.flops / 1e12:g} TFLOP/s; {device.source}"
    from prefine.planning.operations import matrix_rate

    rate = matrix_rate(device.kind, demand.autocast or demand.dtype, seconds)
    share = CPU_EFFICIENCY if device.kind == "cpu" else EFFICIENCY
    return share * rate, f"{share:.0%} of {rate / 1e9:,.0f} GFLOP/s that matrix products reach on this machine"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
