"""The doctor on curves that people published: what they say was wrong is what it finds, and released models' runs are not blamed.

``public_curves.json`` holds figures rebuilt from threads, model cards and reports, each with its source; nobody who wrote the rules
chose them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import prefine as pf

CURVES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "public_curves.json").read_text())
FOUND: dict[str, set[str]] = {
    "trl_1236_loss_swings_then_zero": {"loss-explodes", "loss-spike"},
    "trl_1311_rewards_stuck_at_zero": {"loss-stuck"},
    "eto_14_empty_answers": {"empty-responses"},
    "dpo_36_lr_4e4": {"learning-rate", "chosen-falls"},
    "over_optimised_60_steps": {"memorised"},
    "kto_nan": {"not-finite"},
    "llama2_13b_accuracy_half": {"at-chance"},
    "flash_vstream_loss_zero": {"zero-loss"},
    "qwen25_sdpa_nan": {"not-finite"},
    "xtuner_187_grad_nan": {"not-finite"},
    "llamafactory_4850_then_nan": {"not-finite"},
    "llava_1375_rises_to_6": {"loss-explodes"},
    "llamafactory_934_accuracy_falls": {"accuracy-falls"},
    "trlx_338_accuracy_half": {"at-chance"},
    "openr1_255_format_up_accuracy_down": {"rewards-part"},
    "autocontext_1067_all_truncated": {"equal-rewards"},
    "trl_3857_no_spread_in_groups": {"equal-rewards"},
    "swift_5890_grad_and_kl_zero": {"no-gradient"},
    "openr1_704_kl_nan": {"not-finite"},
    "r1_4_accuracy_reward_stuck_half": {"flat-reward"},
    "llava_918_single_spikes": {"loss-spike"},
}
NOTED = {"deepspeed_322_reward_overfits": {"held-out-stops"}}
"""Held-out accuracy falls by a point and a half there, within its noise: that it stopped rising is all that can be said."""
NOT_IN_CURVES = {"trl_733_sft_better_loss_worse_text"}
"""The curves are those of a healthy run, and only responses show what is wrong."""


def diagnosis(curve: dict[str, Any], folder: Path) -> Any:
    numbers = {"nan": math.nan, "inf": math.inf}
    rows = [{k: numbers.get(v, v) if isinstance(v, str) else v for k, v in row.items()} for row in curve["rows"]]
    path = folder / "trainer_state.json"
    path.write_text(json.dumps({"log_history": rows, "max_steps": curve["steps"], "num_train_epochs": curve["epochs"]}))
    return pf.doctor(path, method=curve["method"], beta=curve["beta"])


def test_every_curve_is_expected_to_show_something_or_nothing() -> None:
    broken = {c["name"] for c in CURVES if c["says"] == "broken"}
    assert broken == FOUND.keys() | NOTED.keys() | NOT_IN_CURVES


@pytest.mark.parametrize("curve", [c for c in CURVES if c["name"] in FOUND], ids=lambda c: c["name"])
def test_what_was_wrong_is_found(curve: dict[str, Any], tmp_path: Path) -> None:
    found = {f.rule for f in diagnosis(curve, tmp_path).findings if f.severity != "note"}
    assert FOUND[curve["name"]] <= found


@pytest.mark.parametrize("curve", [c for c in CURVES if c["name"] in NOTED], ids=lambda c: c["name"])
def test_what_may_be_noise_is_noted(curve: dict[str, Any], tmp_path: Path) -> None:
    found = diagnosis(curve, tmp_path)
    assert NOTED[curve["name"]] <= {f.rule for f in found.findings}
    assert found.healthy


@pytest.mark.parametrize("curve", [c for c in CURVES if c["name"] in NOT_IN_CURVES], ids=lambda c: c["name"])
def test_what_no_curve_tells_is_left_to_a_judge(curve: dict[str, Any], tmp_path: Path) -> None:
    assert "They do not tell whether the responses got better: have them judged" in " ".join(diagnosis(curve, tmp_path).lines)


@pytest.mark.parametrize("curve", [c for c in CURVES if c["says"] == "healthy"], ids=lambda c: c["name"])
def test_a_released_model_is_not_blamed(curve: dict[str, Any], tmp_path: Path) -> None:
    found = diagnosis(curve, tmp_path)
    assert found.healthy, [f.sentence for f in found.findings]
