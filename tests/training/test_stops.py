"""Whole commands that are stopped, killed, resumed, refused: what they wrote stays, and goes on."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import hearing
from prefine import checkpoints
from prefine.cli import main
from prefine.runs import RunDirectory

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]
ROOT = Path(__file__).parents[2]


def words(method: str, model: Path, data: Path, run: Path, steps: int = 6, *more: Any) -> list[str]:
    own = {"dpo": ["--final-eval", "off"], "online-dpo": ["--eval-fraction", 0], "ppo": ["--eval-fraction", 0]}.get(method, [])
    sampled = ["--response-length", 6, "--num-samples", 2, "--reward-function", f"{data.with_name('length.py')}:shorter"]
    own += sampled if method in ("ppo", "online-dpo") else []
    out = [method, "--model", model, "--data", data, "--output-dir", run, "--max-steps", steps, "--logging-steps", 1, *own]
    return [str(w) for w in [*out, "--per-device-train-batch-size", 4, "--learning-rate", "1e-3", "--lora-r", 2, *more]]


@pytest.fixture(scope="module")
def data(pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stops")
    (folder / "length.py").write_text("def shorter(prompts, responses):\n    return [-float(len(r)) for r in responses]\n")
    shutil.copy(pairs_file, folder / "pairs.jsonl")
    return folder / "pairs.jsonl"


def process(line: list[str], **changed: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"} | changed
    launch = [sys.executable, "-m", "prefine.cli", *line]
    return subprocess.Popen(launch, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=hearing)


def logged(run: Path, name: str = "loss") -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {m["step"]: m[name] for m in lines if name in m}


def weights(run: Path) -> dict[str, str]:
    return {str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((run / "model").rglob("*.safetensors"))}


@pytest.mark.parametrize("method", ["dpo", "sft", "reward", "ppo", "online-dpo"])
def test_a_finished_run_is_not_trained_further(method: str, lab_model: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    line = words(method, lab_model, data, tmp_path / "r", 5)
    assert main(line) == 0
    before, curve, lines = weights(tmp_path / "r"), logged(tmp_path / "r"), (tmp_path / "r" / "metrics.jsonl").read_text()
    assert list(curve) == [1, 2, 3, 4, 5]
    shutil.rmtree(tmp_path / "r" / "eval", ignore_errors=True)
    shutil.rmtree(tmp_path / "r" / "model")  # killed before it was saved
    (tmp_path / "r" / "checkpoints" / ".saving" / "old-0").mkdir(parents=True)  # and while it removed an older checkpoint
    capsys.readouterr()
    assert main([*line, "--resume"]) == 0
    assert "step 6" not in capsys.readouterr().out
    assert weights(tmp_path / "r") == before
    assert (tmp_path / "r" / "metrics.jsonl").read_text() == lines
    assert sorted(p.name for p in (tmp_path / "r" / "checkpoints").iterdir()) == ["checkpoint-4", "checkpoint-5"]
    if method in ("dpo", "reward"):
        assert list((tmp_path / "r" / "eval").rglob("summary.json"))  # what was not done is


@pytest.mark.parametrize("kind", ["SIGTERM", "SIGHUP", "SIGINT", "time"])
def test_a_stop_finishes_the_step_and_says_how_to_go_on(kind: str, lab_model: Path, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "a run"
    line = words("ppo" if kind == "SIGTERM" else "dpo", lab_model, data, run, 4000, *(["--stop-after", "1s"] if kind == "time" else []))
    stopped = process(line)
    if kind != "time":
        deadline = time.monotonic() + 120
        while not ((run / "metrics.jsonl").exists() and len(logged(run)) >= 2) and time.monotonic() < deadline:
            time.sleep(0.02)
        stopped.send_signal(getattr(signal, kind))
    out, err = stopped.communicate(timeout=300)
    assert stopped.returncode == (130 if kind == "SIGINT" else 75), out + err
    told = next(text for text in (out + err).splitlines() if "go on with: " in text)
    step = int(re.search(r"after step (\d+) of 4000, whose checkpoint is saved", told)[1])  # type: ignore[index]
    assert max(logged(run)) == step  # logged, too
    assert checkpoints.newest(run / "checkpoints") == run / "checkpoints" / f"checkpoint-{step}"
    assert json.loads((run / "events.jsonl").read_text().splitlines()[-1])["event"] == "stopped"
    command = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {told.partition('go on with: ')[2]}"], capture_output=True, text=True, check=True
    )
    assert command.stdout.splitlines() == ["prefine", *line, "--resume"]


@pytest.mark.parametrize("method", ["dpo", "sft", "reward", "ppo", "online-dpo"])
def test_a_stopped_run_goes_on_as_one_left_alone(
    method: str, lab_model: Path, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    more = ["--save-steps", 1000, *(["--num-mini-batches", 2] if method == "ppo" else [])]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(words(method, lab_model, data, whole, 8, *more)) == 0
    plain = RunDirectory.append_metrics

    def stopping(self: RunDirectory, line: dict[str, Any]) -> None:
        plain(self, line)
        if line["step"] == 3 and "loss" in line:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(RunDirectory, "append_metrics", stopping)
    assert main(words(method, lab_model, data, cut, 8, *more)) == 75
    monkeypatch.undo()
    [kept] = (cut / "checkpoints").iterdir()
    assert kept.name == f"checkpoint-{max(logged(cut))}"
    assert "whose checkpoint is saved" in capsys.readouterr().err
    assert not (cut / "model").exists()
    assert main([*words(method, lab_model, data, cut, 8, *more), "--resume", "auto"]) == 0
    assert logged(cut) == pytest.approx(logged(whole), rel=1e-6)
    assert weights(cut) == weights(whole)


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from prefine.training.stop import StopBetweenSteps, listening\n"
        "stop = StopBetweenSteps(None, None, lambda text: print(text, flush=True))\n"
        "with listening(stop):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('going on', stop.reason, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('never said')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False, preexec_fn=hearing)
    assert done.stdout.splitlines() == ["Ctrl-C: finishing the step and saving a checkpoint; Ctrl-C again stops at once", "going on Ctrl-C"]
    assert "KeyboardInterrupt" in done.stderr


@pytest.mark.parametrize("text", ["", "3", "h", "1x", "-1h", "0s", "1h 30m", "1.5h"])
def test_a_time_limit_is_read_or_refused(text: str, lab_model: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    from prefine.api.resuming import seconds_of

    assert [seconds_of(t) for t in ("90s", "45m", "3h", "1h30m", "2d", None)] == [90, 2700, 10800, 5400, 172800, None]
    assert main([*words("dpo", lab_model, data, tmp_path / "r"), f"--stop-after={text}"]) == 2
    assert "expected a time as 90s, 45m, 3h or 1h30m" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_second_process_is_refused(lab_model: Path, data: Path, tmp_path: Path) -> None:
    line = words("dpo", lab_model, data, tmp_path / "r", 4000)
    first = process(line)
    try:
        while not (tmp_path / "r" / "metrics.jsonl").exists() and first.poll() is None:
            time.sleep(0.02)
        second = process([*line, "--resume"])
        _, err = second.communicate(timeout=300)
        assert second.returncode == 2
        [told] = [text for text in err.splitlines() if text.startswith("prefine: error: ")]
        assert f"is being trained in by another process (process {first.pid} on " in told
    finally:
        first.kill()
        first.communicate()
    assert main([*[w if w != "4000" else "3" for w in line], "--resume"]) == 0  # of a dead process nothing is left


@pytest.fixture(scope="module")
def three_checkpoints(lab_model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "r"
    assert main(words("dpo", lab_model, data, run, 6, "--save-steps", 2, "--save-total-limit", 3)) == 0
    return run


def again(lab_model: Path, data: Path, run: Path) -> list[str]:
    return [*words("dpo", lab_model, data, run, 6, "--save-steps", 2, "--save-total-limit", 3), "--resume"]


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"])
def test_a_resumed_run_passes_over_what_is_damaged(
    file: str, three_checkpoints: Path, lab_model: Path, data: Path, tmp_path: Path, capsys: Any
) -> None:
    run = tmp_path / "r"
    shutil.copytree(three_checkpoints, run)
    altered, missing = (run / "checkpoints" / f"checkpoint-{n}" / file for n in (6, 4))
    content = bytearray(altered.read_bytes())
    content[len(content) // 3] ^= 4
    altered.write_bytes(content)
    missing.unlink()
    (run / "checkpoints" / "checkpoint-foo").mkdir()
    before = weights(run)
    assert main(again(lab_model, data, run)) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"checkpoint-6 is passed over: {file} was altered" in told
    assert f"checkpoint-4 is passed over: {file} is missing" in told
    assert "checkpoint-foo is passed over: it is no checkpoint" in told
    assert "resuming from step 2" in told
    assert weights(run) == before
    assert logged(run) == pytest.approx(logged(three_checkpoints), rel=1e-6)
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert {e["checkpoint"] for e in events if e["event"] == "checkpoint_passed_over"} == {"checkpoint-6", "checkpoint-4", "checkpoint-foo"}


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew(
    three_checkpoints: Path, lab_model: Path, data: Path, tmp_path: Path, capsys: Any
) -> None:
    run = tmp_path / "r"
    shutil.copytree(three_checkpoints, run)
    for path in (run / "checkpoints").glob("*/optimizer.pt"):
        path.write_bytes(b"")
    metrics = (run / "metrics.jsonl").read_text()
    assert main(again(lab_model, data, run)) == 2
    told = capsys.readouterr().err
    assert all(f"checkpoint-{step} (optimizer.pt has 0 bytes" in told for step in (2, 4, 6))
    assert "To start over, remove that folder and give --resume" in told
    assert (run / "metrics.jsonl").read_text() == metrics
    shutil.rmtree(run / "checkpoints")
    assert main([*again(lab_model, data, run), "auto"]) == 0
    assert weights(run) == weights(three_checkpoints)


@pytest.mark.parametrize("place", [0, 3, None])
def test_a_run_with_torn_logs_is_read_and_goes_on(
    place: int | None, three_checkpoints: Path, lab_model: Path, data: Path, tmp_path: Path, capsys: Any
) -> None:
    run = tmp_path / "r"
    shutil.copytree(three_checkpoints, run)
    (run / "eval").mkdir(exist_ok=True)
    (run / "eval" / "looks.jsonl").write_bytes(b"")
    for name in ("metrics.jsonl", "events.jsonl", "eval/looks.jsonl"):
        lines = (run / name).read_bytes().splitlines(keepends=True)
        lines.insert(len(lines) if place is None else place, b'{"step": 2, "l\xc3' + (b"" if place is None else b"\n"))
        (run / name).write_bytes(b"".join(lines))
    assert main(["report", str(run)]) == 0
    assert main(["compare", str(run), str(three_checkpoints)]) == 0
    shutil.rmtree(run / "checkpoints" / "checkpoint-6")
    assert main(again(lab_model, data, run)) == 0
    assert logged(run) == pytest.approx(logged(three_checkpoints), rel=1e-6)
    told = [event["event"] for event in RunDirectory(run).events() if not event["event"].startswith("guard")]
    assert told[-1] == "resume"  # on a line of its own


@pytest.mark.parametrize("what", ["weights", "evaluation data", "data"])
def test_a_resumed_run_finds_what_it_began_with(what: str, lab_model: Path, data: Path, tmp_path: Path, capsys: Any) -> None:
    model, own, held = tmp_path / "model", tmp_path / "pairs.jsonl", tmp_path / "held.jsonl"
    shutil.copytree(lab_model, model)
    rows = data.read_text().splitlines(keepends=True)
    by_prompt: dict[str, list[str]] = {}
    for row in rows:
        by_prompt.setdefault(json.dumps(json.loads(row)["prompt"]), []).append(row)
    apart = list(by_prompt.values())
    held.write_text("".join(row for part in apart[:6] for row in part))
    own.write_text("".join(row for part in apart[6:] for row in part))
    line = words("dpo", model, own, tmp_path / "r", 2, "--eval-data", held)
    assert main(line) == 0
    if what == "weights":
        path = model / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-9] ^= 1
        path.write_bytes(content)
    else:
        changed = held if what == "evaluation data" else own
        changed.write_text("".join(changed.read_text().splitlines(keepends=True)[:-1]))
    capsys.readouterr()
    before = weights(tmp_path / "r")
    assert main([*line, "--resume"]) == 2
    told = capsys.readouterr().err
    assert ("model.safetensors of --model changed since" if what == "weights" else f"the run's {what}, but its content has changed") in told
    assert weights(tmp_path / "r") == before


@pytest.mark.parametrize("method", ["dpo", "reward"])
def test_a_run_killed_before_its_first_checkpoint_goes_on_as_the_same(method: str, lab_model: Path, data: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    more = ["--save-steps", 1000, "--seed", 7]
    assert main(words(method, lab_model, data, whole, 60, *more)) == 0
    killed = process(words(method, lab_model, data, cut, 60, *more))
    while not ((cut / "metrics.jsonl").exists() and logged(cut)) and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert not list(cut.glob("checkpoints/checkpoint-*"))
    resumed = process([*words(method, lab_model, data, cut, 60, *more), "--resume"])
    out, err = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, err
    assert "no complete checkpoint to resume from" in out
    assert weights(cut) == weights(whole)


def test_members_of_an_ensemble_go_on_where_they_were(lab_model: Path, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    from prefine.training.reward import RewardTrainer

    more = ["--ensemble", 3, "--save-steps", 2]
    assert main(words("reward", lab_model, data, tmp_path / "whole", 6, *more)) == 0
    steps: list[tuple[int, int]] = []
    plain = RewardTrainer.training_step

    def counted(self: Any, *args: Any) -> Any:
        steps.append((self.args.seed, self.state.global_step))
        if len(steps) == 11 and not (tmp_path / "went").exists():  # the second member's fifth
            raise SystemExit(9)
        return plain(self, *args)

    monkeypatch.setattr(RewardTrainer, "training_step", counted)
    line = words("reward", lab_model, data, tmp_path / "cut", 6, *more)
    with pytest.raises(SystemExit):
        main(line)
    (tmp_path / "went").touch()
    seeds = list(dict.fromkeys(seed for seed, _ in steps))
    steps.clear()
    assert main([*line, "--resume"]) == 0
    assert "already trained: member 0" in capsys.readouterr().out
    assert steps == [(seeds[1], 4), (seeds[1], 5), *((seeds[1] + 1, n) for n in range(6))]
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


def test_runs_killed_at_random_moments_go_on(tmp_path: Path) -> None:
    """One of each method; PREFINE_KILLS=60 in the environment makes it sixty."""
    script = [sys.executable, str(ROOT / "benchmarks" / "kill_resume.py"), "--trials", os.environ.get("PREFINE_KILLS", "4"), "--seed", "5"]
    done = subprocess.run(script, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


# ---- the disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("no disk of 8 MiB can be mounted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_keeps_the_last_checkpoint(small_disk: Path, lab_model: Path, data: Path, capsys: Any) -> None:
    run, fill = small_disk / "r", small_disk / "fill"
    line = words("dpo", lab_model, data, run, 6, "--save-steps", 2, "--save-total-limit", 1)
    assert main([*[w if w != "6" else "2" for w in line]]) == 0
    shutil.rmtree(run / "model")
    (run / "report.html").unlink()
    with fill.open("wb") as stream:  # all but what a log takes
        stream.write(b"x" * (shutil.disk_usage(small_disk).free - 80_000))
    capsys.readouterr()
    assert main([*line, "--resume"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "could not be written: " in told or "are free, and a checkpoint" in told
    assert checkpoints.newest(run / "checkpoints") == run / "checkpoints" / "checkpoint-2"
    assert not (run / "checkpoints" / checkpoints.SAVING).exists()
    fill.unlink()
    assert main([*line, "--resume"]) == 0
    assert list(logged(run)) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("after", [0, 1, 20])
def test_a_disk_that_fills_while_saving_is_one_sentence(
    after: int, lab_model: Path, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    """The disk takes so many more syncs from the second checkpoint on, then no more."""
    run, left, plain = tmp_path / "r", [10**9], os.fsync

    def full(handle: int) -> None:
        if "checkpoint-4" in os.readlink(f"/proc/self/fd/{handle}"):
            left[0] = min(left[0], after) - 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        plain(handle)

    monkeypatch.setattr(os, "fsync", full)
    line = words("dpo", lab_model, data, run, 6, "--save-steps", 2, "--save-total-limit", 1)
    assert main(line) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    for part in ("the checkpoint of step 4", "no space left", "the checkpoint of step 2 is kept", "go on with: prefine dpo"):
        assert part in told
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["checkpoint-2"]
    assert checkpoints.faults(run / "checkpoints" / "checkpoint-2") == []
    monkeypatch.undo()
    assert main([*line, "--resume"]) == 0
    assert list(logged(run)) == [1, 2, 3, 4, 5, 6]


def test_a_disk_without_room_is_told_before_training(lab_model: Path, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type(usage)(usage.total, usage.used, 10_000))
    assert main(words("dpo", lab_model, data, tmp_path / "r")) == 2
    assert "a checkpoint and the model take at least" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_a_read_only_disk_is_told_before_the_model_is_loaded(small_disk: Path, lab_model: Path, data: Path, capsys: Any) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert main(words("dpo", lab_model, data, small_disk / "deep" / "r")) == 2
    assert f"{small_disk} cannot be written; give another --output-dir" in capsys.readouterr().err


def test_a_run_needs_no_git(lab_model: Path, data: Path, tmp_path: Path) -> None:
    bare = process(words("dpo", lab_model, data, tmp_path / "r", 2), PATH="")
    _, err = bare.communicate(timeout=200)
    assert bare.returncode == 0, err
    assert json.loads((tmp_path / "r" / "environment.json").read_text())["git_commit"] is None


@pytest.mark.parametrize(
    "where", ["prefine.scoring.loading.load_model", "prefine.evaluation.evaluate.evaluate", "prefine.report.run_page.write_report"]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_beside_training_ends_in_a_sentence_and_goes_on(
    where: str, number: signal.Signals, lab_model: Path, data: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    module, name = where.rsplit(".", 1)
    whole = getattr(importlib.import_module(module), name)

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        os.kill(os.getpid(), number)
        return whole(*args, **kwargs)

    line = [*words("dpo", lab_model, data, tmp_path / "r"), "--final-eval", "quick", "--eval-fraction", "0.3"]
    monkeypatch.setattr(signal, "SIG_IGN", None)  # the tests themselves may run under nohup
    monkeypatch.setattr(where, interrupted)
    assert main(line) == 75
    monkeypatch.undo()
    told = capsys.readouterr()
    assert f"stopped by {number.name}; the same command with --resume goes on" in told.err
    assert main([*line, "--resume"]) == 0
    assert main([*words("dpo", lab_model, data, tmp_path / "whole"), "--final-eval", "quick", "--eval-fraction", "0.3"]) == 0
    assert weights(tmp_path / "r") == weights(tmp_path / "whole")
    assert (tmp_path / "r" / "eval" / "final" / "summary.json").exists()


def test_responses_that_a_signal_ended_go_on(lab_model: Path, data: Path, tmp_path: Path) -> None:
    def line(out: str) -> list[str]:
        own = ["--model", lab_model, "--prompts", data, "--output", tmp_path / out, "--max-new-tokens", 200, "--temperature", 1]
        return [str(w) for w in ["generate", *own, "--batch-size", 2]]

    cut, part = tmp_path / "cut.jsonl", tmp_path / "cut.jsonl.part"
    stopped = process(line("cut.jsonl"), PREFINE_CACHE=str(tmp_path / "cache"))
    deadline = time.monotonic() + 120
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.01)
    stopped.terminate()
    out, err = stopped.communicate(timeout=300)
    assert stopped.returncode == 75, out + err
    assert "stopped by SIGTERM; what is done is kept, and the same command goes on" in err
    begun = len(part.read_text().splitlines())
    for out_name, cache in (("cut.jsonl", "cache"), ("whole.jsonl", "other")):
        done = process(line(out_name), PREFINE_CACHE=str(tmp_path / cache))
        out, err = done.communicate(timeout=300)
        assert done.returncode == 0, out + err
    assert cut.read_text() == (tmp_path / "whole.jsonl").read_text()
    assert 0 < begun < len(cut.read_text().splitlines())
