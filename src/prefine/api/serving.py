"""A vLLM server that a run under training samples from."""

from __future__ import annotations

import importlib.util
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

from prefine.api.calls import call
from prefine.api.progress import Progress
from prefine.api.tables import Shows
from prefine.errors import ConfigError


@dataclass
class ServeOptions:
    """Options of ``prefine serve-rollouts``."""

    model: str = field(default="", metadata={"help": "The base that is trained: a folder or Hub id (also as the first word)."})
    lora_r: int = field(default=16, metadata={"help": "The adapter's rank, as in training, or above."})
    host: str = field(default="127.0.0.1", metadata={"help": "Where to listen. Whoever reaches it can have it load any folder."})
    port: int = field(default=8000, metadata={"help": "Where to listen."})
    dtype: str = field(default="bfloat16", metadata={"help": "Of the weights: the trainer's, or it samples otherwise than it is trained."})
    max_length: int | None = field(default=None, metadata={"help": "Maximum tokens of prompt and response. Unset: all the model takes."})
    gpu_memory_utilization: float = field(default=0.9, metadata={"help": "vLLM's share of each GPU's memory."})
    tensor_parallel_size: int = field(default=1, metadata={"help": "GPUs that share the model out."})
    data_parallel_size: int = field(default=1, metadata={"help": "Copies of the model, each with GPUs of its own."})
    show: bool = field(default=False, metadata={"help": "Print the command that would be run, and end."})


@dataclass(repr=False)
class ServerCommand(Shows):
    """The command that starts the server."""

    line: str

    def parts(self) -> list[Any]:
        """What there is to see."""
        return [self.line]


@call(ServeOptions, positional=("model",))
def serve_rollouts(given: ServeOptions, progress: Progress) -> ServerCommand:
    """Run vLLM's server for a policy under training: ``prefine ppo --rollout-engine vllm --vllm-mode server`` samples there.

    The server belongs into vLLM's own environment (``constraints-vllm.txt``). It reads each adapter from the run's folder, which must be
    under the same path there.

    Raises:
        ConfigError: vLLM is not installed, or its server ended with an error.
    """
    from prefine.generation.vllm_engine import vllm_rank

    if not given.model:
        raise ConfigError("serve-rollouts needs the base MODEL that is trained: a folder or Hub id")
    words = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", given.model, "--host", given.host, "--port", str(given.port)]
    words += ["--enable-lora", "--max-lora-rank", str(vllm_rank(given.lora_r)), "--dtype", given.dtype]
    # Those of the tempered distribution that tokens are drawn from, as the trainer scores them.
    words += ["--logprobs-mode", "processed_logprobs", "--gpu-memory-utilization", str(given.gpu_memory_utilization)]
    words += ["--max-model-len", str(given.max_length)] if given.max_length is not None else []
    for name in ("tensor_parallel_size", "data_parallel_size"):
        if getattr(given, name) != 1:
            words += [f"--{name.replace('_', '-')}", str(getattr(given, name))]
    words += ["--api-server-count", "1"] if given.data_parallel_size != 1 else []  # adapters are told to one server
    environment = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    command = ServerCommand(" ".join([*(f"{k}={v}" for k, v in environment.items()), shlex.join(words)]))
    if given.show:
        return command
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "serve-rollouts needs vLLM: pip install -c constraints-vllm.txt 'prefine[vllm]' (Linux with a GPU, an environment of its own)",
            code="PF-C10",
        )
    served = subprocess.Popen(words, env={**os.environ, **environment})
    try:
        code = served.wait()
    except BaseException:  # Ctrl-C, or a signal to this process
        served.send_signal(signal.SIGINT)
        served.wait()
        raise
    if code:
        raise ConfigError(f"vLLM's server ended with exit code {code}; what it said stands above", code="PF-J01")
    return command
