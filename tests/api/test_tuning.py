"""Searching for settings: what is tried and for how long, what is kept aside, what a killed search does, what is said of the choice."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prefine as pf
from prefine.api import samplers, trials
from prefine.api.grid import Range, combinations, folder_name, read_grid
from prefine.api.options import read_yaml
from prefine.api.trials import Task, Trial
from prefine.checkpoints import MANIFEST
from prefine.cli import main
from prefine.preferences.convert import PairSource
from prefine.preferences.records import prompt_identity
from prefine.runs import RunDirectory

Settings = dict[str, Any]
NINE = [{"learning_rate": rate, "beta": beta} for rate in (1.0, 2.0, 3.0) for beta in (0.1, 0.2, 0.3)]


class Planted:
    """Measures settings by what they are worth, and notes what was asked."""

    def __init__(self, worth: Any) -> None:
        self.worth = worth
        self.asked: list[tuple[int, list[Settings]]] = []

    def __call__(self, settings: Sequence[Settings], part: int) -> list[float]:
        self.asked.append((part, list(settings)))
        return [self.worth(s, part) for s in settings]


# ---- what is tried, and for how long


def test_halving_keeps_the_best_third_on_each_rung() -> None:
    planted = Planted(lambda s, part: s["learning_rate"] + s["beta"])
    assert samplers.halving(NINE, planted) == {"learning_rate": 3.0, "beta": 0.3}
    assert [(part, len(asked)) for part, asked in planted.asked] == [(9, 9), (3, 3), (1, 1)]
    assert planted.asked[1][1] == [{"learning_rate": 3.0, "beta": beta} for beta in (0.3, 0.2, 0.1)]


def test_nine_settings_cost_a_third_of_the_grid() -> None:
    halved, whole = Planted(lambda s, part: s["beta"]), Planted(lambda s, part: s["beta"])
    assert samplers.halving(NINE, halved) == samplers.every(NINE, whole)
    cost = {name: sum(len(asked) / part for part, asked in p.asked) for name, p in (("halved", halved), ("whole", whole))}
    assert cost["halved"] == pytest.approx(3)
    assert cost["whole"] == pytest.approx(9)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 9, 10, 26, 27, 100])
def test_rungs_end_with_one_in_full_and_never_grow(count: int) -> None:
    found = samplers.rungs(count)
    assert found[0][0] == count
    assert found[-1] == (1, 1)
    for (size, part), (following, next_part) in itertools.pairwise(found):
        assert following == max(1, size // 3)
        assert part == 3 * next_part


@pytest.mark.parametrize("search", [samplers.halving, samplers.every])
def test_what_fails_is_last_and_a_tie_goes_to_the_first(search: Any) -> None:
    failing = Planted(lambda s, part: -math.inf if s["learning_rate"] == 3.0 else 0.6)
    assert search(NINE, failing) == NINE[0]
    assert search(NINE, Planted(lambda s, part: -math.inf)) is None


def test_halving_takes_the_next_where_the_last_fails_in_full() -> None:
    planted = Planted(lambda s, part: -math.inf if part == 1 and s["beta"] == 0.3 else s["beta"])
    found = samplers.halving([{"beta": b} for b in (0.1, 0.2, 0.3)], planted)
    assert found == {"beta": 0.2}


def test_a_failed_setting_is_never_trained_longer() -> None:
    planted = Planted(lambda s, part: -math.inf if s["beta"] < 0.25 else 1.0)
    samplers.halving(NINE, planted)
    assert all(s["beta"] == 0.3 for part, asked in planted.asked[1:] for s in asked)


# ---- the grid


def test_values_are_read_as_their_options_types_say() -> None:
    options = pf.dpo.options()
    found = read_grid(["learning-rate=1e-6,3e-6", "loss_type=sigmoid+sft,ipo", "loss_weights=[1,0.2],[1,0.5]", "lora_r=4,8"], options)
    assert found["learning_rate"] == [1e-6, 3e-6]
    assert found["loss_type"] == [["sigmoid+sft"], ["ipo"]]
    assert found["loss_weights"] == [[1, 0.2], [1, 0.5]]
    assert found["lora_r"] == [4, 8]
    assert read_grid({"beta": [0.1, "0.2"], "seed": 3}, options) == {"beta": [0.1, 0.2], "seed": [3]}
    assert read_grid(["learning_rate=1e-7..1e-5", "lora_r=4..64"], options) == {
        "learning_rate": Range(1e-7, 1e-5, False),
        "lora_r": Range(4, 64, True),
    }


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (["learning_rat=1e-6,1e-5"], "did you mean 'learning_rate'"),
        (["lr=1e-6,1e-5"], "here it is 'learning_rate'"),
        (["beta=0.1,high"], "'high' is not a number"),
        (["beta"], "expected NAME=VALUE,VALUE"),
        (["beta="], "expected NAME=VALUE,VALUE"),
        (["beta=0.1", "beta=0.2"], "given twice"),
        (["beta=0.2..0.1"], "the lower first"),
        (["loss_weights=[1,0.2"], "no values between commas"),
        (["model=a,b"], "cannot be searched"),
        (["data=a,b"], "cannot be searched"),
        (["output_dir=a,b"], "cannot be searched"),
        ([], "empty"),
    ],
)
def test_a_wrong_grid_is_one_sentence(grid: list[str], message: str) -> None:
    with pytest.raises(pf.PrefineError, match=message):
        read_grid(grid, pf.dpo.options())


def test_folder_names_tell_settings_apart() -> None:
    grid = read_grid(
        {"loss_type": [["sigmoid"], ["sigmoid", "sft"]], "loss_weights": [[1, 0.2], "none"], "beta": [0.1, 0.10000001]},
        pf.dpo.options(),
    )
    found = combinations(grid)
    assert len({folder_name(s, steps) for s in found for steps in (3, 30)}) == 2 * len(found)
    assert all("/" not in folder_name({"retain": "/tmp/a/b"}, 1) for s in found)


# ---- the figure that is told


def test_fresh_prompts_give_an_unbiased_figure() -> None:
    """Nine settings of equal worth, 100 prompts to choose by: the chosen one's figure there is too high; on others it is not."""
    rng, truth = np.random.default_rng(0), 0.6
    chosen_by, fresh = [], []
    for _ in range(400):
        wins = rng.random((9, 100)) < truth  # a setting wins the same prompts however long it was trained
        measured = {i: float(wins[i].mean()) for i in range(9)}
        found = samplers.halving([{"beta": i} for i in range(9)], lambda settings, part, m=measured: [m[s["beta"]] for s in settings])
        assert found is not None
        chosen_by.append(measured[found["beta"]])
        fresh.append(float((rng.random(100) < truth).mean()))
    error = math.sqrt(truth * (1 - truth) / 100 / 400)
    assert abs(np.mean(fresh) - truth) < 4 * error
    assert np.mean(chosen_by) - truth > 20 * error


# ---- whole searches


def small(lab_model: Path, pairs_file: Path, out: Path, **more: Any) -> dict[str, Any]:
    given = {"model": str(lab_model), "data": str(pairs_file), "output_dir": str(out), "max_length": 128, "guard_prompts": 0}
    return given | {"num_train_epochs": 1, "select_prompts": 8, "fresh_prompts": 8, "grid": {"learning_rate": [1e-4, 1e-3, 1e-2]}} | more


def plant(monkeypatch: pytest.MonkeyPatch, worth: Any) -> list[Task]:
    """Trials that train nothing, and are worth what is planted; a full-length one has a run directory. Gives the tasks that were made."""
    made: list[Task] = []

    def make(task: Task, progress: Any) -> Trial:
        made.append(task)
        run = RunDirectory.create(task.folder)
        run.write_config({"model": "base"}, ["dpo"])
        value = worth(task.settings)
        rate = None if value is None else interval(value)
        return Trial(run.path.name, task.settings, task.steps, task.part, rate, "" if rate else "the loss is NaN")

    def of(self: Any, run: Path, name: str, prompts: int, progress: Any, data: str | None = None) -> dict[str, Any]:
        return interval(0.5)

    monkeypatch.setattr(trials, "make", make)
    monkeypatch.setattr(trials.Measuring, "of", of)
    return made


def interval(value: float) -> dict[str, Any]:
    return {"estimate": value, "low": value - 0.1, "high": value + 0.1, "count": 8, "clusters": 8}


def identities(path: Path) -> set[str]:
    return {prompt_identity(pair) for pair in PairSource(str(path))}


def test_a_search_from_options_to_files(lab_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plant(monkeypatch, lambda s: None if s["learning_rate"] == 1e-2 else 0.5 + s["learning_rate"])
    found = pf.tune(**small(lab_model, pairs_file, tmp_path / "out"))
    # the default (a rate of 1e-6, the recipe's) and three more: one rung of four for a third, the best in full, the default beside it
    prompts = len(identities(pairs_file)) - 16
    rows = [r for r in PairSource(str(tmp_path / "out" / "data" / "train.jsonl"))]
    assert len({prompt_identity(r) for r in rows}) == prompts
    full = math.ceil(len(rows) / 8)
    assert [(t.part, t.steps) for t in made] == [(3, math.ceil(full / 3))] * 4 + [(1, full)] * 2
    assert made[0].settings == {"learning_rate": 1e-6}
    assert [t.settings["learning_rate"] for t in made[4:]] == [1e-3, 1e-6]
    assert {t.options["data"][0] for t in made} == {str(tmp_path / "out" / "data" / "train.jsonl")}
    assert all(t.options["precompute_ref_log_probs"] for t in made)
    assert found.best == {"learning_rate": 1e-3}
    assert found.win_rate is None
    assert found.estimate.estimate == 0.5
    assert found.run.path.name == f"learning_rate=0.001-{full}"
    assert list(found.trials["failed"]) == ["", "", "", "the loss is NaN", "", ""]
    assert "does not tell whether responses are better" in str(found)
    assert "failed: the loss is" in " ".join(str(found.table).replace("│", " ").split())
    config = read_yaml(str(found.config), pf.dpo.options())
    assert config["learning_rate"] == 1e-3
    assert config["eval_data"] == str(tmp_path / "out" / "data" / "fresh.jsonl")
    html = found.page.read_text()
    assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html
    assert "the loss is NaN" in html


def test_the_same_search_reads_its_trials_and_another_is_refused(
    lab_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plant(monkeypatch, lambda s: 0.5 + s["learning_rate"])
    given = small(lab_model, pairs_file, tmp_path / "out")
    first = pf.tune(**given)
    count = len(made)
    again = pf.tune(**given)
    assert len(made) == count
    assert again.best == first.best
    assert again.trials.equals(first.trials)
    other = tmp_path / "other.jsonl"
    other.write_text("".join(pairs_file.read_text().splitlines(keepends=True)[:60]))
    for change, word in (
        ({"grid": {"beta": [0.2]}}, "grid"),
        ({"data": str(other)}, "data"),
        ({"beta": 0.3}, "beta"),
        ({"sampler": "grid"}, "sampler"),
    ):
        with pytest.raises(pf.PrefineError, match=rf"told otherwise \({word}"):
            pf.tune(**given | change)
    assert len(made) == count


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("weights", [None, [2.0]])
def test_no_prompt_is_in_two_parts(
    lab_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: bool, weights: Any
) -> None:
    plant(monkeypatch, lambda s: 0.6)
    lines = pairs_file.read_text().splitlines(keepends=True)
    more: dict[str, Any] = {"data_weights": weights} if weights else {}
    train = pairs_file
    if held:
        train, aside = tmp_path / "train.jsonl", tmp_path / "aside.jsonl"
        train.write_text("".join(lines[:34]))
        aside.write_text("".join(lines[30:]))  # four are in both
        more["eval_data"] = str(aside)
    pf.tune(**small(lab_model, train, tmp_path / "out", **more))
    parts = {name: identities(tmp_path / "out" / "data" / f"{name}.jsonl") for name in ("train", "select", "fresh")}
    assert [len(parts[name]) for name in ("select", "fresh")] == [8, 8]
    assert not parts["train"] & parts["select"]
    assert not parts["train"] & parts["fresh"]
    assert not parts["select"] & parts["fresh"]
    whole = identities(train)
    assert parts["train"] == (whole if held else whole - parts["select"] - parts["fresh"])
    for name in ("select", "fresh"):  # a weight repeats what is trained on alone
        rows = (tmp_path / "out" / "data" / f"{name}.jsonl").read_text().splitlines()
        assert len(rows) == len(set(rows))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"grid": {"learning_rte": [1]}}, "did you mean 'learning_rate'"),
        ({"grid": {"loss_type": ["sigmod", "ipo"]}}, "sigmoid"),
        ({"grid": {"learning_rate": [1e-6]}}, "nothing but the default"),
        ({"grid": ["learning_rate=1e-6..1e-5"]}, "a range, which only --sampler optuna"),
        ({"sampler": "halve"}, "did you mean 'halving'"),
        ({"trials": 3}, "would be ignored: it belongs to --sampler optuna"),
        ({"temperature": 1.0}, "would be ignored: without --judge"),
        ({"select_prompts": 1000}, "--select-prompts 1000"),
        ({"fresh_prompts": 0}, "expected at least 1"),
        ({"judge": {"judge": "nobody"}}, "expected one of"),
        ({"final_judge": "x.yaml"}, "unknown option final_judge"),
        ({"lora_alpha": 8.0}, "would be ignored without --lora-r"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(
    lab_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], message: str
) -> None:
    made = plant(monkeypatch, lambda s: 0.6)
    with pytest.raises(pf.PrefineError, match=message):
        pf.tune(**small(lab_model, pairs_file, tmp_path / "out", **more))
    assert not made
    assert not (tmp_path / "out" / "trials").exists()


def test_an_unchanged_model_has_learned_nothing_whatever_its_sign() -> None:
    trial = Trial("a", {}, 1, 1, {**interval(0.9), "unchanged": True})
    assert trial.score == 0.5
    assert Trial("b", {}, 1, 1, {**interval(0.6), "unchanged": False}).score == 0.6
    assert Trial("c", {}, 1, 1, interval(math.nan)).score == Trial("d", {}, 1, 1, None, "NaN").score == -math.inf


def test_the_page_runs_nothing_that_a_trial_says(tmp_path: Path) -> None:
    from prefine.report.tuning_page import write_tuning

    evil = "</script><script>alert(1)</script>"
    made = [
        {"name": evil, "settings": {"loss_type": [value], "beta": 0.1}, "steps": 3, "part": 1, "measure": interval(0.6), "failed": ""}
        | {"seconds": 1.0, "guard": [evil]}
        for value in (evil, "ipo")
    ]
    result = {"best": {"loss_type": [evil]}, "measured": "win rate", "select": interval(0.7), "fresh": interval(0.6), "difference": None}
    result |= {
        "outcome": "inconclusive",
        "cost": 2.0,
        "prompts": {"train": 9, "select": 8, "fresh": 8},
        "launch": evil,
        "lines": [evil] * 3,
    }
    (tmp_path / "tune.json").write_text(json.dumps({"told": {}, "trials": made, "result": result}))
    html = write_tuning(tmp_path).read_text()
    assert "<script>alert" not in html
    assert "Win rate in full, 95 % CI" in html


@pytest.mark.parametrize("kind", ["run", "file"])
def test_a_search_needs_a_folder_of_its_own(lab_model: Path, pairs_file: Path, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "run":
        RunDirectory.create(out).write_config({"model": "base"}, ["dpo"])
    else:
        out.write_text("")
    with pytest.raises(pf.PrefineError, match="a folder of its own"):
        pf.tune(**small(lab_model, pairs_file, out))


@pytest.mark.parametrize(("package", "more"), [("optuna", {"sampler": "optuna"}), ("ray", {"parallel": 2})])
def test_a_package_that_is_missing_is_named(
    lab_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, more: dict[str, Any]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    plant(monkeypatch, lambda s: 0.6)
    with pytest.raises(pf.PrefineError, match=f"pip install {package}"):
        pf.tune(**small(lab_model, pairs_file, tmp_path / "out", **more))


def test_trials_side_by_side(lab_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ray is asked for, on a stand-in with its functions: each rung's trials are handed over at once."""
    handed: list[Any] = []

    def remote(function: Any) -> Any:
        def run(*args: Any) -> Any:
            handed.append(args[0])
            return function(*args)

        return types.SimpleNamespace(options=lambda **share: types.SimpleNamespace(remote=run))

    ray: Any = types.ModuleType("ray")
    ray.init, ray.is_initialized = lambda **given: None, lambda: False
    ray.cluster_resources, ray.remote = lambda: {"CPU": 4.0}, remote
    ray.wait, ray.get = lambda waiting: ([waiting[-1]], waiting[:-1]), lambda one: one
    monkeypatch.setitem(sys.modules, "ray", ray)
    plant(monkeypatch, lambda s: 0.5 + s["learning_rate"])
    found = pf.tune(**small(lab_model, pairs_file, tmp_path / "out", parallel=2))
    assert found.best == {"learning_rate": 1e-2}
    assert len(handed) == 6


def test_optunas_values_are_those_of_the_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    optuna = pytest.importorskip("optuna")
    del optuna
    grid: Any = {"learning_rate": Range(1e-7, 1e-5, False), "lora_r": Range(4, 64, True), "loss_type": [["sigmoid"], ["ipo"]]}
    runs = []
    for _ in range(2):
        planted = Planted(lambda s, part: -abs(math.log10(s["learning_rate"]) + 6) if s else -10.0)
        best = samplers.tpe(grid, {}, planted, 15, seed=0)
        runs.append([s for _, [s] in planted.asked])
    assert runs[0] == runs[1]
    assert runs[0][0] == {}
    assert len(runs[0]) == 15
    for s in runs[0][1:]:
        assert 1e-7 <= s["learning_rate"] <= 1e-5
        assert s["lora_r"] in range(4, 65)
        assert s["loss_type"] in (["sigmoid"], ["ipo"])
    assert best is not None
    assert abs(math.log10(best["learning_rate"]) + 6) < 0.5


def test_a_search_by_optuna(lab_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    made = plant(monkeypatch, lambda s: 0.5 + s["learning_rate"])
    given = small(lab_model, pairs_file, tmp_path / "out", sampler="optuna", trials=5, grid=["learning_rate=1e-4..1e-1", "lora_r=2..8"])
    found = pf.tune(**given)
    tried = [t.settings["learning_rate"] for t in made]
    assert len(made) == 5
    assert tried[0] == 1e-6
    assert found.best["learning_rate"] == max(tried)
    assert pf.tune(**given).best == found.best
    assert len(made) == 5


# ---- real trainings


@pytest.mark.parametrize("grid", [{"learning_rate": [1e-3]}, {"lora_r": [2, 4]}])
@pytest.mark.long
def test_the_reference_is_computed_once_and_the_base_responds_once(
    lab_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grid: dict[str, Any]
) -> None:
    """Of full fine-tuning and of adapters of any rank; a judge makes the measure a win rate."""
    from prefine.generation.response_cache import CachedEngine

    monkeypatch.setenv("PREFINE_CACHE", str(tmp_path / "cache"))
    sampled: list[int] = []
    whole = CachedEngine.answers

    def answers(self: Any, requests: Any, sampling: Any) -> Any:
        yield from whole(self, requests, sampling)
        sampled.append(self.generated)

    monkeypatch.setattr(CachedEngine, "answers", answers)
    lora = {"lora_r": 8} if "lora_r" in grid else {}
    given = small(lab_model, pairs_file, tmp_path / "out", judge={"judge": "fake"}, max_new_tokens=6, temperature=1.0, grid=grid, **lora)
    found = pf.tune(**given)
    assert len(list((tmp_path / "out" / "reference").iterdir())) == 1
    assert found.win_rate is not None
    assert (found.estimate.clusters, found.win_rate) == (8, found.estimate)
    # base, tuned, base, tuned ... over the same prompts: of the base's turns on the prompts to choose by only the first samples anything
    count = len(found.trials)
    assert sampled[0 : 2 * count : 2] == [8, *[0] * (count - 1)]
    assert 0 not in sampled[1 : 2 * count : 2]


@pytest.mark.long
def test_a_command_that_is_killed_goes_on(lab_model: Path, pairs_file: Path, tmp_path: Path) -> None:
    """Killed within its third trial, behind a checkpoint: the same command goes on from there, ends as one that was never killed, and
    does not train the first two again."""
    words = ["--model", str(lab_model), "--data", str(pairs_file), "--grid", "learning_rate=1e-2", "--max-length", "128"]
    words += ["--num-train-epochs", "2", "--select-prompts", "8", "--fresh-prompts", "8", "--logging-steps", "1", "--guard-prompts", "0"]
    words += ["--save-steps", "2"]
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "prefine.cli", "tune", *words, "--output-dir", str(out)]
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and len({p.parents[2] for p in (out / "trials").glob(f"*/checkpoints/*/{MANIFEST}")}) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = json.loads((out / "tune.json").read_text())
    assert len(kept["trials"]) == 2
    before = {t["name"]: (out / "trials" / t["name"] / "metrics.jsonl").stat().st_mtime_ns for t in kept["trials"]}
    assert main(["tune", *words, "--output-dir", str(out)]) == 0
    assert {name: (out / "trials" / name / "metrics.jsonl").stat().st_mtime_ns for name in before} == before
    resumed = [p.name for p in (out / "trials").iterdir() if any(e["event"] == "resume" for e in RunDirectory(p).events())]
    assert len(resumed) == 1
    assert not set(resumed) & set(before)
    assert main(["tune", *words, "--output-dir", str(tmp_path / "whole")]) == 0
    results = [json.loads((folder / "tune.json").read_text()) for folder in (out, tmp_path / "whole")]
    assert [t["measure"] for t in results[0]["trials"]] == [t["measure"] for t in results[1]["trials"]]
    assert all(results[0]["result"][k] == results[1]["result"][k] for k in ("best", "trial", "select", "fresh", "difference", "outcome"))


def test_a_training_that_breaks_is_a_failed_trial(
    lab_model: Path, pairs_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefine.training.dpo import DPOTrainer

    whole = DPOTrainer._loss

    def loss(self: Any, logps: Any, weights: Any) -> Any:
        return whole(self, logps, weights) * (math.nan if self.args.learning_rate > 1e-2 else 1.0)

    monkeypatch.setattr(DPOTrainer, "_loss", loss)
    given = small(lab_model, pairs_file, tmp_path / "out", num_train_epochs=12, grid={"learning_rate": [1e-3, 0.5]}, guard="off")
    found = pf.tune(**given)
    failed = found.trials[found.trials["learning_rate"] == 0.5]
    assert len(failed) == 1
    assert "finite" in failed["failed"].iloc[0]
    assert found.best == {"learning_rate": 1e-3}
