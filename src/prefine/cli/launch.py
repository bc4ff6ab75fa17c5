"""``prefine launch``: a training command in several processes of this machine, by torch's launcher."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from typing import Any

from prefine.errors import ConfigError

LAUNCHED = ("dpo", "sft", "reward", "ppo", "online-dpo")
HELP = f"""usage: prefine launch [--processes N] COMMAND [OPTIONS]

Runs a training command ({", ".join(LAUNCHED)}) in N processes of this machine, one a GPU; without --processes, as many as there are GPUs.
Each holds the whole model and takes its part of every batch (DDP); with --fsdp true the model's weights are shared out over them (FSDP2).
per_device_train_batch_size is each process's own.

Over several machines: torchrun or accelerate launch, with -m prefine.cli and the command's words."""


def launch(words: list[str]) -> int:
    """Run a command's words in several processes; returns the exit code of the first that failed, 0 where none did.

    Raises:
        ConfigError: no such command, or no number of processes.
    """
    if not words or words[0] in ("-h", "--help", "--help-all"):
        print(HELP)
        return 0
    processes: int | None = None
    if words[0].partition("=")[0] == "--processes":
        equals, value = words[0].partition("=")[1:]
        value, words = (value, words[1:]) if equals else (words[1] if len(words) > 1 else "", words[2:])
        if not value.isdigit() or int(value) < 1:
            raise ConfigError(f"--processes is {value!r}; expected a number from 1 on", code="PF-C03")
        processes = int(value)
    if not words or words[0] not in LAUNCHED:
        told = f"{words[0]!r} runs in one process" if words else "no command is named"
        raise ConfigError(f"launch: {told}; expected one of {', '.join(LAUNCHED)}", code="PF-C09")
    import torch

    if processes is None:
        processes = torch.cuda.device_count()
        if not processes:
            raise ConfigError("launch: torch sees no GPU here; give --processes 2, say, to train on the processor", code="PF-C10")
    elif torch.cuda.is_available() and processes > torch.cuda.device_count() and "--use-cpu" not in words:
        raise ConfigError(
            f"--processes is {processes}, and torch sees {torch.cuda.device_count()} GPUs; each process needs its own", code="PF-C03"
        )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    return _launched(processes, [sys.executable, "-m", "prefine.cli", *words])


def _launched(processes: int, command: list[str]) -> int:
    import logging

    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what failed says so itself
    config: Any = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.2,
    )
    try:
        elastic_launch(config, command[0])(*command[1:])
    except ChildFailedError as error:
        failed = min(error.failures.values(), key=lambda f: f.timestamp)
        return failed.exitcode if failed.exitcode > 0 else 128 - failed.exitcode
    except SignalException as stopped:
        return 130 if stopped.sigval == signal.SIGINT else 128 + int(stopped.sigval)
    return 0
