"""``prefine kto`` from the command to the page: what it says, keeps, resumes and judges again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import prefine
from conftest import lab_pairs
from prefine.api.comparing import _table
from prefine.cli import main
from prefine.errors import ConfigError, DataError

SETTINGS = {"max_steps": 12, "learning_rate": 2e-3, "per_device_train_batch_size": 8, "eval_fraction": 0.3, "seed": 1, "save_steps": 6}


@pytest.fixture(scope="module")
def thumbs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("thumbs") / "thumbs.jsonl"
    sides = [("rejected", "chosen")[i % 4 > 0] for i in range(160)]
    pairs = zip(lab_pairs(160), sides, strict=True)
    rows = [{"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"} for row, side in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def run(lab_model: Path, thumbs: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("kto") / "run"
    return prefine.kto(model=str(lab_model), data=str(thumbs), output_dir=str(folder), final_eval="quick", **SETTINGS)


def summary(run: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(run.path) / "eval" / name / "summary.json").read_text())
    return found


def test_a_run_says_what_it_learned_of_held_out_labels(run: Any) -> None:
    found, data = summary(run, "final"), json.loads((Path(run.path) / "data.json").read_text())
    assert data["responses"] == 160
    learned, held = found["learning"], found["held_out_labels"]
    assert found["held_out_pairs"] is None
    assert held["responses"] == held["wanted"]["count"] + held["unwanted"]["count"] == learned["accuracy"]["count"]
    rows = [json.loads(line) for line in (Path(run.path) / "eval/final/held_out_labels.jsonl").read_text().splitlines()]
    gained = {kind: [after - before for r in rows if r["wanted"] is kind for before, after in [r["logps"]]] for kind in (True, False)}
    pairs = [(a > b) + 0.5 * (a == b) for a in gained[True] for b in gained[False]]
    assert learned["accuracy"]["estimate"] == pytest.approx(sum(pairs) / len(pairs))
    right = [(after > before) == r["wanted"] for r in rows for before, after in [r["logps"]]]
    assert held["accuracy"]["estimate"] == pytest.approx(sum(right) / len(right))
    assert "(AUC)" in found["sentence"]
    page = (Path(run.path) / "report.html").read_text()
    assert "wanted response gained more" in page
    assert "log-prob of unwanted" in page
    assert "unwanted lost" in page
    assert "160 labelled responses of 160 rows" in (Path(run.path) / "model" / "README.md").read_text()


def test_it_is_evaluated_again_on_what_it_held_out(run: Any) -> None:
    again = run.evaluate(name="again", max_new_tokens=8)
    assert again.summary["learning"]["accuracy"] == summary(run, "final")["learning"]["accuracy"]


def test_a_stopped_run_goes_on(run: Any, lab_model: Path, thumbs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["kto", "--model", str(lab_model), "--data", str(thumbs), "--output-dir", str(tmp_path / "run"), "--final-eval", "off"]
    words += [w for name, value in SETTINGS.items() for w in (f"--{name.replace('_', '-')}", str(value))]
    assert main([*words, "--max-steps", "6"]) == 0
    said = capsys.readouterr().out
    assert "labels: " in said
    assert "unwanted, weight " in said
    assert main([*words, "--max-steps", "12", "--resume"]) == 0
    assert "resuming from step 6" in capsys.readouterr().out


def test_other_data_is_read_for_what_it_is(lab_model: Path, thumbs: Path, tmp_path: Path) -> None:
    """Pairs give both sides; labelled responses are no pairs, and it is said who takes them."""
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in lab_pairs(20)))
    settings: dict[str, Any] = {"max_steps": 1, "final_eval": "off"}
    run = prefine.kto(model=str(lab_model), data=str(pairs), output_dir=str(tmp_path / "a"), loss_type="bco", **settings)
    assert json.loads((Path(run.path) / "data.json").read_text())["responses"] == 40
    with pytest.raises(DataError, match=r"train on them as they are \(prefine kto\)"):
        prefine.dpo(model=str(lab_model), data=str(thumbs), output_dir=str(tmp_path / "b"), **settings)


def test_given_weights_stand_in_the_balances_place(lab_model: Path, thumbs: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model": str(lab_model), "data": str(thumbs), "max_steps": 1, "final_eval": "off"}
    run = prefine.kto(output_dir=str(tmp_path / "a"), undesirable_weight=2.0, **settings)
    assert "undesirable_weight: 2.0" in (Path(run.path) / "config.yaml").read_text()
    with pytest.raises(ConfigError, match="--pairing would be ignored"):
        prefine.kto(output_dir=str(tmp_path / "b"), pairing="all", **settings)


def test_a_plan_and_the_doctor_know_it(run: Any, lab_model: Path, thumbs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "kto", "--model", str(lab_model), "--data", str(thumbs)]) == 0
    assert main(["doctor", str(run.path)]) in (0, 1)
    said = capsys.readouterr().out
    assert "kto" in said


def test_runs_of_labels_and_of_pairs_are_compared_in_their_own_words(run: Any, lab_model: Path, thumbs: Path, tmp_path: Path) -> None:
    """An AUC is no reward accuracy: each stands in a row of its own."""
    settings = SETTINGS | {"learning_rate": 1e-3}
    other = prefine.kto(model=str(lab_model), data=str(thumbs), output_dir=str(tmp_path / "other"), final_eval="quick", **settings)
    page = tmp_path / "page.html"
    told = str(prefine.compare(runs=[str(run.path), str(other.path)], html=str(page)))
    assert "AUC of held-out labels" in told
    assert "reward accuracy" not in told
    assert "AUC of held-out labels" in page.read_text()
    pairs = {"learning": {"accuracy": {"estimate": 0.6, "low": 0.5, "high": 0.7, "count": 9}}, "outcome": "", "held_out_labels": None}
    both = _table(["a", "b"], [pairs, summary(run, "final")], "final")
    assert [row[0] for row in both.rows][:2] == ["reward accuracy", "AUC of held-out labels"]
    assert [[bool(cell) for cell in row[1:]] for row in both.rows[:2]] == [[True, False], [False, True]]
