"""The public functions: signatures, words, keywords."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import prefine as pf
from prefine.api.calls import Call
from prefine.cli import COMMANDS, OWN_WORDS, find

PUBLIC = {
    *("DPOConfig", "DPOTrainer", "EvaluationResult", "ExactJudge", "FakeJudge", "FunctionJudge", "HumanJudge", "OnlineDPOConfig"),
    *("OnlineDPOTrainer", "OpenAIJudge", "PPOConfig", "PPOTrainer", "Preferences", "PrefineError", "Progress", "RewardConfig"),
    *(
        "RewardModelJudge",
        "RewardTrainer",
        "Run",
        "SFTConfig",
        "SFTTrainer",
        "TqdmProgress",
        "VerdictCallback",
        "GuardCallback",
        "doctor",
        "compare",
        "demo",
    ),
    *("dpo", "environment", "evaluate", "experiment", "generate", "judge", "judge_files", "load_preferences", "make_pairs", "merge"),
    *("KTOConfig", "KTOTrainer", "kto"),
    *("Plan", "online_dpo", "plan", "ppo", "reward", "sft", "tune"),
}


def test_public_names() -> None:
    """A name that goes breaks somebody's script: it goes with a new major version."""
    assert set(pf.__all__) == PUBLIC
    for name in PUBLIC:
        found = getattr(pf, name)
        assert found is not None
        assert found.__doc__


def test_every_command_is_one_documented_call() -> None:
    for name in COMMANDS:
        if name not in OWN_WORDS:
            call = find(name).call
            assert isinstance(call, Call), name
            assert call.__doc__, name
            assert {o.help for o in call.options().values()} - {""} or name == "env", name


@pytest.mark.parametrize("name", sorted(n for n in PUBLIC if n.islower()))
def test_signatures_name_every_option(name: str) -> None:
    function = getattr(pf, name)
    if isinstance(function, Call):
        parameters = inspect.signature(function).parameters
        assert {*function.options(), "progress"} == set(parameters)
        assert list(parameters)[: len(function.positional)] == list(function.positional)


def test_words_and_keywords() -> None:
    with pytest.raises(pf.PrefineError, match="here it is 'learning_rate'"):
        pf.dpo("model", "data", lr=1)
    with pytest.raises(TypeError, match="multiple values for argument 'model'"):
        pf.dpo("model", model="other")
    with pytest.raises(TypeError, match="takes 3 positional arguments but 4"):
        pf.dpo("a", "b", "c", "d")
    with pytest.raises(pf.PrefineError, match="'soon' is not a whole number"):
        pf.dpo("model", "data", max_steps="soon")


def test_importing_takes_no_torch_and_nothing_prints() -> None:
    code = (
        "import sys, prefine as pf; pf.load_preferences; pf.Run; pf.judge; pf.OpenAIJudge(model='x'); pf.dpo.options();"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_nothing_prints_unless_asked(pairs_file: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = pf.load_preferences(pairs_file)
    assert len(data) == 64
    data.audit(near=False)
    assert capfd.readouterr() == ("", "")
