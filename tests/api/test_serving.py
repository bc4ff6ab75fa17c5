"""``prefine serve-rollouts``: the command that it runs, in vLLM's words."""

from __future__ import annotations

import itertools
import shlex
import sys
from pathlib import Path

import pytest

from prefine.cli import main
from vllm_interface import USED


def test_the_server_is_started_in_words_that_vllm_has(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["serve-rollouts", "base", "--lora-r", "20", "--port", "8011", "--tensor-parallel-size", "2", "--max-length", "512", "--show"]
    assert main(words) == 0
    shown = shlex.split(capsys.readouterr().out)
    assert shown[0] == "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
    assert shown[1:6] == [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", "base"]
    flags = {word[2:].replace("-", "_") for word in shown if word.startswith("--")}
    assert flags <= USED["vllm serve"][3] | USED["vllm serve's server"][3]
    given = dict(itertools.pairwise(shown))
    assert given["--max-lora-rank"] == "32"
    assert given["--logprobs-mode"] == "processed_logprobs"
    assert given["--tensor-parallel-size"] == "2"
    assert "--data-parallel-size" not in given


def test_without_vllm_or_a_model_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve-rollouts", "base"]) == 2
    assert "pip install -c constraints-vllm.txt" in capsys.readouterr().err
    assert main(["serve-rollouts", "--port", "8011"]) == 2
    assert "needs the base MODEL" in capsys.readouterr().err


def test_a_server_that_fails_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    package = tmp_path / "vllm" / "entrypoints" / "cli"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").write_text("")
    (package / "main.py").write_text("import os, sys\nsys.exit(3 if os.environ['VLLM_ALLOW_RUNTIME_LORA_UPDATING'] == '1' else 0)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(["serve-rollouts", "base"]) == 2
    assert "ended with exit code 3" in capsys.readouterr().err
