"""vLLM as an engine, where it is installed; it batches by itself and holds adapters apart from the base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prefine.errors import ConfigError, DataError
from prefine.generation.engine import Answer, Failure, Request, Sampling
from prefine.packing.encoding import Encoder


class VllmEngine:
    """A model in vLLM.

    Args:
        model: a folder or Hub id of a whole model.
        adapter: a folder with a LoRA adapter for it.

    Raises:
        ConfigError: vLLM is not installed.
    """

    name = "vllm"

    def __init__(self, model: str, tokenizer: Any, adapter: str | None = None) -> None:
        try:
            import vllm
            from vllm.lora.request import LoRARequest
        except ImportError as error:
            raise ConfigError("--engine vllm needs vLLM: pip install vllm (Linux with a GPU), or leave --engine out") from error
        self._vllm = vllm
        self.encoder = Encoder(tokenizer)
        self._adapter = LoRARequest("tuned", 1, adapter) if adapter else None
        self._model = vllm.LLM(model=model, enable_lora=adapter is not None)

    def answers(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Answer | Failure]]:
        """All at once: vLLM schedules them."""
        prompts, settings, places = [], [], []
        for place, request in enumerate(requests):
            try:
                ids = self.encoder.prompt_ids(request.prompt, request.tools)
            except DataError as error:
                yield place, Failure(str(error))
                continue
            places.append(place)
            prompts.append({"prompt_token_ids": ids.tolist()})
            settings.append(
                self._vllm.SamplingParams(
                    max_tokens=sampling.max_new_tokens, temperature=sampling.temperature, top_p=sampling.top_p, seed=request.seed % 2**31
                )
            )
        for place, out in zip(places, self._model.generate(prompts, settings, lora_request=self._adapter), strict=True):
            best = out.outputs[0]
            sampled = list(best.token_ids)
            yield place, Answer(best.text.strip(), sampled, best.finish_reason == "stop", len(sampled))
