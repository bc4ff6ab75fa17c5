"""``examples/cluster``: each file is held against what reads it, or run with stand-ins for what a cluster has."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefine.cli import find

CLUSTER = Path(__file__).parents[1] / "examples" / "cluster"


def launch_words(text: str) -> list[str]:
    """The words behind ``prefine launch``, of a script or of a pod's arguments."""
    joined = text.replace("\\\n", " ")
    line = next(line for line in joined.splitlines() if "prefine launch" in line)
    return shlex.split(line.partition("prefine launch")[2].partition("||")[0])


def check_words(words: list[str], own: tuple[str, ...] = ("--machines", "--processes", "--head")) -> None:
    """Launch's own options, then a command's: names that it has."""
    at = words.index("dpo")
    assert {w.partition("=")[0] for w in words[:at] if w.startswith("--")} == set(own)
    flags = {option.flag for option in find("dpo").options().values()}
    given = {w.partition("=")[0] for w in words[at + 1 :] if w.startswith("--")}
    assert given <= flags
    assert {"--model", "--data", "--output-dir", "--resume"} <= given


@pytest.mark.parametrize(
    ("name", "fsdp", "processes"),
    [("one_machine_ddp", False, 2), ("one_machine_fsdp2", True, 8), ("two_machines_fsdp2", True, 16)],
)
def test_accelerate_reads_its_configurations(name: str, fsdp: bool, processes: int) -> None:
    """By its own parser and its own launcher's arguments; what the launched processes are told is what Prefine looks for."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    path = str(CLUSTER / f"{name}.yaml")
    config = load_config_from_file(path)
    assert config.num_processes == processes
    args, _, _ = _validate_launch_command(launch_command_parser().parse_args(["--config_file", path, "-m", "prefine.cli", "dpo"]))
    told = prepare_multi_gpu_env(args)
    assert (told.get("ACCELERATE_USE_FSDP", "false").lower() == "true") is fsdp
    assert told.get("FSDP_VERSION") == ("2" if fsdp else None)
    assert told["ACCELERATE_MIXED_PRECISION"] == "bf16"


def test_kubernetes_knows_the_job() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    documents = list(yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text()))
    for document in documents:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    service, job = documents
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert container["args"][0] == "launch"
    check_words(container["args"][1:])
    assert f"--machines={job['spec']['completions']}" in container["args"]
    assert f"--head={job['metadata']['name']}-0.{service['metadata']['name']}" in container["args"]
    assert f"--processes={container['resources']['limits']['nvidia.com/gpu']}" in container["args"]


def test_skypilot_knows_the_task() -> None:
    """Its schema is not installed here: the names are those of sky.utils.schemas.get_task_schema, 0.14.1."""
    task = yaml.safe_load((CLUSTER / "skypilot.yaml").read_text())
    assert set(task) <= {"name", "resources", "envs", "workdir", "file_mounts", "setup", "run"}
    assert set(task["resources"]) <= {"accelerators", "use_spot"}
    check_words(launch_words(task["run"]), ("--processes",))
    for script in (task["setup"], task["run"]):
        assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    known = {"SKYPILOT_NUM_GPUS_PER_NODE", *task["envs"]}
    assert set(re.findall(r"\$([A-Z_]+)", task["run"])) <= known


@pytest.mark.parametrize("ends", [0, 75, 2])
def test_the_slurm_script_goes_on_where_it_was_stopped(ends: int, tmp_path: Path) -> None:
    """With stand-ins for srun, scontrol and prefine that write down what they are called with."""
    programs: dict[str, str] = {
        "srun": 'while [ "${1#--}" != "$1" ]; do shift; done\nexec "$@"\n',
        "scontrol": 'if [ "$1" = show ]; then echo node7; echo node8; else echo "$@" >> "$TOLD"; fi\n',
        "prefine": f'echo "$@" >> "$TOLD"\nexit {ends}\n',
    }
    for name, body in programs.items():
        (tmp_path / name).write_text("#!/bin/bash\n" + body)
        (tmp_path / name).chmod(0o755)
    told = tmp_path / "told"
    environment: dict[str, Any] = {
        **{"PATH": f"{tmp_path}:{os.environ['PATH']}", "TOLD": str(told), "MODEL": "m", "DATA": "d.jsonl"},
        **{"SLURM_JOB_ID": "12", "SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "64", "SLURM_JOB_NODELIST": "node[7-8]"},
    }
    done = subprocess.run(["bash", str(CLUSTER / "slurm.sh")], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == ends, done.stderr
    first, *more = told.read_text().splitlines()
    words = shlex.split(first)
    assert words[0] == "launch"
    check_words(words[1:])
    assert words[words.index("--head") + 1] == "node7"
    assert words[words.index("--output-dir") + 1] == "runs/12"
    assert more == (["requeue 12"] if ends == 75 else [])
