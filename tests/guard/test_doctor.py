"""``prefine doctor`` on logs that other tools wrote, and on what is no log."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import prefine as pf
from prefine.cli import main

Rows = list[dict[str, Any]]


def exploded() -> Rows:
    """A DPO run in TRL's names whose loss leaves 0.69 for 5."""
    return [
        {
            "step": 10 * i,
            "epoch": i / 40,
            "loss": 0.69 if i < 15 else 5.0,
            "grad_norm": 2.0 if i < 15 else 90.0,
            "learning_rate": 5e-5,
            "rewards/chosen": -0.1,
            "rewards/rejected": -0.2,
            "rewards/accuracies": 0.6,
            "rewards/margins": 0.1,
            "logps/chosen": -200.0,
            "logps/rejected": -210.0,
        }
        for i in range(1, 31)
    ]


def trainer_state(folder: Path, rows: Rows) -> Path:
    path = folder / "trainer_state.json"
    path.write_text(json.dumps({"log_history": rows, "max_steps": 300, "train_batch_size": 8, "logging_steps": 10, "global_step": 300}))
    return path


def checkpoints(folder: Path, rows: Rows) -> Path:
    for name, part in (("checkpoint-9", rows[:5]), ("checkpoint-300", rows)):
        (folder / name).mkdir()
        trainer_state(folder / name, part)
    return folder


def wandb_export(folder: Path, rows: Rows) -> Path:
    path = folder / "wandb_export.csv"
    with path.open("w", newline="") as file:
        names = [n for n in rows[0] if n != "step"]
        columns = ["Step", *(f"quiet-river-7 - train/{n}" for n in names), *(f"quiet-river-7 - train/{n}__MIN" for n in names)]
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows([r["step"], *(r[n] for n in names), *(r[n] for n in names)] for r in rows)
    return path


def llama_factory(folder: Path, rows: Rows) -> Path:
    path = folder / "trainer_log.jsonl"
    renamed = [{("current_steps" if k == "step" else "lr" if k == "learning_rate" else k): v for k, v in r.items()} for r in rows]
    path.write_text("".join(json.dumps(r) + "\n" for r in renamed))
    return path


def tensorboard(folder: Path, rows: Rows) -> Path:
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tb"))
    for row in rows:
        for name, value in row.items():
            if name != "step":
                writer.add_scalar(f"train/{name}", value, row["step"])
    writer.close()
    return folder / "tb"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("write", [trainer_state, checkpoints, wandb_export, llama_factory, tensorboard])
def test_one_run_in_the_logs_of_five_tools(write: Callable[[Path, Rows], Path], tmp_path: Path) -> None:
    found = pf.doctor(write(tmp_path, exploded()))
    assert not found.healthy
    rules = {f.rule: f.step for f in found.findings}
    assert rules["loss-explodes"] == 160  # the median of three logs is up at the second of them
    assert found.advice
    curve = {row[0]: row for row in found.table.rows}
    assert curve["loss"][1] == "0.69 to 5"


def test_the_command_says_what_to_do(tmp_path: Path, capsys: Any) -> None:
    assert main(["doctor", str(trainer_state(tmp_path, exploded()))]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "loss-explodes" in out
    assert "1. lower the learning rate to a tenth" in out


def test_nan_as_json_writes_it_and_as_trackers_do(tmp_path: Path) -> None:
    for place, bad in enumerate((float("nan"), None)):
        folder = tmp_path / str(place)
        folder.mkdir()
        rows = exploded()[:12]
        for row in rows[6:]:
            row["loss"] = bad
        assert "not-finite" in {f.rule for f in pf.doctor(trainer_state(folder, rows)).findings}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("x.json", "{", "not valid JSON"),
        ("x.json", "{}", "no log_history"),
        ("x.json", "[1, 2]", "no log_history"),
        ("x.csv", "", "no metric was logged"),
        ("x.csv", "a,b\n1,2\n", ""),
        ("x.jsonl", "", "no metric was logged"),
        ("x.txt", "loss", "no log is known by this name"),
        ("x.json", '{"log_history": []}', "no metric was logged"),
        ("x.json", '{"log_history": [{"step": "ten", "loss": "high"}, {"loss": true}, 7]}', ""),
    ],
)
def test_what_is_no_log(name: str, text: str, words: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / name).write_text(text)
    code = main(["doctor", str(tmp_path / name)])
    err = capsys.readouterr().err
    assert (code == 2 and words in err) if words else code == 0, err


def test_a_path_or_a_method_that_does_not_exist(tmp_path: Path, capsys: Any) -> None:
    assert main(["doctor", str(tmp_path / "nowhere")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    assert main(["doctor", str(trainer_state(tmp_path, exploded())), "--method", "spo"]) == 2
    assert "did you mean 'ppo'" in capsys.readouterr().err


def test_long_logs_take_no_time_by_their_square(tmp_path: Path) -> None:
    """Fifty thousand rows are averaged before rules look at them."""
    rows = [{"step": i, "loss": 0.6, "learning_rate": 1e-6} for i in range(50_000)]
    assert pf.doctor(trainer_state(tmp_path, rows)).healthy
