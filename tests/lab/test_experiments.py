"""The lab's experiments: what they measure, keep, compare and draw."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from filelock import FileLock

from prefine.api.experiments import ABOUT
from prefine.cli import main
from prefine.lab.experiment import Settings
from prefine.lab.experiments import EXPERIMENTS, Arm, Contrast, Experiment, run_seed
from prefine.lab.findings import Findings, over_seeds, state
from prefine.lab.ground import Measured, ground_of
from prefine.lab.rlhf import RlhfSettings


@pytest.mark.long
def test_experiment_from_the_command_line_and_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["lab", "hacking", "--quick", "--only", "KL", "--output-dir", str(tmp_path)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "no KL" in out
    assert "KL to the base stops it" in out
    assert "'no KL', one seed: from first to last rollouts" in " ".join(out.split())
    found = json.loads((tmp_path / "hacking-quick-KL.json").read_text())
    assert [a["arm"] for a in found["arms"]] == ["no KL", "KL 0.1"]
    page = (tmp_path / "hacking-quick-KL.html").read_text()
    assert page.count("<figure") == 2
    assert "ensemble" not in page.split("<h2>")[0].split("</header>")[1]
    picture = ElementTree.parse(tmp_path / "hacking-quick-KL.svg").getroot()
    assert "no KL" in "".join(picture.itertext())
    kept = {p: p.stat().st_mtime_ns for p in tmp_path.glob("seed-0-*/*/*/measured.json")}
    assert len(kept) == 2
    assert main(words) == 0
    assert {p: p.stat().st_mtime_ns for p in kept} == kept  # nothing is done twice
    config = next(tmp_path.glob("seed-0-*/hacking/kl-0.1*/config.yaml")).read_text()
    assert "repeat: prefine lab hacking --only" in config


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["lab", "hackin"], "did you mean 'hacking'"),
        (["lab", "live", "--seeds", "0"], "at least 1"),
        (["lab", "live", "--only", "x"], "no arm"),
    ],
)
def test_mistakes(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert told in capsys.readouterr().err


@pytest.mark.long
def test_two_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another experiment shares the seed's folder; the same one, run a second time meanwhile, is refused."""
    ground = ground_of(Settings().quick(), RlhfSettings().quick(), tmp_path, lambda *a: None)
    words = ["lab", "frontier", "--quick", "--only", "n 2", "--output-dir", str(tmp_path)]
    with FileLock(ground.folder / ".hacking.lock"):
        assert main(words) == 0
    capsys.readouterr()
    with FileLock(ground.folder / ".frontier.lock"):
        assert main(words) == 2
    assert "frontier, seed 0, is being run" in capsys.readouterr().err

    second = ground_of(Settings().quick(), RlhfSettings().quick(), tmp_path / "two", lambda *a: None)
    with ThreadPoolExecutor() as pool, FileLock(second.folder / ".lock"):
        base = pool.submit(lambda: second.base)
        with pytest.raises(FutureTimeout):
            base.result(timeout=0.5)
        assert not (second.folder / "base").exists()  # it waits for who makes parts
    assert base.result().exists()


def test_table_of_experiments() -> None:
    assert set(ABOUT) == set(EXPERIMENTS)
    for experiment in EXPERIMENTS.values():
        labels = [a.label for a in experiment.arms]
        assert len(set(labels)) == len(labels)
        assert {x for c in experiment.contrasts for x in (c.better, c.worse)} <= set(labels)


@pytest.mark.long
def test_every_way_to_train_runs(tmp_path: Path) -> None:
    """One arm of each kind, at a smoke test's size: distributions move where training is long enough to move them."""
    settings, own = replace(Settings().quick(), samples_per_prompt=1), RlhfSettings().quick()
    kinds = [
        EXPERIMENTS["frontier"].arms[i] for i, a in enumerate(EXPERIMENTS["frontier"].arms) if a.knob in ("beta 0.1", "rate 0.003", "n 4")
    ]
    kinds += [a for a in EXPERIMENTS["live"].arms if a.knob in ("rate 0.001", "rate 0.0003")]
    kinds += [a for a in EXPERIMENTS["filters"].arms if a.name in ("PPO, best of 4", "SFT, highest half")]
    kinds += [a for a in EXPERIMENTS["ensembles"].arms if a.label == "mean - std of 4, 40 % wrong"]
    found = run_seed(Experiment("all", "", tuple(kinds)), settings, own, tmp_path, lambda *a: None)
    assert list(found) == [a.label for a in kinds]
    for m in found.values():
        assert len(m.gold) == len(m.base) == len(m.clusters) == 272
        assert all(0 <= g <= 1 for g in m.gold)
    best = found["best of n, n 4"]
    assert best.kl == pytest.approx(math.log(4) - 3 / 4)
    ground = ground_of(settings, own, tmp_path, lambda *a: None)
    assert ground.folder != ground_of(replace(settings, pair_prompts=61), own, tmp_path, lambda *a: None).folder
    base = ground.judged(ground.base_answers(), 0.0, 0.0, ground.reward("all", ground.pairs()))
    assert base.gold == base.base
    assert best.proxy > base.proxy + 0.3  # the best of four by the reward model scores higher by it
    assert found["PPO, best of 4"].curve


def measured(golds: list[float], base: list[float], kl: float, curve: list[tuple[float, float]] | None = None) -> Measured:
    return Measured(golds, base, ["a", "b", "c", "d"], kl, math.nan, 1.0, {}, curve or [])


def test_findings_by_hand() -> None:
    base = [0.5, 0.5, 0.5, 0.5]
    experiment = Experiment("e", "", tuple(Arm(n, lambda g, r: None) for n in ("x", "y")), (Contrast("x is more", "x", "y"),), hacks="y")  # type: ignore[arg-type,return-value]
    falls = [(0.6, 0.0)] * 10 + [(0.3, 1.0)] * 10
    found = Findings(
        experiment,
        {
            0: {"x": measured([0.6, 0.6, 0.6, 0.6], base, 1.0), "y": measured([0.4, 0.4, 0.4, 0.4], base, 9.0, falls)},
            1: {"x": measured([0.7, 0.7, 0.7, 0.7], base, 1.0), "y": measured([0.4, 0.5, 0.4, 0.3], base, 9.0, falls)},
        },
    )
    [(_, each, whole)] = found.contrasts()
    assert [e.estimate for e in each] == pytest.approx([0.2, 0.3])
    half = 12.706204736 * 0.0707106781 / math.sqrt(2)  # Student's 97.5 % quantile with one degree of freedom, times sd over root 2
    assert (whole.low, whole.high) == pytest.approx((0.25 - half, 0.25 + half))
    assert state(whole) == "inconclusive"
    gold, reward = found.hacking() or (whole, whole)
    assert (gold.estimate, reward.estimate) == pytest.approx((-0.3, 1.0))
    assert found.hacked().startswith("'y' hacked its reward")
    assert found.each("y")[1].win_rate().estimate == pytest.approx((0 + 0.5 + 0 + 0) / 4)
    assert found.rows()[0][0] == "x"
    json.dumps(found.summary(), allow_nan=False)


def test_interval_over_seeds() -> None:
    one = over_seeds([0.3])
    assert math.isinf(one.low)
    assert state(one) == "inconclusive"
    assert state(over_seeds([0.30, 0.31, 0.32])) == "shown"
    assert state(over_seeds([-0.30, -0.31, -0.32])) == "the other way round"
