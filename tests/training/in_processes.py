"""A run of each kind, in this process of several or alone: ``python in_processes.py OUT ENGINE PROCESSES CASE...``; not collected."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

ROWS, HELD_OUT, BATCH = 96, 13, 12
ON_GPUS = os.environ.get("PREFINE_TEST_GPUS") == "1"
"""One GPU a process, by NCCL."""


def lora(**more: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", **more)


CASES: dict[str, dict[str, Any]] = {
    "dpo": {},
    "dpo, untied, checkpointing": {"untied": True, "gradient_checkpointing": True},
    "dpo, accumulated": {"gradient_accumulation_steps": 2},
    "dpo, epochs of an odd number": {"rows": 31},
    "dpo, epochs of an odd number, accumulated": {"rows": 31, "gradient_accumulation_steps": 2},
    "dpo, LoRA": {"peft": True},
    "dpo, LoRA that goes on": {"peft": True, "trained": True},
    "dpo, LoRA in 4-bit": {"peft": True, "four_bit": True},
    "dpo, coupled loss": {"loss_type": ["aot"], "beta": 1.0},
    "dpo, evaluated before": {"evaluated": True},
    "dpo, precomputed": {"precompute_ref_log_probs": True},
    "dpo, retained replies": {"retain": "replies"},
    "dpo, retained prompts": {"retain": "prompts"},
    "dpo, retained prompts, epochs of an odd number": {"retain": "prompts", "rows": 31, "as_many": True},
    "dpo, retained prompts, LoRA": {"retain": "prompts", "peft": True},
    "dpo, weighed by the policy": {"use_weighting": True},
    "dpo, accumulated, memory short in one": {"gradient_accumulation_steps": 2, "starved": True},
    "dpo, reference that moves": {"sync_ref_model": True, "ref_model_sync_steps": 2, "ref_model_mixup_alpha": 0.6},
    "sft": {"kind": "sft"},
    "sft, epochs of an odd number": {"kind": "sft", "rows": 31, "packing": True, "max_length": 48},
    "sft, LoRA": {"kind": "sft", "peft": True},
    "sft, packed": {"kind": "sft", "packing": True, "max_length": 48},
    "reward": {"kind": "reward"},
    "reward, epochs of an odd number": {"kind": "reward", "rows": 31},
    "reward, LoRA": {"kind": "reward", "peft": True},
    "kto": {"kind": "kto"},
    "kto, LoRA, balanced": {"kind": "kto", "peft": True, "balance_labels": True},
    "kto, epochs of an odd number, accumulated": {"kind": "kto", "rows": 31, "gradient_accumulation_steps": 2},
    "kto, bco": {"kind": "kto", "loss_type": "bco", "gradient_accumulation_steps": 2},
    "ppo": {"kind": "ppo", "advantage_estimator": "gae", "num_mini_batches": 2},
    "ppo, values by a model of their own": {"kind": "ppo", "advantage_estimator": "gae", "value_role": "reward", "retain": "replies"},
    "ppo, values by an adapter": {"kind": "ppo", "advantage_estimator": "gae", "value_role": "reward", "peft": True, "adapters": True},
    "ppo, rloo, LoRA": {"kind": "ppo", "advantage_estimator": "rloo", "num_samples": 3, "peft": True, "scale_scores": True},
    "ppo, grpo": {
        **{"kind": "ppo", "advantage_estimator": "grpo", "num_samples": 3, "num_ppo_epochs": 4, "stop_kl": 1e-4, "kl_in_loss": True},
        "target_kl": 0.1,
    },
    "ppo, evaluated before": {"kind": "ppo", "advantage_estimator": "rloo", "num_samples": 2, "evaluated": True},
    "online dpo": {"kind": "online", "num_samples": 3, "gradient_accumulation_steps": 2},
    "online dpo, LoRA": {"kind": "online", "peft": True},
    "online dpo, coupled loss": {"kind": "online", "loss_type": ["aot"]},
    "ppo, memory short in one": {"kind": "ppo", "advantage_estimator": "gae", "num_mini_batches": 2, "starved": True},
    "online dpo, two rewards": {"kind": "online", "reward_aggregate": "min", "rewards": 2},
}

SAMPLING = [name for name, case in CASES.items() if case.get("kind") in ("ppo", "online")]
SHARDED = [name for name, case in CASES.items() if "starved" not in case]
BY_DEEPSPEED = [name for name in SHARDED if name not in SAMPLING]
BY_ZERO3 = [name for name in BY_DEEPSPEED if "sync_ref_model" not in CASES[name]]
THREE = ["dpo", "kto", "dpo, LoRA", "dpo, coupled loss", "dpo, retained replies", "reward", *(name for name in SHARDED if "epochs" in name)]
RUNS = (
    *(("ddp", 2, list(CASES)), ("fsdp", 2, SHARDED), ("ddp", 3, [*THREE, *SAMPLING]), ("fsdp", 3, [*THREE, "ppo", "online dpo"])),
    *(("zero1", 2, ["dpo", "dpo, LoRA", "sft", "reward"]), ("zero2", 2, BY_DEEPSPEED), ("zero3", 2, BY_ZERO3)),
)
"""Engines and numbers of processes, with what is run by them."""
ENGINES: dict[str, dict[str, Any]] = {
    "ddp": {},
    "fsdp": {"fsdp": True},
    "zero1": {"deepspeed": "zero1"},
    "zero2": {"deepspeed": "zero2"},
    "zero3": {"deepspeed": {"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}},  # else small ones stay whole
}


def model_of(kind: str, untied: bool, trained: bool) -> Any:
    from transformers import AutoModelForCausalLM, LlamaForSequenceClassification

    from prefine.lab.model import build_model

    model = build_model(0, hidden=32, layers=2)
    if kind == "reward":
        torch.manual_seed(5)
        config = model.config
        config.num_labels, config.pad_token_id = 1, 0
        out = LlamaForSequenceClassification(config)
        out.model.load_state_dict(model.model.state_dict())
        return out
    if untied:
        config = model.config
        config.tie_word_embeddings = False
        torch.manual_seed(5)
        model = AutoModelForCausalLM.from_config(config)
    if trained:
        from peft import get_peft_model

        torch.manual_seed(6)
        model = get_peft_model(model, lora(init_lora_weights=False))
    return model


def words_paid(prompts: Any, answers: Any) -> list[float]:
    """A reward: how many words that pay, of any prompt."""
    return [sum(word in ("a", "the", "you", "is", "to") for word in answer.split()) + 0.01 * len(answer) for answer in answers]


def digits_paid(prompts: Any, answers: Any) -> list[float]:
    """Another."""
    return [-0.1 * sum(letter.isdigit() for letter in answer) for answer in answers]


def saved_once(place: Path, save: Any) -> Path:
    """A folder that the first process makes, for all."""
    if os.environ.get("RANK", "0") == "0":
        save(place.with_suffix(".unfinished"))
        place.with_suffix(".unfinished").rename(place)
    while not place.exists():
        time.sleep(0.01)
    return place


def sampling(kind: str, case: dict[str, Any], out: Path) -> tuple[Any, dict[str, Any]]:
    """The model and what pays, for a trainer that samples."""
    from peft import get_peft_model

    rewards: Any = words_paid
    model = model_of(kind, False, False)
    if case.pop("adapters", False):

        def save(place: Path) -> None:
            model.save_pretrained(place / "model")
            torch.manual_seed(7)
            adapted = get_peft_model(model_of("reward", False, False), lora_of_a_classifier(init_lora_weights=False))
            adapted.peft_config["default"].base_model_name_or_path = str(out / "base" / "model")
            adapted.save_pretrained(place / "reward")

        place = saved_once(out / "base", save)
        model, rewards = str(place / "model"), str(place / "reward")
    elif case.get("value_role") == "reward":
        rewards = model_of("reward", False, False)
    if case.pop("rewards", 1) > 1:
        rewards = [words_paid, digits_paid]
    return model, {"reward_model" if kind == "ppo" else "reward_funcs": rewards}


def run(name: str, case: dict[str, Any], out: Path, engine: str, processes: int) -> dict[str, Any]:
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    import prefine
    from conftest import lab_pairs
    from prefine.lab.model import build_tokenizer
    from prefine.training.zero import own_part

    unset_hf_deepspeed_config()  # of the run before: a model that is made here is whole
    case = dict(case)
    kind, peft, count = case.pop("kind", "dpo"), case.pop("peft", False), case.pop("rows", ROWS)
    untied, trained = case.pop("untied", False), case.pop("trained", False)
    folder = out / name.replace(" ", "-").replace(",", "")
    if "retain" in case:
        path = out / f"{case['retain']}.jsonl"
        rows = [{"prompt": r["prompt"]} | ({"completion": r["chosen"]} if case["retain"] == "replies" else {}) for r in lab_pairs(20, 9)]
        with contextlib.suppress(FileExistsError), path.open("x") as stream:
            stream.write("".join(json.dumps(row) + "\n" for row in rows))
        case["retain"], case["retain_batch_size"] = str(path), None if case.pop("as_many", False) else 18 // processes
    starved = case.pop("starved", False) and os.environ.get("RANK") == "1"
    evaluated = case.pop("evaluated", False)
    samples, four_bit = kind in ("ppo", "online"), case.pop("four_bit", False)
    if samples:
        case = {"num_samples": 1 if kind == "ppo" else 2, "response_length": 8, "temperature": 1.0, "missing_eos_penalty": 1.0} | case
        case = ({"num_ppo_epochs": 2} if kind == "ppo" else {}) | case
    # Tokens of one process's packs and another's differ, so that the numbers of packs do, too.
    settings = {
        **{"output_dir": str(folder), "per_device_train_batch_size": BATCH // processes, "max_steps": 4, "logging_steps": 1, "seed": 3},
        **{"learning_rate": 1e-2 if peft else 1e-3, "save_strategy": "no", "disable_tqdm": True, "token_budget": "130"},
        **{"eval_strategy": "steps", "eval_steps": 2, "per_device_eval_batch_size": 5, "use_cpu": not ON_GPUS, "bf16": False},
        **{"ddp_backend": "gloo" if processes > 1 and not ON_GPUS else None, "gradient_checkpointing": False, "max_grad_norm": 0.5},
        **{**case, **ENGINES[engine]},
    }
    pairs = lab_pairs(ROWS + HELD_OUT)
    rows = [{"prompt": r["prompt"], "completion": r["chosen"]} for r in pairs] if kind == "sft" else pairs
    if kind == "kto":
        rows = [
            {"prompt": r["prompt"], "completion": r["chosen" if i % 3 else "rejected"], "label": i % 3 > 0} for i, r in enumerate(pairs)
        ]
    config, trainer_kind = {
        "dpo": (prefine.DPOConfig, prefine.DPOTrainer),
        "sft": (prefine.SFTConfig, prefine.SFTTrainer),
        "reward": (prefine.RewardConfig, prefine.RewardTrainer),
        "ppo": (prefine.PPOConfig, prefine.PPOTrainer),
        "kto": (prefine.KTOConfig, prefine.KTOTrainer),
        "online": (prefine.OnlineDPOConfig, prefine.OnlineDPOTrainer),
    }[kind]
    adapter = (lora() if kind != "reward" else lora_of_a_classifier()) if peft and not trained else None
    given = {"train_dataset": rows[:count], "eval_dataset": rows[ROWS:], "processing_class": build_tokenizer(), "peft_config": adapter}
    model = None
    if four_bit:
        from prefine.lab.model import build_model
        from prefine.scoring.loading import four_bit_config

        model = str(saved_once(out / "whole", build_model(0, hidden=64, layers=2).save_pretrained))  # as wide as 4-bit takes
        given["quantization_config"] = four_bit_config(torch.float32, engine in ("fsdp", "zero3"))
    if samples:
        rows = [{"prompt": r["prompt"]} for r in pairs]
        model, rewards = sampling(kind, settings, out)
        given |= {"train_dataset": rows[:count], "eval_dataset": rows[ROWS:], **rewards}
    trainer = trainer_kind(model=model_of(kind, untied, trained) if model is None else model, args=config(**settings), **given)
    if starved:
        starve(trainer)
    rollouts: list[Any] = []
    if samples:
        noted = trainer.note_samples
        trainer.note_samples = lambda sampled: (
            noted(sampled) or rollouts.append([[x.group.index, [a.ids for a in x.answers], x.scores] for x in sampled])
        )
    if evaluated:
        trainer.evaluate()
    trainer.train()
    trainer.save_model(str(folder / "saved"))
    logs = trainer.state.log_history
    wanted = ("loss", "grad_norm", "rewards/margins", "accuracy", "eval_loss", "eval_rewards/margins", "eval_accuracy", "num_tokens",
              "objective/kl", "objective/kl_coef", "objective/scores", "objective/scores_std", "objective/disagreement", "kl", "eval_kl",
              "objective/prompts_used", "completions/length", "policy/approxkl", "policy/clipfrac", "loss/policy", "loss/value",
              "val/explained_variance", "eval_objective/scores")  # fmt: skip
    return {
        "logs": [{k: float(e[k]) for k in wanted if k in e} for e in logs if {"loss", "eval_loss", "eval_objective/scores"} & set(e)],
        "rollouts": json.loads(json.dumps(rollouts)),
        "sharded": trainer.together.sharded,
        "bytes": sum(own_part(p).nbytes for p in trainer.model.parameters()),
    }


def starve(trainer: Any) -> None:
    """Memory runs out with some of the packs."""
    pack, calls = trainer.scorer.pack, iter(range(1, 1000))

    def short(groups: Any) -> Any:
        if next(calls) in (2, 9, 20):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return pack(groups)

    trainer.scorer.pack = short


def lora_of_a_classifier(**more: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="SEQ_CLS", modules_to_save=["score"], **more)


def main() -> None:
    import faulthandler
    import warnings

    faulthandler.dump_traceback_later(900, exit=True)  # of what hangs
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    out, engine, processes, names = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4:]
    out.mkdir(parents=True, exist_ok=True)
    found = {name: run(name, CASES[name], out, engine, processes) for name in names}
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        (out / "found.json").write_text(json.dumps(found))
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
