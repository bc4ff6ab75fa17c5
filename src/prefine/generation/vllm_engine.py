"""vLLM as an engine, where it is installed; it batches by itself and holds adapters apart from the base."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prefine.errors import ConfigError, DataError
from prefine.generation.engine import Answer, Failure, Request, Sampling
from prefine.packing.encoding import Encoder
from prefine.packing.end_tokens import end_tokens
from prefine.packing.group import Ids
from prefine.preferences.reasoning import said


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
        vllm, LoRARequest = _vllm("--engine")
        self._vllm = vllm
        self.encoder = Encoder(tokenizer)
        self._ends = end_tokens(None, tokenizer)
        self._adapter = LoRARequest("tuned", 1, adapter) if adapter else None
        self._model = vllm.LLM(model=model, enable_lora=adapter is not None)

    def answers(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Answer | Failure]]:
        """All at once: vLLM schedules them."""
        prompts, settings, places = [], [], []
        for place, request in enumerate(requests):
            try:
                ids = self.encoder.prompt_ids(request.prompt, request.tools, request.template_kwargs)
            except DataError as error:
                yield place, Failure(str(error))
                continue
            places.append(place)
            prompts.append({"prompt_token_ids": ids.tolist()})
            settings.append(
                self._vllm.SamplingParams(
                    max_tokens=sampling.max_new_tokens,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    seed=request.seed % 2**31,
                    stop_token_ids=self._ends,  # beside those of the model's own generation settings, which vLLM reads
                )
            )
        for at, (place, out) in enumerate(zip(places, self._model.generate(prompts, settings, lora_request=self._adapter), strict=True)):
            best = out.outputs[0]
            sampled = list(best.token_ids)
            text = said(self.encoder.tokenizer, sampled, prompts[at]["prompt_token_ids"])
            yield place, Answer(text, sampled, best.finish_reason == "stop", len(sampled))


VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""The largest ranks that vLLM can be told to take; a smaller adapter fits into the next."""


class VllmPolicy:
    """A policy under training in vLLM, in this process: its base is loaded once, its adapter handed over before each rollout.

    Args:
        model: the base, a folder or Hub id.
        ends: ids that end a response; rank: the adapter's.
        max_tokens: most tokens of prompt and answer; None for all the model takes.
        dtype: of the base's weights, as ``"bfloat16"``: another one would sample otherwise than the trainer scores.
        memory_share: of the GPU's memory, for vLLM; training has the rest, and all of it between rollouts where vLLM ``sleeps``.
        gpus: how many share the base out between them (tensor parallelism).

    Raises:
        ConfigError: vLLM is not installed.
    """

    def __init__(
        self,
        model: str,
        tokenizer: Any,
        ends: Sequence[int],
        rank: int,
        max_tokens: int | None,
        dtype: str,
        memory_share: float,
        sleeps: bool = False,
        gpus: int = 1,
    ) -> None:
        self._vllm, self._adapter = _vllm("--rollout-engine")
        self.tokenizer = tokenizer
        self.ends = list(ends)
        self.sleeps = sleeps
        self._asleep = False
        # processed_logprobs: those of the tempered distribution that tokens are drawn from, as the trainer scores them.
        self._model = self._vllm.LLM(
            model=model,
            enable_lora=True,
            max_lora_rank=vllm_rank(rank),
            max_model_len=max_tokens,
            dtype=dtype,
            gpu_memory_utilization=memory_share,
            tensor_parallel_size=gpus,
            enable_sleep_mode=sleeps,
            logprobs_mode="processed_logprobs",
        )
        self._request: Any = None

    def take(self, adapter: str, number: int) -> None:
        """Sample by the adapter in a folder from now on.

        Args:
            number: never the same for two of them. vLLM keeps adapters by it, and the cached keys and values of prompts by the adapter's
                name and folder: under the same name those of an adapter before would be read.
        """
        if self._asleep:
            self._model.wake_up()
            self._asleep = False
        self._model.reset_prefix_cache()
        self._request = self._adapter(f"policy-{number}", number, adapter)

    def sample(self, prompts: Sequence[Ids], sampling: Sampling, seeds: Sequence[int]) -> Iterator[tuple[int, Answer]]:
        """Each prompt's place with its answer and its tokens' log-probs."""
        asked = [{"prompt_token_ids": p.tolist()} for p in prompts]
        settings = [
            self._vllm.SamplingParams(
                max_tokens=sampling.max_new_tokens,
                temperature=sampling.temperature,
                seed=s % 2**31,
                logprobs=0,
                stop_token_ids=self.ends,
            )
            for s in seeds
        ]
        for place, out in enumerate(self._model.generate(asked, settings, lora_request=self._request, use_tqdm=False)):
            best = out.outputs[0]
            ids = list(best.token_ids)
            logps = tuple(float(at[token].logprob) for at, token in zip(best.logprobs, ids, strict=True))
            text = said(self.tokenizer, ids, prompts[place])
            yield place, Answer(text, ids, best.finish_reason == "stop", len(ids), logps)
        if self.sleeps:
            self._model.sleep(level=1)
            self._asleep = True


def vllm_rank(rank: int) -> int:
    """The least of the largest ranks that vLLM can be told to take, for an adapter's rank."""
    return min((r for r in VLLM_RANKS if r >= rank), default=rank)


def _vllm(option: str) -> tuple[Any, Any]:
    try:
        import vllm
        from vllm.lora.request import LoRARequest
    except ImportError as error:
        raise ConfigError(
            f"{option} vllm needs vLLM: pip install 'prefine[vllm]' (Linux with a GPU, an environment of its own), or leave {option} out",
            code="PF-C10",
        ) from error
    return vllm, LoRARequest
