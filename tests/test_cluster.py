"""Work on a Ray cluster of this machine: what it makes is what one process makes, whoever is lost on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from prefine.cluster import TRIES, ClusterOptions, Workers
from prefine.errors import ConfigError, DataError

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.processes, pytest.mark.filterwarnings("ignore")]
PREFINE = [sys.executable, "-m", "prefine.cli"]
TWO = ["--ray", "local", "--ray-workers", "2"]


def begin(factor: int) -> None:
    os.environ["FACTOR"] = str(factor)  # functions travel without their module, and so without its variables


def work(task: tuple[int, str]) -> tuple[int, int]:
    number, marker = task
    if marker:
        place = Path(marker)
        if number < 0 or not place.exists():
            place.touch()
            os._exit(1)
    if number == 13:
        raise DataError("thirteen")
    time.sleep(0.05 * (number % 3))
    return number * int(os.environ["FACTOR"]), os.getpid()


@pytest.fixture(scope="module")
def own() -> Iterator[ClusterOptions]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield ClusterOptions("local", 2)
    ray.shutdown()


def test_parts_come_in_order_and_a_lost_one_is_done_again(own: ClusterOptions, tmp_path: Path) -> None:
    tasks = [(n, str(tmp_path / "died") if n == 5 else "") for n in range(12)]
    with Workers(own, begin, (7,), "lost") as pool:
        found = list(pool.map(work, tasks))
        assert [x for x, _ in found] == [7 * n for n in range(12)]
        assert (tmp_path / "died").exists()
        assert len({pid for _, pid in found}) == 3  # two, and the one that took a dead one's place
        assert os.getpid() not in {pid for _, pid in found}
        assert [x for x, _ in pool.map(work, [(1, "")])] == [7]


def test_no_more_is_read_ahead_than_keeps_workers_busy(own: ClusterOptions) -> None:
    read: list[int] = []

    def coming() -> Iterator[tuple[int, str]]:
        for number in range(100):
            read.append(number)
            yield number if number != 13 else 14, ""

    with Workers(own, begin, (1,), "lost") as pool:
        for number, _ in zip(range(5), pool.map(work, coming()), strict=False):
            assert len(read) <= number + 1 + 2 * pool.number + 2


def test_errors_are_those_of_the_work(own: ClusterOptions, tmp_path: Path) -> None:
    with Workers(own, begin, (1,), "a part was lost") as pool, pytest.raises(DataError, match="thirteen"):
        list(pool.map(work, [(1, ""), (13, ""), (2, "")]))
    with Workers(own, begin, (1,), "a part was lost") as pool, pytest.raises(DataError, match=f"a part was lost .*{TRIES} times"):
        list(pool.map(work, [(-1, str(tmp_path / "dies"))]))
    with Workers(own, int, ("x",), "lost") as pool, pytest.raises(ValueError, match="invalid literal"):
        list(pool.map(work, [(1, "")]))


def run(words: list[Any]) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*PREFINE, *map(str, words)], capture_output=True, text=True, timeout=200, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_audit_is_that_of_one_machine(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    words = ["data", "audit", pairs_file, "--model", lab_model, "--output"]
    told = [run([*words, tmp_path / "one.json"]), run([*words, tmp_path / "two.json", *TWO])]
    assert told[0].replace("one.json", "") == told[1].replace("two.json", "")
    assert (tmp_path / "one.json").read_text() == (tmp_path / "two.json").read_text()


def test_responses_and_verdicts_are_those_of_one_machine(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    """Responses where a worker is killed meanwhile, too."""
    from prefine.lab.model import build_model, build_tokenizer

    other = tmp_path / "other"
    build_model(1, hidden=32, layers=2).save_pretrained(other)
    build_tokenizer().save_pretrained(other)
    asked = ["generate", "--prompts", pairs_file, "--max-new-tokens", 24, "--temperature", 1, "--model", lab_model, "--output"]
    run([*asked, tmp_path / "one.jsonl"])
    words = [*PREFINE, *map(str, [*asked, tmp_path / "two.jsonl", *TWO, "--batch-size", "8"])]
    started = subprocess.Popen(words, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    part, deadline = tmp_path / "two.jsonl.part", time.monotonic() + 120
    while not part.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    workers = [p for p in psutil.Process(started.pid).children(recursive=True) if "_Worker" in " ".join(p.cmdline())]
    assert workers
    os.kill(workers[0].pid, signal.SIGKILL)
    _, told = started.communicate(timeout=200)
    assert started.returncode == 0, told.decode()
    assert rows(tmp_path / "two.jsonl") == rows(tmp_path / "one.jsonl")
    run([*asked[:-2], other, "--output", tmp_path / "other.jsonl"])
    (tmp_path / "paid.py").write_text("def score(prompt, response):\n    return len(set(response.split())) + 0.001 * len(response)\n")
    judged = ["judge", tmp_path / "one.jsonl", tmp_path / "other.jsonl", "--judge", "python", "--function", f"{tmp_path}/paid.py:score"]
    run([*judged, "--output-dir", tmp_path / "here"])
    run([*judged, "--output-dir", tmp_path / "there", *TWO])
    for name in ("verdicts.jsonl", "generations.jsonl", "summary.json"):
        assert (tmp_path / "here" / name).read_text() == (tmp_path / "there" / name).read_text().replace("/there/", "/here/")


def test_a_search_side_by_side_is_the_same_search(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    words = ["tune", "--model", lab_model, "--data", pairs_file, "--grid", "learning_rate=1e-3,1e-2", "--sampler", "grid", "--max-steps", 4]
    words += ["--select-prompts", 16, "--fresh-prompts", 16, "--per-device-train-batch-size", 4, "--output-dir"]
    run([*words, tmp_path / "one"])
    run([*words, tmp_path / "two", "--parallel", 2])
    one, two = (json.loads((tmp_path / name / "tune.json").read_text()) for name in ("one", "two"))
    assert one["result"]["best"] == two["result"]["best"]
    assert one["result"]["select"] == two["result"]["select"]


def test_seeds_of_the_laboratory_side_by_side(tmp_path: Path) -> None:
    words = ["lab", "hacking", "--quick", "--only", "KL", "--seeds", 2, "--output-dir"]
    run([*words, tmp_path / "one"])
    run([*words, tmp_path / "two", *TWO])
    one, two = (json.loads((tmp_path / name / "hacking-quick-KL.json").read_text()) for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (ClusterOptions(None, 2), "--ray-workers would be ignored without --ray"),
        (ClusterOptions("local", 0), "expected at least 1"),
    ],
)
def test_what_is_asked_for_in_vain(given: ClusterOptions, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        given.check_cluster()
