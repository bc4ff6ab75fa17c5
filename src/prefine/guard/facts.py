"""What a trainer tells of a run before it trains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prefine.guard.history import Facts
from prefine.training.config.conditional import rounds_at_random
from prefine.training.recipes import usual_learning_rates

METHODS = {
    "SFTTrainer": "sft",
    "RewardTrainer": "reward",
    "PPOTrainer": "ppo",
    "OnlineDPOTrainer": "online-dpo",
    "DPOTrainer": "dpo",
    "KTOTrainer": "kto",
}
"""Trainers by name, of Prefine and of TRL, the nearest kind first."""


def facts_of(trainer: Any, steps: int, known: Facts) -> Facts:
    """Facts of a trainer, on top of those that are known."""
    names = [kind.__name__ for kind in type(trainer).__mro__]
    args, model = trainer.args, trainer.model
    method = known.method or next((METHODS[n] for n in names if n in METHODS), "")
    trained = [p for p in model.parameters() if p.requires_grad]
    numbers = {id(p): getattr(p, "ds_numel", p.numel()) for p in model.parameters()}  # DeepSpeed has none of a shared one in its place
    adapter = hasattr(model, "peft_config")
    beta, loss = getattr(args, "beta", None), getattr(args, "loss_type", None)
    rounds = rounds_at_random(getattr(args.optim, "value", args.optim), args.optim_args)
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    logs = args.logging_steps if args.logging_steps >= 1 else max(1, round(args.logging_steps * steps))
    data = trainer.train_dataset
    return replace(
        known,
        method=method,
        adapter=adapter,
        loss=tuple([loss] if isinstance(loss, str) else loss or ()),
        beta=float(beta[-1] if isinstance(beta, list) else beta) if beta else None,
        learning_rate=args.learning_rate,
        usual_learning_rate=usual_learning_rates(method, adapter, sum(numbers.values())) if method else None,
        steps=steps,
        epochs=args.num_train_epochs if args.max_steps <= 0 else None,
        pairs=known.pairs if known.pairs is not None else len(data) if hasattr(data, "__len__") else None,
        pairs_per_log=int(batch * logs),
        trainable=sum(numbers[id(p)] for p in trained),
        weights=sum(numbers.values()),
        # An optimizer that rounds at random loses no update of what is held in half precision.
        dtypes=() if rounds else tuple(sorted({str(p.dtype).removeprefix("torch.") for p in trained})),
    )
