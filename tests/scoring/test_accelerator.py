"""A GPU that is there and cannot be used is told of, before hours on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from prefine.cli import main
from prefine.scoring import accelerator
from prefine.scoring.loading import pick_dtype

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU here can be used")
OLD = "The NVIDIA driver on your system is too old (found version 12020)."


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The driver's file of a GPU."""
    found = tmp_path / "nvidia0"
    found.touch()
    monkeypatch.setattr(accelerator, "NODES", str(tmp_path / "nvidia[0-9]*"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return found


@pytest.fixture
def old_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError(f"{OLD}\nPlease update your GPU driver")

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", init)


def test_a_build_without_cuda_is_named(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert f"is there ({node}), but torch cannot use it: torch {torch.__version__} is built without CUDA" in accelerator.unused_gpu()


def test_what_the_driver_says_is_told(node: Path, old_driver: None) -> None:
    assert accelerator.unused_gpu().endswith(f"torch cannot use it: {OLD}")


@pytest.mark.parametrize("how", ["no GPU", "hidden", "hidden by -1"])
def test_nothing_is_said_without_reason(how: str, node: Path, old_driver: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "no GPU":
        node.unlink()
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "" if how == "hidden" else "-1")
    assert accelerator.unused_gpu() == ""


@pytest.mark.parametrize("method", ["dpo", "sft", "reward"])
def test_training_is_refused_unless_the_processor_is_asked_for(
    method: str, node: Path, old_driver: None, lab_model: Path, pairs_file: Path, tmp_path: Path, capsys: Any
) -> None:
    line = [method, "--model", lab_model, "--data", pairs_file, "--output-dir", tmp_path / "r", "--max-steps", 1, "--ignore-audit"]
    line += ["--final-eval", "off"] if method == "dpo" else []
    assert main([str(w) for w in line]) == 2
    told = capsys.readouterr().err
    assert OLD in told
    assert "--use-cpu trains on the processor all the same [PF-C10]" in told
    assert not (tmp_path / "r").exists()
    with pytest.warns(UserWarning, match="torch cannot use it"):
        assert main([*map(str, line), "--use-cpu"]) == 0


def test_other_commands_warn_and_env_tells(node: Path, old_driver: None, capsys: Any) -> None:
    with pytest.warns(UserWarning, match="torch cannot use it"):
        assert pick_dtype()[0] == torch.float32
    assert main(["env"]) == 0
    told = capsys.readouterr().out
    assert f"accelerator: none: an NVIDIA GPU is there ({node})" in told
    assert "precision: float32: no GPU" in told
