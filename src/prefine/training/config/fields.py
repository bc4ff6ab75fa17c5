"""What becomes of transformers' and TRL's options that packed trainers do not use as they stand."""

from __future__ import annotations

from collections.abc import Mapping

REFUSED: Mapping[str, str] = {
    "parallelism_config": "packs would not be computed as they should be; several processes are supported by DDP (torchrun), FSDP2 (fsdp) "
    "and DeepSpeed (deepspeed)",
    **dict.fromkeys(
        ("torch_compile", "torch_compile_backend", "torch_compile_mode"), "every packed batch has another shape and would be compiled anew"
    ),
    "auto_find_batch_size": "memory that runs out halves the token budget, and the batch stays as it is",
    "label_smoothing_factor": "it is of transformers' own loss; DPO and reward models have label_smoothing",
    "average_tokens_across_devices": "tokens are always counted over all processes",
    "include_num_input_tokens_seen": "num_tokens is logged always",
    "use_cache": "training needs no cache, and sampling always has one",
    "label_names": "batches are packed prompt groups and have no labels",
    "length_column_name": "no batch is padded, so grouping rows by length saves nothing",
}
"""Options that nothing here would read, and why: given, they are an error."""

MACHINE: Mapping[str, str] = {
    **dict.fromkeys(("padding_free", "pad_to_multiple_of"), "packed batches hold no padding"),
    "pad_token": "packed batches hold no padding",
    "precompute_ref_batch_size": "the token budget sizes every forward pass",
    "local_rollout_forward_batch_size": "the token budget sizes every forward pass",
    "num_sample_generations": "samples are written into the run directory; num_sample_texts says how many",
    "ds3_gather_for_generation": "what samples is trained without DeepSpeed",
    "cache_implementation": "the sampler has a cache of its own",
}
"""TRL's options that only say how its machine runs: taken with a warning, so that scripts move over; no result depends on them."""

SCRIPTS = ("do_train", "do_eval", "do_predict", "resume_from_checkpoint", "local_rank", "sft_model_path", "reward_model_path")
"""Options that no trainer reads, transformers' and TRL's neither: they are for the script that has parsed them, or the launcher."""
