"""What Prefine calls of vLLM, by name: ``python tests/vllm_interface.py vllm-*.whl`` looks for each name in a wheel's source.

vLLM needs a GPU and an environment of its own. What stands in its place in tests takes these names alone (:func:`check_call`), so that a
call that vLLM would not understand is found without it. Last held against vllm 0.33.0.
"""

from __future__ import annotations

import ast
import sys
import zipfile
from typing import Any

LLM, ARGS = "vllm/entrypoints/llm.py", "vllm/engine/arg_utils.py"
LORA, COMPLETION = "vllm/entrypoints/serve/lora/protocol.py", "vllm/entrypoints/openai/completion/protocol.py"
USED: dict[str, tuple[str, str, str | None, set[str]]] = {
    # a call: file, class, method (None: the class's fields), names
    "LLM": (LLM, "LLM", "__init__", {"model", "dtype", "gpu_memory_utilization", "tensor_parallel_size"}),
    "EngineArgs": (ARGS, "EngineArgs", None, {"enable_lora", "max_lora_rank", "max_model_len", "enable_sleep_mode", "logprobs_mode"}),
    "LLM.generate": (LLM, "LLM", "generate", {"prompts", "sampling_params", "lora_request", "use_tqdm"}),
    "LLM.reset_prefix_cache": (LLM, "LLM", "reset_prefix_cache", set()),
    "LLM.sleep": (LLM, "LLM", "sleep", {"level"}),
    "LLM.wake_up": (LLM, "LLM", "wake_up", set()),
    "SamplingParams": (
        *("vllm/sampling_params.py", "SamplingParams", None),
        {"max_tokens", "temperature", "top_p", "seed", "logprobs", "stop_token_ids"},
    ),
    "LoRARequest": ("vllm/lora/request.py", "LoRARequest", None, {"lora_name", "lora_int_id", "lora_path"}),
    "/v1/load_lora_adapter": (LORA, "LoadLoRAAdapterRequest", None, {"lora_name", "lora_path"}),
    "/v1/unload_lora_adapter": (LORA, "UnloadLoRAAdapterRequest", None, {"lora_name"}),
    "/v1/completions": (
        *(COMPLETION, "CompletionRequest", None),
        {"model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "logprobs"}
        | {"stop_token_ids", "return_token_ids"},
    ),
    "a choice": (COMPLETION, "CompletionResponseChoice", None, {"index", "text", "token_ids", "logprobs", "finish_reason"}),
    "its log-probs": (COMPLETION, "CompletionLogProbs", None, {"token_logprobs"}),
    "vllm serve": (
        *(ARGS, "EngineArgs", None),
        {"enable_lora", "max_lora_rank", "max_model_len", "dtype", "gpu_memory_utilization", "logprobs_mode"}
        | {"tensor_parallel_size", "data_parallel_size"},
    ),
    "vllm serve's server": ("vllm/entrypoints/common/cli_args.py", "FrontendArgs", None, {"host", "port"}),
}
WORDS = {
    "vllm/envs.py": "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    "vllm/entrypoints/serve/lora/api_router.py": '"/v1/load_lora_adapter"',
    "vllm/entrypoints/cli/main.py": "__main__",
    "vllm/entrypoints/cli/serve.py": "api_server_count",
}


def check_call(name: str, *also: str, **given: Any) -> None:
    """Whether vLLM would understand a call of these names; ``also`` has further calls that they may belong to."""
    known = set().union(*(USED[n][3] for n in (name, *also)))
    assert set(given) <= known, f"vLLM's {name}: {sorted(set(given) - known)}"


def missing(wheel: str) -> list[str]:
    """Names that a wheel's source has not."""
    out, trees = [], {}
    with zipfile.ZipFile(wheel) as files:
        for call, (path, kind, method, names) in USED.items():
            tree = trees.setdefault(path, ast.parse(files.read(path)))
            [found] = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == kind]
            if method is None:
                there = {n.target.id for n in found.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
            else:
                [function] = [n for n in found.body if isinstance(n, ast.FunctionDef) and n.name == method]
                there = {a.arg for a in (*function.args.args, *function.args.kwonlyargs)}
            out += [f"{call}: {name}" for name in sorted(names - there)]
        out += [f"{path}: {word}" for path, word in WORDS.items() if word not in files.read(path).decode()]
    return out


if __name__ == "__main__":
    lost = missing(sys.argv[1])
    print("\n".join(lost) or "all there")
    sys.exit(bool(lost))
