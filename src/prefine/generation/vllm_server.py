"""A policy under training in a vLLM server (``prefine serve-rollouts``): an environment, GPUs and perhaps a machine of its own.

The server is vLLM's own. It is told of each adapter by its folder, which it must see under the same path, and asked in token ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from prefine.errors import ConfigError, ModelError
from prefine.generation.engine import Answer, Sampling
from prefine.packing.group import Ids
from prefine.preferences.reasoning import said
from prefine.redaction import brief

UNDER_WAY = 256
"""Most requests at once: vLLM batches them by itself."""


class VllmServer:
    """A server that samples.

    Args:
        address: as ``http://127.0.0.1:8000``.
        run: what no other run that asks the server is called; the same in all processes of this one.
        ends: ids that end a response.

    Raises:
        ConfigError: nobody answers there.
    """

    def __init__(self, address: str, tokenizer: Any, ends: Sequence[int], run: str, timeout_seconds: float) -> None:
        import openai

        self.address = address.rstrip("/")
        self.tokenizer = tokenizer
        self.ends = list(ends)
        self.run = run
        self._openai = openai
        self._client: Any = openai.OpenAI(api_key="none", base_url=f"{self.address}/v1", timeout=timeout_seconds, max_retries=4)
        self._name = self._before = ""
        try:
            self._client.models.list()
        except openai.OpenAIError as error:
            raise ConfigError(
                f"{self.address}: no vLLM server answers there ({brief(error)}); start one with prefine serve-rollouts, or give another "
                "--vllm-server-base-url",
                code="PF-J01",
            ) from error

    def follow(self, number: int) -> None:
        """Sample by the adapter of this number, which another process hands over."""
        self._before, self._name = self._name, f"{self.run}-{number}"

    def take(self, adapter: str, number: int) -> None:
        """Sample by the adapter in a folder from now on.

        Args:
            number: never the same for two of them: the server keeps what it knows of prompts by the adapter's name.

        Raises:
            ConfigError: the server cannot load it.
        """
        self.follow(number)
        try:
            self._post("load_lora_adapter", {"lora_name": self._name, "lora_path": adapter})
        except self._openai.NotFoundError as error:
            raise ConfigError(
                f"{self.address}: takes no adapters while it runs, or does not see {adapter} ({brief(error)}); start it with prefine "
                "serve-rollouts, where this folder is under the same path",
                code="PF-J04",
            ) from error
        except self._openai.OpenAIError as error:
            raise ConfigError(f"{self.address}: cannot load the adapter in {adapter} ({brief(error)})", code="PF-J04") from error
        if self._before:
            with suppress(self._openai.OpenAIError):  # a server that was started anew has it no more
                self._post("unload_lora_adapter", {"lora_name": self._before})

    def _post(self, what: str, body: dict[str, Any]) -> None:
        # Not tried again: what was done, and not heard of, would be refused as done.
        self._client.with_options(max_retries=0).post(f"/{what}", body=body, cast_to=str)

    def sample(self, prompts: Sequence[Ids], sampling: Sampling, seeds: Sequence[int]) -> Iterator[tuple[int, Answer]]:
        """Each prompt's place with its answer and its tokens' log-probs.

        Raises:
            ModelError: the server fails, or gives no token ids.
        """

        def one(prompt: Ids, seed: int) -> Answer:
            out = self._client.completions.create(
                model=self._name,
                prompt=prompt.tolist(),
                max_tokens=sampling.max_new_tokens,
                temperature=sampling.temperature,
                top_p=1.0,
                seed=seed % 2**31,
                logprobs=0,
                # Named although they change nothing: a model's own generation settings would take their place.
                extra_body={"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "stop_token_ids": self.ends, "return_token_ids": True},
            ).choices[0]
            ids = list(out.token_ids)
            text = said(self.tokenizer, ids, prompt)
            return Answer(text, ids, out.finish_reason == "stop", len(ids), tuple(map(float, out.logprobs.token_logprobs)))

        with ThreadPoolExecutor(UNDER_WAY) as pool:
            try:
                yield from enumerate(pool.map(one, prompts, seeds))
            except self._openai.OpenAIError as error:
                raise ModelError(f"{self.address}: sampling failed ({brief(error)})", code="PF-M11") from error
            except (AttributeError, TypeError, IndexError) as error:
                raise ModelError(
                    f"{self.address}: gives no token ids with their log-probs ({brief(error)}); prefine serve-rollouts starts a server "
                    "that does",
                    code="PF-M11",
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)
