"""Every example runs, in a fresh process, on a tiny model without a network: the scripts, the configuration files, the notebook."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefine.cli import main

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
METHODS = ("sft", "dpo", "reward", "ppo", "online_dpo")
SAMPLING = ("ppo", "online_dpo")
ENV = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def run(words: list[str]) -> str:
    """Run a command in the repository's root; returns what it printed."""
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=ROOT, env=ENV, timeout=300)
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def reward_model(chat_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What examples/reward.yaml makes."""
    out = tmp_path_factory.mktemp("reward") / "run"
    run([sys.executable, "-m", "prefine.cli", *command("reward"), "--model", str(chat_model), "--output-dir", str(out), "--max-steps", "1"])
    return out / "model"


def command(method: str) -> list[str]:
    """The words after ``prefine`` of a configuration's first line."""
    words = shlex.split((EXAMPLES / f"{method}.yaml").read_text().splitlines()[0].removeprefix("# "))
    assert words == ["prefine", method.replace("_", "-"), "--config", f"examples/{method}.yaml"]
    return words[1:]


def short(method: str, reward_model: Path) -> list[str]:
    """What makes an example take seconds."""
    sampling = ["--response-length", "4"] if method in SAMPLING else []
    return ["--max-steps", "2", *sampling, *(["--reward-model", str(reward_model)] if method == "ppo" else [])]


def test_every_way_of_training_has_both() -> None:
    assert {p.stem for p in EXAMPLES.glob("*.yaml")} == set(METHODS)
    assert {p.stem for p in EXAMPLES.glob("*.py")} == {*METHODS, "reward_function"}
    told = (EXAMPLES / "README.md").read_text()
    assert all(f"`{path.name}`" in told for path in EXAMPLES.iterdir() if path.is_file() and path.name != "README.md")


@pytest.mark.parametrize("method", METHODS)
def test_configurations(method: str, chat_model: Path, reward_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [*command(method), "--model", str(chat_model), "--output-dir", str(out), *short(method, reward_model)]
    run([sys.executable, "-m", "prefine.cli", *words])
    assert (out / "model" / "adapter_model.safetensors").exists()
    resolved = yaml.safe_load((out / "config.yaml").read_text())
    given = yaml.safe_load((EXAMPLES / f"{method}.yaml").read_text())
    for key in given.keys() - {"model", "output_dir", "reward_model", "response_length"}:
        assert as_number(resolved[key]) in (as_number(given[key]), [as_number(given[key])]), key


def as_number(value: Any) -> Any:
    """YAML reads 5e-5 as text."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


@pytest.mark.parametrize("method", METHODS)
def test_scripts(method: str, chat_model: Path, reward_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["--model", str(chat_model), "--output-dir", str(out), *short(method, reward_model)]
    assert run([sys.executable, f"examples/{method}.py", *words])
    assert (out / "model" / "adapter_model.safetensors").exists()


def test_the_notebook(chat_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    settings = {"MODEL": chat_model, "DATA": EXAMPLES / "pairs.jsonl", "OUTPUT_DIR": tmp_path / "out", "MAX_STEPS": 2, "MAX_NEW_TOKENS": 4}
    for name, value in settings.items():
        monkeypatch.setenv(f"PREFINE_{name}", str(value))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    for folder in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(folder, str(tmp_path / folder))
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "the notebook is kept without outputs"
    with_kernel_of_this_python(tmp_path / "JUPYTER_DATA_DIR")
    notebook.cells.append(nbformat.v4.new_code_cell("import json\nPath('win_rate.json').write_text(json.dumps(vars(verdict.win_rate)))"))
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="tests", resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [json.dumps(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    assert "44 pairs" in shown[1]
    assert (tmp_path / "out" / "dpo" / "model" / "adapter_model.safetensors").exists()
    same_by_command(tmp_path, chat_model)


def same_by_command(folder: Path, chat_model: Path) -> None:
    """The commands give what the notebook's calls gave: metrics, what was learned, responses, win rate."""
    out, again = folder / "out", folder / "again"
    data = ["--data", str(out / "train.jsonl"), "--eval-data", str(out / "held-out.jsonl")]
    steps = ["--lora-r", "16", "--num-train-epochs", "3", "--max-steps", "2", "--logging-steps", "1"]
    assert main(["dpo", "--model", str(chat_model), *data, "--output-dir", str(again / "dpo"), *steps]) == 0
    timed = ("_runtime", "per_second", "_memory", "seconds")
    for run_a, run_b in zip(*((d / "dpo" / "metrics.jsonl").read_text().splitlines() for d in (out, again)), strict=True):
        a, b = ({k: v for k, v in json.loads(line).items() if not any(t in k for t in timed)} for line in (run_a, run_b))
        assert a == pytest.approx(b, rel=1e-3, abs=1e-5)  # of another process, whose threads add in another order on some machines
    learned = [json.loads((d / "dpo" / "eval" / "final" / "summary.json").read_text())["learning"] for d in (out, again)]
    assert learned[0]["accuracy"] == learned[1]["accuracy"]
    assert learned[0]["margin"] == pytest.approx(learned[1]["margin"], rel=0.05)  # of two steps: hardly anything
    (folder / "to_the_point.py").write_text(
        "def score(prompt, response):\n    words = len(response.split())\n"
        "    return 0.5 * response.rstrip().endswith(('.', '!', '?')) + (1.0 if 0 < words <= 60 else 0.0)\n"
    )
    asked = ["--prompts", str(out / "held-out.jsonl"), "--max-new-tokens", "4"]
    for model, name in ((chat_model, "base"), (again / "dpo", "tuned")):
        assert main(["generate", "--model", str(model), *asked, "--output", str(again / f"{name}.jsonl")]) == 0
        texts = [[json.loads(line)["answers"] for line in (d / f"{name}.jsonl").read_text().splitlines()] for d in (out, again)]
        assert texts[0] == texts[1]
    judge = ["--judge", "python", "--function", f"{folder / 'to_the_point.py'}:score", "--output", str(again / "numbers.json")]
    assert main(["judge", str(again / "base.jsonl"), str(again / "tuned.jsonl"), *judge, "--output-dir", str(again / "verdicts")]) == 0
    assert json.loads((again / "numbers.json").read_text())["win_rate"] == json.loads((folder / "win_rate.json").read_text())


def with_kernel_of_this_python(data: Path) -> None:
    """A kernel that runs the tests' own interpreter."""
    folder = data / "kernels" / "tests"
    folder.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "tests", "language": "python"}))


def test_the_pairs_are_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "audit", str(EXAMPLES / "pairs.jsonl"), "--strict"]) == 0, capsys.readouterr().out
    prompts = (EXAMPLES / "prompts.txt").read_text().splitlines()
    asked = [json.loads(line)["prompt"][0]["content"] for line in (EXAMPLES / "pairs.jsonl").read_text().splitlines()]
    assert len(set(prompts)) == len(prompts)
    assert not set(prompts) & set(asked)
