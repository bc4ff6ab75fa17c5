"""Responses kept by what decides them, so that a second judge, or a comparison, costs the judging alone.

What decides a response: the model's weights by their values, the tokenizer's template, the sampling settings, the seed,
and all that was asked.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from prefine.generation.engine import Answer, Engine, Failure, Request, Sampling
from prefine.packing.encoding import KWARGS_NAME
from prefine.packing.end_tokens import end_tokens
from prefine.packing.kept_rows import KeptRows

SCALING = ("peft_type", "r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")
NO_SETTINGS = {"_name_or_path", "use_cache", "transformers_version", "dtype", "torch_dtype", "architectures"}
"""What of a model's config decides no response, or is in its weights."""


class ResponseCache:
    """Responses on disk."""

    def __init__(self, path: Path) -> None:
        self._rows = KeptRows(path, "checked_responses", "responses")

    def get(self, key: str) -> Answer | None:
        """The response kept under a key."""
        kept = self._rows.get(key)
        return None if kept is None else Answer(**kept)

    def put(self, key: str, answer: Answer) -> None:
        """Keep a response."""
        self._rows.put(key, {k: v for k, v in asdict(answer).items() if k != "logps"})


class CachedEngine:
    """An engine that is asked only for what the cache does not hold.

    Args:
        identity: of the model and its tokenizer, as :func:`identity` gives.

    Attributes:
        generated, seconds: responses that were not on disk, and what they took.
    """

    def __init__(self, engine: Engine, cache: ResponseCache, identity: str) -> None:
        self.engine = engine
        self.cache = cache
        self.identity = identity
        self.name = engine.name
        self.generated, self.seconds = 0, 0.0

    def answers(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Answer | Failure]]:
        """Those on disk first, then the others as they come."""
        keys = [self._key(r, sampling) for r in requests]
        left = []
        for place, key in enumerate(keys):
            kept = self.cache.get(key)
            if kept is None:
                left.append(place)
            else:
                yield place, kept
        since = time.perf_counter()
        for place, answer in self.engine.answers([requests[i] for i in left], sampling) if left else ():
            self.generated, self.seconds = self.generated + 1, self.seconds + time.perf_counter() - since
            if isinstance(answer, Answer):
                self.cache.put(keys[left[place]], answer)
            yield left[place], answer
            since = time.perf_counter()

    def _key(self, request: Request, sampling: Sampling) -> str:
        # Greedy responses depend on no seed.
        what = [self.identity, asdict(sampling), request.prompt, request.tools, request.seed if sampling.temperature > 0 else 0]
        what += [dict(request.template_kwargs)] if request.template_kwargs else []
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode("utf-8", "surrogatepass")).hexdigest()


@torch.no_grad()
def identity(model: Any, tokenizer: Any, with_adapter: bool = True) -> str:
    """A hash of the weights' values, the model's and adapter's settings, and the tokenizer with its template.

    Args:
        with_adapter: of a peft model: with its adapters, or as its base alone, under the same name as that base by itself.
    """
    digest = hashlib.sha256()
    adapters = [f".{name}." for name in getattr(model, "peft_config", {})]
    for name, tensor in sorted(model.state_dict().items()):
        # What peft adds: lora_A.NAME.weight and the like; base_layer in the names of what it wraps.
        is_adapter = any(a in f".{name}." for a in adapters) or ".lora_" in name
        if is_adapter and not with_adapter:
            continue
        digest.update(name.removeprefix("base_model.model.").replace(".base_layer", "").encode())
        digest.update(str(tensor.dtype).encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).cpu().numpy())
    for name, adapter in sorted(getattr(model, "peft_config", {}).items()) if with_adapter else ():  # its scaling is no weight
        digest.update(repr((name, [(k, str(getattr(adapter, k, None))) for k in SCALING])).encode())
    ends = sorted(end_tokens(model, tokenizer))
    settings = sorted((k, str(v)) for k, v in model.config.to_dict().items() if k not in NO_SETTINGS)
    template = (getattr(tokenizer, "chat_template", None), getattr(tokenizer, "init_kwargs", {}).get(KWARGS_NAME))
    digest.update(repr((ends, *template, settings)).encode())
    backend = getattr(tokenizer, "backend_tokenizer", None)
    digest.update((backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))).encode("utf-8", "replace"))
    return digest.hexdigest()
