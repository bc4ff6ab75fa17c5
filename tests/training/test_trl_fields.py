"""Every field of every config: read, refused, or of no effect and said so."""

from __future__ import annotations

import copy
import re
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import transformers
from transformers import HfArgumentParser

import prefine
from conftest import lab_pairs
from prefine.errors import ConfigError
from prefine.lab.model import build_model, build_tokenizer
from prefine.training.config.fields import MACHINE, REFUSED, SCRIPTS

CONFIGS = ("DPOConfig", "KTOConfig", "SFTConfig", "RewardConfig", "OnlineDPOConfig", "PPOConfig")
GIVEN: dict[str, Any] = {
    **{"fsdp": "full_shard", "fsdp_config": {"min_num_params": 1}, "parallelism_config": object()},
    **{"torch_compile_backend": "inductor", "torch_compile_mode": "default", "liger_kernel_config": {"rope": True}},
    **{"include_num_input_tokens_seen": "all", "label_names": ["labels"], "train_sampling_strategy": "group_by_length"},
    **{"length_column_name": "len", "pad_to_multiple_of": 8, "pad_token": "<pad>", "dataset_num_proc": 2, "precompute_ref_batch_size": 4},
    **{"cache_implementation": "static"},
}
ALWAYS = {
    "output_dir": "where the model goes",
    "remove_unused_columns": "rows are read as they are; forced off",
    "ignore_data_skip": "samplers are not skipped through; forced on there",
    "gradient_checkpointing_kwargs": "transformers' older name of activation_checkpointing_kwargs, which it sets",
}
"""Fields that are set here, and why."""


def other(value: Any, name: str) -> Any:
    """A value that is not the default."""
    if name in GIVEN:
        return GIVEN[name]
    return (not value) if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else "x"


def made(name: str, folder: Path, **settings: Any) -> Any:
    return getattr(prefine, name)(output_dir=str(folder), **settings)


@pytest.mark.parametrize("name", CONFIGS)
def test_refused_and_moot_fields_say_so(name: str, tmp_path: Path) -> None:
    config = getattr(prefine, name)
    defaults = made(name, tmp_path)
    known = {f.name for f in fields(config)}
    for field, why in REFUSED.items():
        if field in known:
            with pytest.raises(ConfigError, match="would be ignored") as error:
                made(name, tmp_path, **{field: other(defaults.default(field), field)})
            assert why.split(",")[0] in str(error.value), field
    for field in MACHINE:
        if field in known:
            with pytest.warns(UserWarning, match=f"{field}: of no effect"):
                made(name, tmp_path, **{field: other(defaults.default(field), field)})


class Spied:
    """Makes a config remember which of its fields were looked at."""

    def __init__(self, args: Any) -> None:
        self.read: set[str] = set()
        own, read = type(args), self.read

        class Watched(own):  # type: ignore[misc, valid-type]
            def __getattribute__(self, name: str) -> Any:
                read.add(name)
                return super().__getattribute__(name)

        Watched.__qualname__ = Watched.__name__ = f"Watched{own.__name__}"
        globals()[Watched.__name__] = Watched  # it is copied and saved
        args.__class__ = Watched
        self.args = args


def run(name: str, args: Any, folder: Path) -> None:
    """Train two steps with evaluation and a checkpoint, as a script would."""
    tokenizer, model = build_tokenizer(), build_model(0, hidden=32, layers=1)
    pairs = lab_pairs(16)
    asked = [row["prompt"] for row in pairs]
    if name == "DPOConfig":
        trainer: Any = prefine.DPOTrainer(model, None, args, train_dataset=pairs, eval_dataset=pairs[:4], processing_class=tokenizer)
    elif name == "KTOConfig":
        rows = [{"prompt": r["prompt"], "completion": r["chosen"], "label": i % 2 == 0} for i, r in enumerate(pairs)]
        trainer = prefine.KTOTrainer(model, None, args, train_dataset=rows, eval_dataset=rows[:4], processing_class=tokenizer)
    elif name == "SFTConfig":
        rows = [{"messages": [*row["prompt"], {"role": "assistant", "content": "clean the fan"}]} for row in pairs]
        trainer = prefine.SFTTrainer(model, args, train_dataset=rows, eval_dataset=rows[:4], processing_class=tokenizer)
    elif name == "RewardConfig":
        from test_runs import reward_model

        trainer = prefine.RewardTrainer(str(reward_model(folder / "rm", 0)), args, train_dataset=pairs, eval_dataset=pairs[:4])
    elif name == "OnlineDPOConfig":
        score = lambda prompts, answers: [float(len(a)) for a in answers]  # noqa: E731
        trainer = prefine.OnlineDPOTrainer(
            model, None, score, args, train_dataset=asked, eval_dataset=asked[:4], processing_class=tokenizer
        )
    else:
        score = lambda prompts, answers: [float(len(a)) for a in answers]  # noqa: E731
        trainer = prefine.PPOTrainer(args, tokenizer, model, None, score, asked, eval_dataset=asked[:4])
    trainer.train()
    trainer.save_model(str(folder / "saved"))


SETTINGS: dict[str, dict[str, Any]] = {
    "DPOConfig": {"precompute_ref_log_probs": True},
    "KTOConfig": {"precompute_ref_log_probs": True},
    "SFTConfig": {"packing": True, "max_length": 64},
    "RewardConfig": {},
    "OnlineDPOConfig": {"max_new_tokens": 4},
    "PPOConfig": {"response_length": 4, "total_episodes": 16, "value_role": "policy", "num_ppo_epochs": 1},
}
ELSEWHERE = {
    **dict.fromkeys(("sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps"), "training/sync_reference.py"),
    **{
        "reference_cache_dir": "training/with_reference.py",
        "router_aux_loss_coef": "training/pack_trainer.py",
    },
    **{"retain_weight": "training/pack_trainer.py", "retain_batch_size": "training/pack_trainer.py"},
    **{"ensemble": "training/reward.py", "ensemble_bootstrap": "training/reward.py", "eval_packing": "training/sft.py"},
    **dict.fromkeys(("vllm_gpu_memory_utilization", "vllm_enable_sleep_mode", "vllm_tensor_parallel_size"), "training/sampler.py"),
    **dict.fromkeys(("vllm_mode", "vllm_server_timeout"), "training/sampler.py"),
    **dict.fromkeys(("vllm_server_base_url", "vllm_server_host", "vllm_server_port"), "training/config/sampling.py"),
    **{"value_learning_rate": "training/ppo.py", "reward_std_weight": "training/sampler.py", "label_smoothing": "training/reward.py"},
    **{"liger_kernel_config": "training/pack_trainer.py", "trust_remote_code": "training/config/pack.py", "drop_equal": "training/ppo.py"},
    **{"gamma": "training/ppo.py", "lam": "training/ppo.py", "target_kl": "training/ppo.py", "kl_horizon": "training/ppo.py"},
}
"""Fields that only some settings have read: where."""
CHECKED = {
    **dict.fromkeys(("stop_token", "stop_token_id", "max_new_tokens", "use_vllm", "generation_kwargs"), "read or refused by the config"),
    **{name: "refused by the config where it is given" for name in ("vllm_model_impl", "vllm_structured_outputs_regex", "vllm_group_port")},
}


def transformers_source() -> str:
    """The code of transformers that trains; what its configuration says of itself is no use of a field."""
    root = Path(transformers.__file__).parent
    files = [root / "trainer.py", *root.glob("trainer_*.py"), *(root / "integrations").glob("*.py")]
    return "\n".join(f.read_text() for f in files)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_is_read(name: str, tmp_path: Path) -> None:
    """While a run trains, evaluates and saves; or in the code that a run of other settings goes through."""
    steps = {} if name == "PPOConfig" else {"max_steps": 2}
    settings = {"per_device_train_batch_size": 4, "logging_steps": 1, "eval_strategy": "steps", "eval_steps": 1, "disable_tqdm": True}
    settings |= {"save_strategy": "steps", "save_steps": 2, "use_cpu": True, **steps, **SETTINGS[name]}
    spied = Spied(made(name, tmp_path, **settings))
    run(name, spied.args, tmp_path)
    source = transformers_source()
    ours = Path(prefine.__file__).parent
    post_init = (Path(transformers.__file__).parent / "training_args.py").read_text()
    unread = []
    for field in (f.name for f in fields(getattr(prefine, name))):
        if field in spied.read or field in REFUSED or field in MACHINE or field in SCRIPTS or field in ALWAYS or field in CHECKED:
            continue
        if field in ELSEWHERE:
            assert re.search(rf"(args|own|self)\.{field}\b|\"{field}\"", (ours / ELSEWHERE[field]).read_text()), field
            continue
        if re.search(rf"args\.{field}\b", source) or len(re.findall(rf"self\.{field}\b", post_init)) > 0:
            continue
        unread.append(field)
    assert unread == []


def test_no_field_is_in_two_lists() -> None:
    assert not set(REFUSED) & set(MACHINE)
    assert not (set(REFUSED) | set(MACHINE)) & (set(SCRIPTS) | set(ELSEWHERE))


@pytest.mark.parametrize("name", CONFIGS)
def test_argument_parsers_read_every_config(name: str, tmp_path: Path) -> None:
    """transformers' parser, which TRL's builds on: its help, strings for dictionaries, and what was parsed once more."""
    parser = HfArgumentParser(getattr(prefine, name))
    assert "--learning_rate" in parser.format_help()
    words = ["--output_dir", str(tmp_path), "--report_to", "none", "--model_init_kwargs", '{"dtype": "float32"}']
    [args] = parser.parse_args_into_dataclasses([*words, "--lr_scheduler_kwargs", '{"num_cycles": 2}'])
    assert args.model_init_kwargs == {"dtype": "float32"}
    assert args.lr_scheduler_kwargs == {"num_cycles": 2}
    again = parser.parse_dict({k: v for k, v in args.to_dict().items() if k in {f.name for f in fields(args)} and "<" not in str(v)})[0]
    assert again.to_dict() == args.to_dict()


@pytest.mark.parametrize("name", CONFIGS)
def test_a_copy_is_the_same(name: str, tmp_path: Path) -> None:
    args = made(name, tmp_path)
    assert copy.deepcopy(args).to_dict() == args.to_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made(name, tmp_path)  # defaults warn of nothing
