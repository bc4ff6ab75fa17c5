"""In vLLM's place: its calls by name (:mod:`vllm_interface`), and its server's, drawing from base and adapter as they lie on disk.

Like vLLM it goes on with what it knows under a name that it is given again, even where other weights lie in the folder by then.
"""

from __future__ import annotations

import json
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from judge_server import JsonHandler
from vllm_interface import check_call


class Adapters:
    """Policies by their adapters' names."""

    def __init__(self, base: str, tokenizer: Any) -> None:
        self.base = base
        self.tokenizer = tokenizer
        self.loaded: dict[str, Any] = {}
        self.lock = threading.Lock()

    def load(self, name: str, folder: str) -> None:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        if name not in self.loaded:
            self.loaded[name] = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(self.base), folder)

    def sample(self, name: str, prompts: Sequence[list[int]], settings: dict[str, Any], seeds: Sequence[int]) -> list[Any]:
        from prefine.generation.engine import Sampling
        from prefine.generation.generate import generate

        ids = [np.array(p, np.int32) for p in prompts]
        sampling = Sampling(settings["max_tokens"], settings["temperature"])
        with self.lock:
            found = dict(generate(self.loaded[name], self.tokenizer, ids, sampling, list(seeds)))
        return [found[i] for i in range(len(ids))]


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


def fake_vllm(monkeypatch: pytest.MonkeyPatch, tokenizer: Any, stale: bool = False) -> list[str]:
    """Put a stand-in in vLLM's place; returns what it is told, in order, as it is told it.

    Args:
        stale: goes on with the first adapter, whatever it is given.
    """
    told: list[str] = []

    class LLM:
        def __init__(self, **settings: Any) -> None:
            check_call("LLM", "EngineArgs", **settings)
            told.append(f"start sleeping={settings['enable_sleep_mode']} gpus={settings['tensor_parallel_size']}")
            assert settings["max_lora_rank"] == 8
            assert settings["logprobs_mode"] == "processed_logprobs"
            self.adapters = Adapters(settings["model"], tokenizer)

        def generate(self, prompts: Any, sampling_params: Any, **more: Any) -> Any:
            check_call("LLM.generate", **more)
            request = more["lora_request"]
            name = "always" if stale else request.lora_name
            told.append(f"generate {request.lora_name} {request.lora_int_id}")
            self.adapters.load(name, request.lora_path)
            ids = [p["prompt_token_ids"] for p in prompts]
            for a in self.adapters.sample(name, ids, sampling_params[0], [s["seed"] for s in sampling_params]):
                logprobs = [{t: types.SimpleNamespace(logprob=lp)} for t, lp in zip(a.ids, a.logps, strict=True)]
                out = types.SimpleNamespace(token_ids=tuple(a.ids), logprobs=logprobs, finish_reason="stop" if a.ended else "length")
                yield types.SimpleNamespace(outputs=[out])

        def reset_prefix_cache(self) -> bool:
            told.append("reset")
            return True

        def sleep(self, level: int = 1) -> None:
            told.append(f"sleep {level}")

        def wake_up(self) -> bool:
            told.append("wake")
            return True

    def sampling_params(**given: Any) -> dict[str, Any]:
        check_call("SamplingParams", **given)
        assert given["stop_token_ids"]
        return given

    fake = types.ModuleType("vllm")
    fake.LLM, fake.SamplingParams = LLM, sampling_params  # type: ignore[attr-defined]
    lora, request = types.ModuleType("vllm.lora"), types.ModuleType("vllm.lora.request")
    request.LoRARequest = LoRARequest  # type: ignore[attr-defined]
    for name, module in (("vllm", fake), ("vllm.lora", lora), ("vllm.lora.request", request)):
        monkeypatch.setitem(sys.modules, name, module)
    return told


class VllmServing(ThreadingHTTPServer):
    """vLLM's server: adapters are loaded and unloaded by its routes, and prompts of token ids are completed.

    Attributes:
        told: adapters loaded and unloaded, in order; asked: how many completions; broken: leaves the token ids out.
    """

    daemon_threads = True

    def __init__(self, base: str, tokenizer: Any) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.adapters = Adapters(base, tokenizer)
        self.base = base
        self.told: list[str] = []
        self.asked = 0
        self.broken = False
        self.takes_adapters = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(JsonHandler):
    server: VllmServing

    def do_GET(self) -> None:
        assert self.path == "/v1/models"
        self._send(200, {"object": "list", "data": [{"id": self.server.base, "object": "model"}]})

    def do_POST(self) -> None:
        body, server = json.loads(self.rfile.read(int(self.headers["Content-Length"]))), self.server
        if self.path != "/v1/completions" and not server.takes_adapters:
            self._send(404, {"detail": "Not Found"})
            return
        check_call(self.path, **body)
        if self.path == "/v1/load_lora_adapter":
            server.adapters.load(body["lora_name"], body["lora_path"])
            server.told.append(f"load {body['lora_name']}")
            self._send(200, "Success")
        elif self.path == "/v1/unload_lora_adapter":
            server.told.append(f"unload {body['lora_name']}")
            self._send(200, "Success")
        else:
            server.asked += 1
            assert body["return_token_ids"] is True
            [a] = server.adapters.sample(body["model"], [body["prompt"]], body, [body["seed"]])
            choice: dict[str, Any] = {"index": 0, "text": a.text, "finish_reason": "stop" if a.ended else "length"}
            if not server.broken:
                choice |= {"token_ids": list(a.ids), "logprobs": {"token_logprobs": list(a.logps)}}
            self._send(200, {"id": "x", "object": "text_completion", "created": 0, "model": body["model"], "choices": [choice]})


@contextmanager
def vllm_serving(base: str, tokenizer: Any) -> Iterator[VllmServing]:
    """A server on loopback."""
    server = VllmServing(base, tokenizer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
