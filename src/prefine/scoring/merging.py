"""An adapter folded into its base: one plain folder that any loader takes, proven equal before it is written."""

from __future__ import annotations

import copy
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from prefine.errors import ConfigError, ModelError
from prefine.packing.end_tokens import keep_ends
from prefine.packing.out_of_memory import smaller_on_oom
from prefine.scoring.limits import fit_tokenizer
from prefine.scoring.loading import load_model, load_tokenizer

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 6e-2, torch.float16: 1e-2}
"""Largest difference of a log-prob between base with adapter and merged that rounding explains."""
WAYS = ((True, "50GB"), (False, "1GB"), (False, "100MB"))
"""Whether each weight is merged in a copy, and the largest file: tried in turn where memory runs out. The log-probs prove all of them."""


@dataclass(frozen=True)
class Merged:
    """What was written.

    Attributes:
        difference: largest difference of a log-prob, nats; None where there was no adapter to merge.
    """

    folder: Path
    dtype: str
    difference: float | None


def merge(source: Path, output: Path, dtype: torch.dtype = torch.float32, trust_remote_code: bool = False) -> Merged:
    """Merge a folder's adapter into its base in full precision and save it with its tokenizer, as safetensors.

    Raises:
        ConfigError: the output is there already.
        ModelError: the merged model does not say what base and adapter say.
    """
    if output.exists() and any(output.iterdir()):
        raise ConfigError(f"{output}: already there; give another --output", code="PF-C05")
    left = list(WAYS)

    def shrink() -> None:
        left.pop(0)
        if not left:
            raise ModelError(f"{source}: out of memory while merging, also weight by weight; merge in --dtype bfloat16", code="PF-M08")
        warnings.warn("out of memory while merging; doing it again in smaller pieces, same result", stacklevel=2)

    return smaller_on_oom(
        lambda: _merge(source, output, dtype, trust_remote_code, *left[0]), shrink, lambda: shutil.rmtree(output, ignore_errors=True)
    )


def _merge(source: Path, output: Path, dtype: torch.dtype, trust_remote_code: bool, safe: bool, shard: str) -> Merged:
    tokenizer = load_tokenizer(str(source), trust_remote_code)
    model = load_model(str(source), dtype, trust_remote_code=trust_remote_code).eval()
    fit_tokenizer(model, tokenizer)
    difference = None
    if hasattr(model, "peft_config"):
        probe = torch.randint(0, model.config.get_text_config().vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))
        before = _logps(model, probe)
        model = model.merge_and_unload(safe_merge=safe)
        difference = float((_logps(model, probe) - before).abs().max())
        if not difference <= TOLERANCE.get(dtype, 1e-4):
            raise ModelError(
                f"{source}: merged log-probs differ from base and adapter's by {difference:.2g} nats; merge in --dtype float32",
                code="PF-M16",
            )
    keep_ends(model, tokenizer)
    model.generation_config = _sound(model.generation_config)
    model.save_pretrained(output, max_shard_size=shard)
    tokenizer.save_pretrained(output)
    return Merged(output, str(dtype).removeprefix("torch."), difference)


@torch.no_grad()
def _logps(model: Any, ids: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = model(input_ids=ids.to(model.device), use_cache=False).logits.float().log_softmax(-1)
    return out


def _sound(settings: Any) -> Any:
    """Generation settings that save_pretrained takes: sampling numbers without sampling are refused there."""
    fixed = copy.deepcopy(settings)
    if not fixed.do_sample and any(
        getattr(fixed, n, None) not in (None, d) for n, d in (("temperature", 1.0), ("top_p", 1.0), ("top_k", 50))
    ):
        fixed.do_sample = True
    return fixed
