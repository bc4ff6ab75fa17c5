"""``prefine launch``: a training command in several processes of this machine or of several, by torch's launcher."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import uuid
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from prefine.errors import ConfigError, PrefineError

LAUNCHED = ("dpo", "kto", "sft", "reward", "ppo", "online-dpo")
SHUTDOWN = 600
"""Seconds that processes have to end after one of them did: to finish what they write."""
PATIENCE = 120.0
"""Seconds that the name of the head may take to be known: where machines are started together, it is the last one's at times."""
HELP = f"""usage: prefine launch [--processes N] [--machines M --head HOST[:PORT]] COMMAND [OPTIONS]

Runs a training command ({", ".join(LAUNCHED)}) in N processes of this machine, one a GPU; without --processes, as many as there
are GPUs. Each holds the whole model and takes its part of every batch (DDP); with --fsdp true the model's weights are shared out over them
(FSDP2; where nothing is sampled). per_device_train_batch_size is each process's own.

With --machines M the same command is started on M machines, N processes each, which meet at --head, the name of one of them;
--output-dir and the data are to be on a file system that all see. The exit code is the command's: 75 where it was stopped and can go on
(or 2 on a machine that finds the head's launcher gone)."""
PORT = 29400
"""Where machines meet when nothing else is said; torchrun's."""


def launch(words: list[str]) -> int:
    """Run a command's words in several processes; returns the exit code of the first that failed, 0 where none did.

    Raises:
        ConfigError: no such command, or a number or an address that is none.
    """
    if not words or words[0] in ("-h", "--help", "--help-all"):
        print(HELP)
        return 0
    own: dict[str, str] = {}
    while words and (name := words[0].partition("=")[0]) in ("--processes", "--machines", "--head"):
        equals, value = words[0].partition("=")[1:]
        own[name], words = (value, words[1:]) if equals else (words[1] if len(words) > 1 else "", words[2:])
    asked, machines = (_number(name, own[name]) if name in own else None for name in ("--processes", "--machines"))
    if not words or words[0] not in LAUNCHED:
        told = f"{words[0]!r} runs in one process" if words else "no command is named"
        raise ConfigError(f"launch: {told}; expected one of {', '.join(LAUNCHED)}", code="PF-C09")
    head = own.get("--head", "")
    if (machines or 1) > 1 and not head:
        raise ConfigError("--machines needs --head HOST[:PORT], the name of one of them, where they meet", code="PF-C03")
    if head and (machines or 1) == 1:
        raise ConfigError("--head is where several machines meet, and there is one; give --machines, or leave it out", code="PF-C04")
    place = _place(head) if head else "localhost:0"
    import torch

    processes = torch.cuda.device_count() if asked is None else asked
    if not processes:
        raise ConfigError("launch: torch sees no GPU here; give --processes 2, say, to train on the processor", code="PF-C10")
    if torch.cuda.is_available() and processes > torch.cuda.device_count() and "--use-cpu" not in words:
        raise ConfigError(
            f"--processes is {processes}, and torch sees {torch.cuda.device_count()} GPUs; each process needs its own", code="PF-C03"
        )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    return _launched(processes, machines or 1, place, [sys.executable, "-m", "prefine.cli", *words])


def _place(head: str) -> str:
    """Where machines meet, as torch takes it, once the name is known here."""
    try:
        parts = urlsplit(f"//{head}")
        host, place = parts.hostname, head if parts.port else f"{head}:{PORT}"
    except ValueError as error:
        raise ConfigError(f"--head {head}: {error}; expected HOST or HOST:PORT", code="PF-C03") from error
    until = time.monotonic() + PATIENCE
    while True:
        try:
            socket.getaddrinfo(host, None)
            return place
        except OSError as error:
            if time.monotonic() > until:
                raise ConfigError(f"--head {head}: no machine of that name is known here ({error.strerror})", code="PF-C03") from error
        time.sleep(1)


def _number(name: str, value: str) -> int:
    if not value.isdigit() or int(value) < 1:
        raise ConfigError(f"{name} is {value!r}; expected a number from 1 on", code="PF-C03")
    return int(value)


def _launched(processes: int, machines: int, place: str, command: list[str]) -> int:
    import logging

    import psutil
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what failed says so itself
    config: Any = LaunchConfig(
        min_nodes=machines,
        max_nodes=machines,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex if machines == 1 else f"prefine at {place}",
        rdzv_backend="c10d",
        rdzv_endpoint=place,
        max_restarts=0,
        monitor_interval=0.2,
        signals_to_handle="SIGQUIT",  # the others are the command's own to hear
        shutdown_timeout=SHUTDOWN,
    )

    def pass_on(number: int, frame: Any) -> None:
        for process in psutil.Process().children():
            with suppress(psutil.Error):
                process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        elastic_launch(config, command[0])(*command[1:])
    except ChildFailedError as error:
        failed = min(error.failures.values(), key=lambda f: f.timestamp)
        return failed.exitcode if failed.exitcode > 0 else 128 - failed.exitcode
    except RendezvousError as error:
        raise PrefineError(
            f"the machine at {place}, where the others meet, is not reached or has ended; what it said stands there"
        ) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0
