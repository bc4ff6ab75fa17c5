"""Commands in several processes, as people start them: files once, words once, errors once, stops and resumes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from conftest import hearing
from prefine.errors import ConfigError, MissingFile
from vllm_double import vllm_serving

PREFINE = [sys.executable, "-m", "prefine.cli"]
SETTINGS = [
    *("--max-steps", "6", "--per-device-train-batch-size", "4", "--learning-rate", "1e-3", "--save-steps", "3"),
    *("--logging-steps", "1", "--eval-fraction", "0.2"),
]

RUN_BY: dict[str, list[str]] = {"ddp": [], "fsdp": ["--fsdp", "true"]}
if find_spec("deepspeed") is not None:
    RUN_BY |= {"zero2": ["--deepspeed", "zero2"], "zero3": ["--deepspeed", "zero3"]}
"""Engines, and how they are asked for."""


def run(words: list[Any], processes: int = 2, launcher: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    launch = [*PREFINE, "launch", "--processes", str(processes)] if launcher is None else launcher
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*launch, *map(str, words)], capture_output=True, text=True, timeout=200, check=False, env=environment)


def losses(folder: Path) -> list[float]:
    return [m["loss"] for m in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()) if "loss" in m]


@pytest.mark.processes
def test_a_run_of_two_is_a_run_of_one(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    common = ["dpo", "--model", lab_model, "--data", pairs_file, *SETTINGS]
    alone, *others = folders = [tmp_path / name for name in ("alone", *RUN_BY)]
    done = run([*common, "--output-dir", alone, "--per-device-train-batch-size", 8], launcher=PREFINE)
    assert done.returncode == 0, done.stderr
    for folder in others:
        done = run([*common, "--output-dir", folder, *RUN_BY[folder.name]])
        assert done.returncode == 0, done.stderr
        assert losses(folder) == pytest.approx(losses(alone), rel=1e-5)
        assert done.stdout.count("run directory: ") == done.stdout.count("report: ") == 1
        assert "Traceback" not in done.stderr
        weights = load_file(folder / "model" / "model.safetensors")
        for name, weight in load_file(alone / "model" / "model.safetensors").items():
            torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=1e-4)
        assert (folder / "report.html").exists()
    summaries = [json.loads((folder / "eval" / "final" / "summary.json").read_text()) for folder in folders]
    assert [summary["learning"]["accuracy"] for summary in summaries] == len(folders) * [summaries[0]["learning"]["accuracy"]]
    assert len({summary["sentence"].replace(str(folder), "RUN") for summary, folder in zip(summaries, folders, strict=True)}) == 1
    done = run(["eval", others[-1]], launcher=PREFINE)
    assert done.returncode == 0, done.stderr


@pytest.mark.processes
def test_one_mistake_is_told_once(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    for more, told in (
        (["--map", "chosen=good"], "there is no column 'good'"),
        (["--loss-typ", "ipo"], "did you mean 'loss_type'"),
        (["--fsdp", "true", "--fsdp-config", '{"version": 1}'], "FSDP1 is not supported"),
        (["--accelerator-config", '{"split_batches": true}'], "split_batches and even_batches would be ignored"),
    ):
        done = run(["dpo", "--model", lab_model, "--data", pairs_file, "--output-dir", tmp_path / "run", *SETTINGS, *more])
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("prefine: error:") == 1, done.stderr
        assert told in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--processes", "0", "dpo"], "expected a number from 1 on"),
        (["--processes", "2", "eval"], "'eval' runs in one process"),
        (["--processes=2"], "no command is named"),
        (["--machines", "two", "dpo"], "--machines is 'two'"),
        (["--machines", "2", "--processes", "1", "dpo"], "needs --head"),
        (["--head", "node0", "--processes", "1", "dpo"], "where several machines meet"),
        (["--machines", "2", "--head", "no-such-host", "--processes", "1", "dpo"], "no machine of that name"),
        (["--machines", "2", "--head", "node0:x", "--processes", "1", "dpo"], "expected HOST or HOST:PORT"),
    ],
)
def test_what_cannot_be_launched_is_said(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefine.cli import launch, main

    monkeypatch.setattr(launch, "PATIENCE", 0.0)
    assert main(["launch", *words]) == 2
    assert told in capsys.readouterr().err


@pytest.fixture(scope="module")
def left_alone(lab_model: Path, pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    words = ["dpo", "--model", lab_model, "--data", pairs_file, *SETTINGS, "--final-eval", "off", "--max-steps", 40]
    assert run([*words, "--per-device-train-batch-size", 8, "--output-dir", folder], launcher=PREFINE).returncode == 0
    return losses(folder)


@pytest.mark.processes
@pytest.mark.parametrize("engine", [engine for engine in RUN_BY if engine != "zero2"])
def test_one_process_dies_and_the_run_goes_on(
    engine: str, left_alone: list[float], lab_model: Path, pairs_file: Path, tmp_path: Path
) -> None:
    """Killed at a checkpoint, the other does not wait for it; resumed, the steps are those of a run that was left alone."""
    common = ["dpo", "--model", lab_model, "--data", pairs_file, *SETTINGS, *RUN_BY[engine], "--final-eval", "off", "--max-steps", 40]
    cut = tmp_path / "cut"
    words = [*PREFINE, "launch", "--processes", "2", *map(str, common), "--output-dir", str(cut)]
    launched = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline = time.monotonic() + 120
        while not (cut / "checkpoints" / "checkpoint-3" / "prefine_manifest.json").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        children = subprocess.run(["pgrep", "-P", str(launched.pid)], capture_output=True, text=True, check=False).stdout.split()
        os.kill(int(children[-1]), signal.SIGKILL)
        killed = time.monotonic()
        assert launched.wait(timeout=60) != 0
        assert time.monotonic() - killed < 60
    finally:
        launched.kill()
    for later in cut.glob("checkpoints/checkpoint-*"):
        if int(later.name.rpartition("-")[2]) > 3:
            shutil.rmtree(later)
    done = run([*common, "--output-dir", cut, "--resume"])
    assert done.returncode == 0, done.stderr
    assert "resuming from step 3" in done.stdout
    assert losses(cut) == pytest.approx(left_alone, rel=5e-5)
    if engine.startswith("zero"):
        done = run([*common, "--output-dir", cut, "--resume", "--per-device-train-batch-size", 8], 1)
        assert (done.returncode, f"ZeRO-{engine[-1]} in 2 processes, and this is ZeRO-{engine[-1]} in 1" in done.stderr) == (2, True), (
            done.stderr
        )


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("zero4", "zero4 could not be read"),
        ("{", "is no JSON"),
        ("{}", "stage is 0; expected 1, 2 or 3"),
        ({"optimizer": {"type": "AdamW"}}, "optimizer (--optim says which) would be ignored"),
        ({"gradient_clipping": 0.3}, "gradient_clipping is 0.3 and max_grad_norm is 1.0"),
        ({"train_batch_size": 5}, "train_batch_size is 5 and a batch of all processes is 8"),
        ({"bf16": {"enabled": True}}, "bf16.enabled is True and bf16 is False"),
        ({"fp16": {"enabled": True}}, "fp16 is not supported"),
    ],
)
def test_deepspeeds_settings_that_would_not_be_what_they_say(settings: Any, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefine import DPOConfig

    monkeypatch.setenv("WORLD_SIZE", "1")
    given = settings if isinstance(settings, str) else json.dumps({"zero_optimization": {"stage": 2}, **settings})
    with pytest.raises((ConfigError, MissingFile), match=re.escape(told)):
        DPOConfig("x", deepspeed=given, bf16=False, use_cpu=True)


WITHOUT_DEEPSPEED = {
    "DPOConfig('x', deepspeed='zero2', fsdp=True)": "give one of the two",
    "DPOConfig('x', deepspeed='zero3', sync_ref_model=True)": "give zero2",
    "PPOConfig('x', deepspeed='zero1')": "nothing is sampled from a policy",
    "OnlineDPOConfig('x', deepspeed='zero3')": "nothing is sampled from a policy",
    "RewardConfig('x', deepspeed='zero2', ensemble=2)": "members of an ensemble",
}


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
def test_what_deepspeed_does_not_train() -> None:
    script = """
import sys
from prefine import *
for code in sys.argv[1:]:
    try:
        eval(code)
    except Exception as error:
        print(code, "->", error)
"""
    environment = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    words = [sys.executable, "-c", script, *(code.replace(")", ", use_cpu=True, ddp_backend='gloo')") for code in WITHOUT_DEEPSPEED)]
    done = subprocess.run(words, env=os.environ | environment, capture_output=True, text=True, timeout=200, check=False)
    told = [line for line in done.stdout.splitlines() if " -> " in line]
    assert len(told) == len(WITHOUT_DEEPSPEED), done.stderr
    for line, expected in zip(told, WITHOUT_DEEPSPEED.values(), strict=True):
        assert expected in line


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
def test_deepspeed_needs_a_launcher() -> None:
    from prefine import DPOConfig

    with pytest.raises(ConfigError, match="needs a launcher"):
        DPOConfig("x", deepspeed="zero2", use_cpu=True)


ENGINES: dict[str, tuple[list[str], int]] = {
    "alone": (["--per-device-train-batch-size", "8"], 1),
    "ddp": ([], 2),
    "fsdp": (["--fsdp", "true"], 2),
}


@pytest.mark.processes
@pytest.mark.parametrize("more", [[], ["--lora-r", "4", "--learning-rate", "1e-2"]], ids=["whole", "LoRA"])
def test_a_checkpoint_is_resumed_by_any_engine(more: list[str], lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    """Of one process, of two, of two that share the weights: the same files, and the same steps behind them."""
    common = ["dpo", "--model", lab_model, "--data", pairs_file, *SETTINGS, *more, "--final-eval", "off"]

    def started(engine: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        options, processes = ENGINES[engine]
        return run([*common, *options, "--output-dir", folder, *words], processes, PREFINE if processes == 1 else None)

    for engine in ("fsdp", "ddp"):
        assert started(engine, tmp_path / engine).returncode == 0
    names = [sorted(p.name for p in (tmp_path / e / "checkpoints" / "checkpoint-3").iterdir()) for e in ("fsdp", "ddp")]
    assert names[0] == names[1]
    expected = losses(tmp_path / "ddp")
    for of, by in (("fsdp", "fsdp"), ("fsdp", "ddp"), ("fsdp", "alone"), ("ddp", "fsdp"), ("ddp", "alone")):
        folder = tmp_path / f"{of}-{by}"
        shutil.copytree(tmp_path / of, folder)
        for made in ("model", "checkpoints/checkpoint-6"):
            shutil.rmtree(folder / made)
        done = started(by, folder, "--resume")
        assert done.returncode == 0, (of, by, done.stderr)
        assert "resuming from step 3" in done.stdout
        assert losses(folder) == pytest.approx(expected, rel=1e-5), (of, by)
    done = run([*common, "--output-dir", tmp_path / "ddp", "--resume"], launcher=PREFINE)
    assert done.returncode == 2
    assert "a batch of all processes was 8 and is now 4" in done.stderr


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [e for e in map(json.loads, (folder / "events.jsonl").read_text().splitlines()) if e["event"] == kind]


@pytest.mark.processes
@pytest.mark.parametrize("command", ["ppo", "online-dpo"])
def test_what_two_sample_is_what_one_samples(command: str, lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    """Texts, scores, weights and the verdict of two that share the weights; a checkpoint of theirs is resumed by them and by one."""
    common = [command, "--model", lab_model, "--data", pairs_file, *SETTINGS]
    common += ["--response-length", 12, "--num-samples", 2, "--eval-fraction", "0.2"]
    if command == "ppo":  # reward and values are adapters on the policy's base, their heads beside it
        adapter = ["--lora-r", 4, "--learning-rate", "1e-2"]
        done = run(["reward", "--model", lab_model, "--data", pairs_file, *SETTINGS, *adapter, "--output-dir", tmp_path / "r"], 1, PREFINE)
        assert done.returncode == 0, done.stderr
        common += [*adapter, "--reward-model", tmp_path / "r" / "model", "--value-role", "reward"]
    else:
        reward = tmp_path / "reward.py"
        reward.write_text("def score(prompts, answers):\n    return [sum(w in ('the', 'a', 'is') for w in x.split()) for x in answers]\n")
        common += ["--reward-function", f"{reward}:score"]
    alone, two = tmp_path / "alone", tmp_path / "two"
    done = run([*common, "--output-dir", alone, "--per-device-train-batch-size", 8], launcher=PREFINE)
    assert done.returncode == 0, done.stderr
    done = run([*common, "--output-dir", two, "--fsdp", "true"])
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("run directory: ") == done.stdout.count("report: ") == 1
    assert [e["texts"] for e in events(two, "samples")] == [e["texts"] for e in events(alone, "samples")]
    assert losses(two) == pytest.approx(losses(alone), rel=1e-4, abs=1e-6)
    summaries = [(folder / "eval" / "final" / "summary.json").read_text() for folder in (alone, two)]
    sentences = [
        json.loads(summary)["sentence"].replace(str(folder), "RUN") for summary, folder in zip(summaries, (alone, two), strict=True)
    ]
    assert sentences[0] == sentences[1]
    for more, launcher in ((["--fsdp", "true"], None), (["--per-device-train-batch-size", 8], PREFINE)):
        for made in ("model", "checkpoints/checkpoint-6"):
            shutil.rmtree(two / made)
        done = run([*common, "--output-dir", two, "--resume", *more], launcher=launcher)
        assert done.returncode == 0, done.stderr
        assert "resuming from step" in done.stdout
        assert losses(two) == pytest.approx(losses(alone), rel=1e-4, abs=1e-6)


@pytest.mark.processes
def test_an_ensemble_of_two_processes(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    common = ["reward", "--model", lab_model, "--data", pairs_file, *SETTINGS, "--ensemble", 2]
    folders = {1: tmp_path / "alone", 2: tmp_path / "two"}
    for processes, folder in folders.items():
        words = [*common, "--output-dir", folder, "--per-device-train-batch-size", 8 // processes]
        done = run([*words, *(["--fsdp", "true"] if processes > 1 else [])], launcher=PREFINE if processes == 1 else None)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("use them together") == 1
    for member in (0, 1):
        weights = [load_file(folder / "model" / f"member-{member}" / "model.safetensors") for folder in folders.values()]
        for name, weight in weights[0].items():
            torch.testing.assert_close(weights[1][name], weight, rtol=1e-4, atol=1e-4)


@pytest.mark.processes
def test_two_processes_sample_from_one_server(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    from prefine.lab.model import build_tokenizer

    reward = tmp_path / "reward.py"
    reward.write_text("def score(prompts, answers):\n    return [sum(w in ('the', 'a', 'is') for w in x.split()) for x in answers]\n")
    common = ["ppo", "--model", lab_model, "--data", pairs_file, *SETTINGS, "--reward-function", f"{reward}:score", "--lora-r", 4]
    common += ["--response-length", 12, "--final-eval", "off", "--rollout-engine", "vllm"]
    done = run([*common, "--output-dir", tmp_path / "none"])
    assert done.returncode == 2
    assert "give --vllm-mode server" in done.stderr
    with vllm_serving(str(lab_model), build_tokenizer()) as server:
        common += ["--vllm-mode", "server", "--vllm-server-base-url", server.url]
        folders = {1: tmp_path / "alone", 2: tmp_path / "two"}
        for processes, folder in folders.items():
            words = [*common, "--output-dir", folder, "--per-device-train-batch-size", 8 // processes]
            done = run(words, launcher=PREFINE if processes == 1 else None)
            assert done.returncode == 0, done.stderr
        told = [line.split()[0] for line in server.told]
        assert told[: len(told) // 2] == told[len(told) // 2 :]  # each adapter is handed over once, whatever number of processes
        assert told.count("load") == told.count("unload") + 2
    texts = [[e["texts"] for e in events(folder, "samples")] for folder in folders.values()]
    assert texts[0] == texts[1]
    assert losses(folders[2]) == pytest.approx(losses(folders[1]), rel=1e-4, abs=1e-6)


@pytest.mark.processes
def test_two_machines_meet(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    """Two launchers of one process each, on this machine: a run of two. Where it is stopped, both say so by their exit codes."""
    import socket

    common = ["dpo", "--model", lab_model, "--data", pairs_file, *SETTINGS, "--final-eval", "off"]

    def both(folder: Path, *more: str) -> list[int]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = [*PREFINE, "launch", "--machines", "2", "--processes=1", "--head", f"localhost:{port}"]
        words += [*map(str, common), "--output-dir", str(folder), *more]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started = [subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) for _ in range(2)]
        return [process.wait(timeout=200) for process in started]

    stopped = both(tmp_path / "stopped", "--stop-after", "1s")
    assert 75 in stopped
    assert set(stopped) <= {75, 2}  # 2 where the other launcher, at which they meet, was gone before this one looked
    assert both(tmp_path / "stopped", "--resume") == [0, 0]
    done = run([*common, "--output-dir", tmp_path / "alone", "--per-device-train-batch-size", 8], launcher=PREFINE)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "stopped") == pytest.approx(losses(tmp_path / "alone"), rel=1e-5)


@pytest.mark.processes
@pytest.mark.parametrize(("function", "code"), [("raises", 2), ("ends", 9)])
def test_what_fails_in_one_process_ends_all(function: str, code: int, lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    """While the other waits for it, within a rollout."""
    reward = tmp_path / "reward.py"
    reward.write_text(
        "import os\n\n\ndef raises(prompts, answers):\n    if os.environ['RANK'] == '1':\n        raise ValueError('no such luck')\n"
        "    return [len(a) for a in answers]\n\n\ndef ends(prompts, answers):\n    if os.environ['RANK'] == '1':\n        os._exit(9)\n"
        "    return [len(a) for a in answers]\n"
    )
    words = ["ppo", "--model", lab_model, "--data", pairs_file, "--output-dir", tmp_path / "run", *SETTINGS, "--response-length", 8]
    begun = time.monotonic()
    done = run([*words, "--reward-function", f"{reward}:{function}"])
    assert done.returncode == code, done.stderr
    assert time.monotonic() - begun < 90  # of which most is the start
    assert "Traceback" not in done.stderr
    assert ("process 1: reward function raises raised ValueError: no such luck" in done.stderr) is (function == "raises")


@pytest.mark.processes
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_launcher_that_is_stopped_waits_for_the_checkpoint(
    number: int, code: int, lab_model: Path, pairs_file: Path, tmp_path: Path
) -> None:
    """It passes the signal on, and ends with the command's code."""
    common = [
        "dpo",
        "--model",
        lab_model,
        "--data",
        pairs_file,
        *SETTINGS,
        "--final-eval",
        "off",
        "--max-steps",
        "4000",
        "--save-steps",
        "4000",
    ]
    words = [*PREFINE, "launch", "--processes", "2", *map(str, common), "--output-dir", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, preexec_fn=hearing)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "run" / "metrics.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        started.send_signal(number)
        told, _ = started.communicate(timeout=100)
    finally:
        started.kill()
    assert started.returncode == code, told
    assert "whose checkpoint is saved" in told
    assert "Traceback" not in told
    [checkpoint] = (tmp_path / "run" / "checkpoints").glob("checkpoint-*/prefine_manifest.json")
    assert 0 < int(checkpoint.parent.name.rpartition("-")[2]) < 4000
