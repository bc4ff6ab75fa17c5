"""Defaults that train, and TRL's where they are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from prefine.cli import main
from prefine.training.config import DPOConfig, KTOConfig, OnlineDPOConfig, PPOConfig, RewardConfig, SFTConfig
from prefine.training.recipes import RECIPES, usual_learning_rates

CONFIGS = {"dpo": DPOConfig, "kto": KTOConfig, "sft": SFTConfig, "reward": RewardConfig, "ppo": PPOConfig, "online-dpo": OnlineDPOConfig}


@pytest.mark.parametrize("key", RECIPES, ids=str)
def test_every_recipe_is_of_known_options_has_sources_and_is_usual(key: tuple[str, bool], tmp_path: Path) -> None:
    recipe = RECIPES[key]
    CONFIGS[key[0]](output_dir=str(tmp_path), bf16=False, **recipe.values)
    assert all(source for _, source in recipe.settings.values())
    low, high = usual_learning_rates(*key, weights=10**9)
    assert 1e-12 < low <= recipe.values["learning_rate"] <= high < 1.0
    assert usual_learning_rates(*key, weights=10**6) == (low, pytest.approx(100 * high))  # small models bear more


@pytest.mark.filterwarnings("ignore")
def test_what_is_resolved_is_told(lab_model: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["dpo", "--model", str(lab_model), "--data", str(pairs_file), "--max-steps", "1", "--final-eval", "off"]
    seen = {}
    for name, more in (
        ("whole", []),
        ("adapter", ["--lora-r", "4"]),
        ("trl", ["--lora-r", "4", "--preset", "trl"]),
        ("own", ["--learning-rate", "0.5"]),
    ):
        assert main([*words, *more, "--output-dir", str(tmp_path / name)]) == 0
        told = capsys.readouterr().out
        seen[name] = yaml.safe_load((tmp_path / name / "config.yaml").read_text()).get("learning_rate")
        assert ("warning: learning rate 0.5" in told) == (name == "own")
        assert f"preset {'trl' if name == 'trl' else 'recipe'}" in told
        assert "no responses were sampled" in told
    assert seen == {"whole": 1e-6, "adapter": 5e-5, "trl": None, "own": 0.5}
    assert DPOConfig(output_dir=str(tmp_path)).learning_rate == 1e-6  # TRL's, in Python
    assert main([*words, "--preset", "recipes", "--output-dir", str(tmp_path / "x")]) == 2
    assert "did you mean" in capsys.readouterr().err.lower()
    assert main([*words, "--final-judge", "j.yaml", "--output-dir", str(tmp_path / "x")]) == 2
    assert "would be ignored" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_run_with_a_judge_ends_in_a_verdict(
    lab_model: Path, pairs_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "score.py").write_text("def score(prompt, answer):\n    return len(answer)\n")
    judge = tmp_path / "judge.yaml"
    judge.write_text(yaml.safe_dump({"judge": "python", "function": f"{tmp_path / 'score.py'}:score"}))
    words = ["dpo", "--model", str(lab_model), "--data", str(pairs_file), "--max-steps", "2", "--final-judge", str(judge)]
    assert main([*words, "--learning-rate", "1e-2", "--output-dir", str(tmp_path / "r")]) == 0
    told = capsys.readouterr().out
    assert any(word in told for word in ("BETTER", "WORSE", "INCONCLUSIVE"))
    assert "win rate of" in told
    judge.write_text(yaml.safe_dump({"judge": "openai", "judge_model": "j", "server": "http://127.0.0.1:9"}))
    assert main([*words, "--output-dir", str(tmp_path / "s")]) == 2  # found before training
    assert "cannot be reached" in capsys.readouterr().err
    judge.write_text(yaml.safe_dump({"judge": "python", "function": f"{tmp_path / 'score.py'}:score"}))
    assert main([*words, "--eval-fraction", "0", "--output-dir", str(tmp_path / "s")]) == 2
    assert "nothing to judge" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
    looks = (tmp_path / "r" / "eval" / "looks.jsonl").read_text().splitlines()
    assert len(looks) == 1  # the judge's look at the end of training is one
    # A judge that fails costs the verdict, not what was measured.
    (tmp_path / "none.py").write_text("def score(prompt, answer):\n    return None\n")
    judge.write_text(yaml.safe_dump({"judge": "python", "function": f"{tmp_path / 'none.py'}:score"}))
    assert main([*words, "--output-dir", str(tmp_path / "t")]) == 0
    assert "the judge failed" in (tmp_path / "t" / "model" / "README.md").read_text()
