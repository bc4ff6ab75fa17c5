"""What scores the samples of PPO and online DPO."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from prefine.api.final_evaluation import FinalOptions
from prefine.api.judges import build_judge, check_ready, judge_choice, load_function
from prefine.errors import ConfigError
from prefine.evaluation.judge import ByScore
from prefine.runs import models_of


@dataclass
class RewardOptions(FinalOptions):
    """What scores the samples, and what is looked at in the end."""

    reward_model: list[str] | None = field(
        default=None, metadata={"help": "Folders or Hub ids of one-label classifiers, as prefine reward saves.", "group": "reward"}
    )
    reward_function: Any = field(
        default=None,
        metadata={
            "help": "file.py:name (or module:name) of (prompts, responses) -> scores, (prompt, response) -> score, or TRL's "
            "(prompts, completions, **columns); None or NaN is a counted failure.",
            "group": "reward",
        },
    )
    reward_judge: Any = field(
        default=None,
        metadata={
            "help": "YAML file with the options of a judge that scores single responses, as prefine judge takes them.",
            "group": "reward",
        },
    )
    reward_weights: list[float] | None = field(
        default=None, metadata={"help": "A weight for each reward, models first.", "group": "reward"}
    )

    def rewards(self) -> list[Any]:
        """All of them, models first.

        Raises:
            ConfigError: none is given.
        """
        found: list[Any] = [folder for name in self.reward_model or [] for folder in models_of(name)]
        if self.reward_function:
            several = self.reward_function if isinstance(self.reward_function, list | tuple) else [self.reward_function]
            found += [given if callable(given) else load_function(str(given), "--reward-function") for given in several]
        if self.reward_judge:
            from prefine.evaluation.reward_scorer import Ensemble

            choice = judge_choice(self.reward_judge, "--reward-judge")
            judge = build_judge(choice, ("policy", "policy"))
            if not isinstance(judge, ByScore) or choice.judge == "exact":
                raise ConfigError(f"{self.reward_judge}: a reward needs a judge that scores: reward-model, python, openai with mode single")
            if isinstance(judge.scorer, Ensemble):
                raise ConfigError(
                    f"{self.reward_judge}: the trainer puts several reward models together: --reward-model A B --reward-aggregate mean"
                )
            check_ready(judge)
            found.append(judge)
        if not found:
            raise ConfigError(
                "no reward: give --reward-model FOLDER (prefine reward makes one), --reward-function file.py:name or --reward-judge FILE",
                code="PF-C07",
            )
        return found
