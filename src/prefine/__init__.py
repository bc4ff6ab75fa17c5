"""Prefine aligns language models with what people prefer, and measures whether it worked.

import prefine as pf

data = pf.load_preferences("pairs.jsonl")
run = pf.dpo(model="...", data=data, output_dir="runs/first", lora_r=16)
run.evaluate(judge=pf.OpenAIJudge(model="..."))
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "DPOConfig",
    "DPOTrainer",
    "EvaluationResult",
    "ExactJudge",
    "FakeJudge",
    "FunctionJudge",
    "GuardCallback",
    "HumanJudge",
    "KTOConfig",
    "KTOTrainer",
    "OnlineDPOConfig",
    "OnlineDPOTrainer",
    "OpenAIJudge",
    "PPOConfig",
    "PPOTrainer",
    "Plan",
    "Preferences",
    "PrefineError",
    "Progress",
    "RewardConfig",
    "RewardModelJudge",
    "RewardTrainer",
    "Run",
    "SFTConfig",
    "SFTTrainer",
    "TqdmProgress",
    "VerdictCallback",
    "compare",
    "demo",
    "doctor",
    "dpo",
    "environment",
    "evaluate",
    "experiment",
    "generate",
    "judge",
    "judge_files",
    "kto",
    "load_preferences",
    "make_pairs",
    "merge",
    "online_dpo",
    "plan",
    "ppo",
    "reward",
    "sft",
    "tune",
]

if TYPE_CHECKING:
    from prefine.api.comparing import compare
    from prefine.api.demo import demo
    from prefine.api.doctoring import doctor
    from prefine.api.dpo import dpo, kto
    from prefine.api.environment import environment
    from prefine.api.evaluation import evaluate
    from prefine.api.experiments import experiment
    from prefine.api.generating import generate
    from prefine.api.judge_objects import ExactJudge, FunctionJudge, HumanJudge, OpenAIJudge, RewardModelJudge
    from prefine.api.judging import judge, judge_files
    from prefine.api.merging import merge
    from prefine.api.own_pairs import make_pairs
    from prefine.api.planning import Plan, plan
    from prefine.api.preferences import Preferences, load_preferences
    from prefine.api.progress import Progress, TqdmProgress
    from prefine.api.results import EvaluationResult
    from prefine.api.reward import reward
    from prefine.api.run import Run
    from prefine.api.sampling import online_dpo, ppo
    from prefine.api.sft import sft
    from prefine.api.tuning import tune
    from prefine.api.verdict_callback import VerdictCallback
    from prefine.errors import PrefineError
    from prefine.evaluation.judge import FakeJudge
    from prefine.guard.callback import GuardCallback
    from prefine.training.config import DPOConfig, KTOConfig, OnlineDPOConfig, PPOConfig, RewardConfig, SFTConfig
    from prefine.training.dpo import DPOTrainer
    from prefine.training.kto import KTOTrainer
    from prefine.training.online_dpo import OnlineDPOTrainer
    from prefine.training.ppo import PPOTrainer
    from prefine.training.reward import RewardTrainer
    from prefine.training.sft import SFTTrainer

_HOMES = {
    **dict.fromkeys(("DPOConfig", "KTOConfig", "OnlineDPOConfig", "PPOConfig", "RewardConfig", "SFTConfig"), "training.config"),
    **{"DPOTrainer": "training.dpo", "KTOTrainer": "training.kto", "OnlineDPOTrainer": "training.online_dpo", "PPOTrainer": "training.ppo"},
    **{"RewardTrainer": "training.reward", "SFTTrainer": "training.sft"},
    **dict.fromkeys(("ExactJudge", "FunctionJudge", "HumanJudge", "OpenAIJudge", "RewardModelJudge"), "api.judge_objects"),
    **{"FakeJudge": "evaluation.judge", "PrefineError": "errors", "EvaluationResult": "api.results"},
    **dict.fromkeys(("Preferences", "load_preferences"), "api.preferences"),
    **dict.fromkeys(("Plan", "plan"), "api.planning"),
    **dict.fromkeys(("Progress", "TqdmProgress"), "api.progress"),
    **{"Run": "api.run", "VerdictCallback": "api.verdict_callback", "compare": "api.comparing", "demo": "api.demo", "dpo": "api.dpo"},
    **{"kto": "api.dpo"},
    **{"doctor": "api.doctoring", "GuardCallback": "guard.callback"},
    **{"environment": "api.environment", "evaluate": "api.evaluation", "experiment": "api.experiments", "generate": "api.generating"},
    **{"judge": "api.judging", "judge_files": "api.judging", "make_pairs": "api.own_pairs", "merge": "api.merging"},
    **{"online_dpo": "api.sampling", "ppo": "api.sampling", "reward": "api.reward", "sft": "api.sft", "tune": "api.tuning"},
}


def __getattr__(name: str) -> Any:
    """Import names when they are asked for: torch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 'prefine' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"prefine.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
