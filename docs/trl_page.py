"""The page "Moving from TRL": its tables come from the configs of both packages, so that they cannot go stale."""

from __future__ import annotations

import os
import warnings
from dataclasses import MISSING, fields
from typing import Any

LAST_PPO = {
    **{"learning_rate": 3e-6, "dataset_num_proc": None, "num_mini_batches": 1, "total_episodes": None, "num_ppo_epochs": 4},
    **{"local_rollout_forward_batch_size": 64, "num_sample_generations": 10, "response_length": 53, "stop_token": None},
    **{"stop_token_id": None, "temperature": 0.7, "missing_eos_penalty": None, "sft_model_path": "EleutherAI/pythia-160m"},
    **{"reward_model_path": "EleutherAI/pythia-160m", "model_adapter_name": None, "ref_adapter_name": None, "whiten_rewards": False},
    **{"kl_coef": 0.05, "kl_estimator": "k1", "cliprange": 0.2, "vf_coef": 0.1, "cliprange_value": 0.2, "gamma": 1.0, "lam": 0.95},
    **{"ds3_gather_for_generation": True, "world_size": None, "num_total_batches": None, "micro_batch_size": None},
    **{"local_batch_size": None, "batch_size": None, "local_mini_batch_size": None, "mini_batch_size": None},
}
"""The fields of TRL's last PPOConfig (1.12), which its newest releases no longer have."""
ABSENT = {
    "model_adapter_name": "not there: the policy's adapter is the active one",
    "ref_adapter_name": "not there: the reference is the policy without its adapter",
    **dict.fromkeys(
        (
            "world_size",
            "num_total_batches",
            "micro_batch_size",
            "local_batch_size",
            "batch_size",
            "local_mini_batch_size",
            "mini_batch_size",
        ),
        "not there: TRL computes it",
    ),
}
WHY = {
    "loss_weights": "the same: 1 each",
    "truncation_mode": "the same: TRL's reward trainer has no choice",
    "bf16": "TRL: on, and an error where the machine has none; here on where CUDA hardware has it",
    "report_to": "no telemetry that was not asked for",
    "use_cpu": "set where there is no GPU",
    "pad_to_multiple_of": "of no effect",
    "sft_model_path": "for the script that parsed it, which names its own model",
    "reward_model_path": "for the script that parsed it, which names its own model",
}
"""Why a default is another than TRL's."""
MEANINGS = [
    ("`truncation_mode='keep_end'`", "Prompts lose their beginning, responses their end, and both sides of a pair keep one prompt.",
     "Each side loses its beginning, so that the two may have different prompts; deprecated."),
    ("a prompt that fills `max_length`", "Dropped, counted, said.", "DPO: dropped behind a progress bar. SFT: as here."),
    ("reward pairs over `max_length`", "Dropped, counted, said (`truncation_mode='drop'`).", "Dropped."),
    ("pairs of plain text without `prompt`", "Split where a word begins.", "Split within a word, or one character early. Reward models: not split; "
     "pairs without a common beginning are dropped here."),
    ("`label_smoothing` of `sigmoid`", "cDPO.", "Not read."),
    ("reference of a model that is in memory", "A copy of its weights as they are.", "Loaded anew from where the model once came from."),
    ("reference of an adapter that does not start as the identity (prefix tuning)", "The policy's start, which is said.", "The base."),
    ("`LoraConfig()` without `task_type`, reward", "The head stays as it is, which is said, and is saved with the adapter.",
     "The head stays as it is, and is not saved. `task_type='CAUSAL_LM'`: here the head is trained."),
    ("online DPO, responses that score alike", "No pair: such a prompt teaches nothing.", "The first is taken for chosen."),
    ("online DPO, `loss_type='ipo'`", "Ratios are averaged over tokens, as in DPO.", "Summed, as TRL's DPO does not."),
    ("online DPO, a prompt that leaves no room", "Dropped, counted, said.", "Truncated at its beginning."),
    ("tool calls, reasoning, roles that a chat template leaves out", "The row is dropped with that reason, or written otherwise and said.",
     "Trained on without them."),
    ("SFT, a conversation without an assistant's last turn", "Dropped, counted, said.", "Trained on whole."),
    ("a completion of several turns (a call, its result, a reply)", "The assistant's own tokens are trained on.", "All tokens are."),
    ("streams", "One endless pass: the stream begins anew where it ends, within a batch too, and a resumed run is exact.",
     "Its last batch of a pass is short, and gradients are accumulated over the border at full scale."),
    ("KTO, mismatched responses", "Of another prompt always; the batch's rotation by one where that gives one. In any order of the rows.",
     "The rotation by one, of the same prompt where its rows lie side by side; rows in their order only."),
    ("KTO, several processes", "The KL is the mean over the batch of all.", "The mean of each process's, which the rotation keeps apart."),
    ("KTO, metrics of accumulated batches", "Means over responses and tokens.", "Means of the parts' means."),
    ("columns `system`, `system_prompt`, `history`, `input`, `context` beside TRL's own", "Part of the prompt, which is said.", "Not read."),
    ("pairs that are equal, empty, or equal once truncated", "Dropped, counted, said.", "Trained on; they have no gradient, or a wrong one."),
    ("`assistant_only_loss`", "From a response's first word to its EOS, and what the template writes behind it.",
     "What TRL's own variant of the template marks: for some families also the line break before the response, for some another text."),
    ("load-balancing loss of a mixture of experts", "Over the tokens of a packed batch, a shared prompt once.", "Over the padded batch, prompts twice."),
    ("online DPO, a reward function that raises", "Shown; the responses on which it raises fail, and are counted.", "The run ends."),
    ("online DPO, the order of prompts", "Decided by the seed and the pass.", "transformers' sampler."),
    ("metrics dear to measure (`entropy`, `mean_token_accuracy`, `logits/*`)", "Of the logged steps and the last.", "Of every step."),
    ("`compute_metrics` of DPO and reward models", "Predictions are rewards, shape (n, 2), chosen first; labels are zeros.", "Logits and token ids."),
]  # fmt: skip
TEXT = """# Moving from TRL

Generated by `docs/generate.py`.

    from prefine import DPOConfig, DPOTrainer      # was: from trl import DPOConfig, DPOTrainer

`KTO`, `SFT`, `Reward` and `OnlineDPO` go the same way, and `PPO` from TRL's last release that had it. Arguments stand in TRL's order; data in
any of TRL's formats is read (token ids and streams too), `HfArgumentParser` and `TrlParser` read the configs, and metrics have TRL's names
beside ours. What cannot mean what it means in TRL is an error that says what to give instead; what only tells TRL's machine how to run
is taken with a warning. Rows that are dropped or truncated are a warning with counts and reasons, and `trainer.data_report` lists them.

`python benchmarks/trl_tests.py ROOT` runs TRL's own tests with the import swapped, and `benchmarks/trl_scripts.py` its scripts;
figures are in [RESULTS.md](../benchmarks/RESULTS.md).

Not there: images (an error), GRPO and RLOO as trainers of their own (they are `PPOTrainer` with `advantage_estimator`). A subclass that overrides `compute_loss`, a `data_collator` or a
`compute_loss_func` is refused, since losses are computed on packed batches: override `batch_backward` and `batch_loss`.

## What means something else

| what | here | in TRL |
| --- | --- | --- |
"""


def _shown(value: Any) -> str:
    return "" if value is None else f"`{value}`"


def _made(config: Any, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return config(output_dir="x", **more)


def theirs() -> dict[str, dict[str, Any]]:
    """TRL's own fields, and those of transformers whose defaults it changes: config -> field -> default."""
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from transformers import TrainingArguments
    from trl import DPOConfig, KTOConfig, RewardConfig, SFTConfig
    from trl.experimental.online_dpo import OnlineDPOConfig

    base = {f.name: f.default for f in fields(TrainingArguments)}
    out = {}
    for config in (DPOConfig, KTOConfig, SFTConfig, RewardConfig, OnlineDPOConfig):
        made = _made(config, use_cpu=True)
        own = [f for f in fields(config) if f.name not in base or (f.default is not MISSING and f.default != base[f.name])]
        out[config.__name__] = {f.name: getattr(made, f.name) for f in own}
    return out | {"PPOConfig": LAST_PPO}


def table(name: str, defaults: dict[str, Any]) -> list[str]:
    """One config's rows.

    Raises:
        AssertionError: a field that is not there, or a default that differs, without a reason.
    """
    import prefine
    from prefine.training.config.fields import MACHINE, REFUSED, SCRIPTS

    config = getattr(prefine, name)
    ours, helps = _made(config), {f.name: f.metadata.get("help", "") for f in fields(config)}
    rows = [f"\n### {name}\n", "| option | TRL's default | here | |", "| --- | --- | --- | --- |"]
    for field, default in sorted(defaults.items()):
        if field not in helps:
            assert field in ABSENT, f"{name}.{field}: in TRL and not here, and no reason is given"
            rows.append(f"| `{field}` | {_shown(default)} | | {ABSENT[field]} |")
            continue
        value = getattr(ours, field, None)
        what = REFUSED.get(field) and f"refused: {REFUSED[field]}"
        what = what or (MACHINE.get(field) and f"no effect: {MACHINE[field]}") or ("for scripts" if field in SCRIPTS else helps[field])
        if value not in (default, [default]):
            assert field in WHY, f"{name}.{field}: TRL has {default!r}, here it is {value!r}, and no reason is given"
            what += f" ({WHY[field]})" if what else WHY[field]
        rows.append(f"| `{field}` | {_shown(default)} | {_shown(value)} | {' '.join(what.split())} |")
    return rows


def page() -> str:
    """All of it."""
    from prefine.training.config.fields import REFUSED

    rows = [TEXT.rstrip()]
    rows += [f"| {what} | {here} | {there} |" for what, here, there in MEANINGS]
    rows += [
        "\n## Options\n\nThose that TRL adds to `transformers.TrainingArguments`, or gives another default. All others are transformers' own,"
    ]
    rows += ["and its `Trainer` reads them, but for these, which are refused when they are given:\n", "| option | why |", "| --- | --- |"]
    rows += [f"| `{name}` | {why} |" for name, why in REFUSED.items()]
    for name, defaults in theirs().items():
        rows += table(name, defaults)
    return "\n".join(rows) + "\n"
