"""The judges by name, and the options that say which one and how."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from prefine.api.judge_objects import JudgeSpec
from prefine.api.options import checked, options_of, pick, read_yaml
from prefine.errors import ConfigError, MissingFile, PrefineError, nearest
from prefine.evaluation.contest import Until, human_verdicts
from prefine.evaluation.judge import ByScore, FakeJudge, FunctionScorer, HumanJudge, Judge, TextFunctionScorer, matches_reference
from prefine.evaluation.verdict import THRESHOLDS, Thresholds
from prefine.evaluation.verdict_files import VerdictFile, read_verdicts
from prefine.runs import models_of, read_json
from prefine.scoring.score_function import identity_of

MODES = ("pairwise", "single", "logprob")
REQUIRED = ("better", "not worse")
WORSE = {"worse", "better, but", "degenerated", "collapsed", "opposite"}
"""Outcomes that are not "not worse"."""


OWN = "own"
"""What :attr:`JudgeChoice.judge` is where it was given as a Judge."""


@dataclass
class JudgeChoice:
    """Who judges."""

    GROUP: ClassVar[str] = "judge"
    judge: Any = field(
        default=None,
        metadata={
            "help": "openai (any compatible server), reward-model, implicit (DPO's own reward), python, exact (reference answers), "
            "human, or fake (for tests)."
        },
    )
    judge_model: str | None = field(default=None, metadata={"help": "openai: the judging model's name on the server."})
    server: str | None = field(default=None, metadata={"help": "openai: the server, as http://127.0.0.1:8000/v1. Unset: OpenAI's own."})
    key_variable: str = field(default="OPENAI_API_KEY", metadata={"help": "openai: environment variable that holds the key."})
    mode: str = field(default="pairwise", metadata={"help": "openai: pairwise (both orders), single (1 to 10), logprob (AlpacaEval 2's)."})
    judge_prompt: str | None = field(
        default=None,
        metadata={"help": "openai: file with your own words: {question}, {answer_a}, {answer_b} (or {answer}), {reference}."},
    )
    structured: bool = field(default=True, metadata={"help": "openai: ask for JSON by a schema; left out by itself where refused."})
    concurrency: int = field(default=8, metadata={"help": "openai: maximum requests under way."})
    timeout: float = field(default=120.0, metadata={"help": "openai: seconds until a request is tried again."})
    retries: int = field(default=6, metadata={"help": "openai: how often a failed request is tried again, waiting longer each time."})
    reward_model: list[str] | None = field(
        default=None, metadata={"help": "reward-model: folder or Hub id of a one-label classifier; several make an ensemble."}
    )
    reward_run: str | None = field(default=None, metadata={"help": "implicit: the run whose reward judges."})
    aggregate: str = field(default="mean", metadata={"help": "reward-model: several as mean, min, or mean-std."})
    function: Any = field(
        default=None,
        metadata={
            "help": "python: file.py:name (or module:name) of a function that scores: (prompt, response) -> number, lists of both -> list, "
            "or TRL's (prompts, completions, **columns) -> list."
        },
    )
    human: str | None = field(
        default=None, metadata={"help": "Verdicts that people gave, in any format that is counted: the judge, or what it is compared with."}
    )

    def __post_init__(self) -> None:
        """A judge that is an object says itself what it is; a function is a judge, too."""
        self.own: Judge | None = None
        given = self.judge
        if isinstance(given, JudgeSpec):
            for name, value in given.choice().items():
                before = getattr(self, name)
                if name != "judge" and before != _DEFAULTS[name] and before != value:
                    raise ConfigError(
                        f"{name} is given twice: beside the judge, and by it ({before!r} and {value!r}); leave one of the two out"
                    )
                setattr(self, name, value)
        elif isinstance(given, type) or not (given is None or isinstance(given, str) or callable(given) or hasattr(given, "judge")):
            what = f"the class {given.__name__}: give one of its kind" if isinstance(given, type) else repr(given)
            raise ConfigError(f"judge is {what}; expected a name, one of this package's judges, or a function that scores", code="PF-J06")
        elif hasattr(given, "judge"):
            self.own, self.judge = given, OWN
        elif callable(given):
            self.judge, self.function = "python", given


_DEFAULTS = {f.name: f.default for f in fields(JudgeChoice)}


@dataclass
class Stopping:
    """When judging stops before all is judged."""

    GROUP: ClassVar[str] = "judge"
    until: str | None = field(
        default=None, metadata={"help": "decided: judge prompts in random order and stop as soon as the verdict is; valid at every look."}
    )
    max_calls: int | None = field(default=None, metadata={"help": "--until decided: maximum verdicts asked of the judge."})

    def stopping(self, choice: JudgeChoice, thresholds: Thresholds, seed: int = 0) -> Until | None:
        """The rule; None for never.

        Raises:
            ConfigError: another word than decided, or options that would be ignored.
        """
        if self.until is None:
            if self.max_calls is not None:
                raise ConfigError("--max-calls would be ignored without --until decided", code="PF-C04")
            return None
        if self.until != "decided":
            raise ConfigError(f"--until is {self.until!r}; expected decided", code="PF-C03")
        if choice.judge is None:
            raise ConfigError("--until decided is about a judge's verdicts: give --judge")
        if self.max_calls is not None and self.max_calls < 1:
            raise ConfigError(f"--max-calls is {self.max_calls}; expected at least 1", code="PF-C03")
        if choice.human is not None and choice.judge != "human":
            raise ConfigError("--until decided and --human give two verdicts; leave one of the two out")
        return Until(thresholds, self.max_calls, choice.concurrency if choice.judge == "openai" else 1, seed)


@dataclass
class Gates:
    """What counts as better, and what the exit code demands."""

    GROUP: ClassVar[str] = "verdict"
    min_win_rate: float = field(default=THRESHOLDS.min_win_rate, metadata={"help": "Minimum win rate that counts as better."})
    null_rate: float = field(default=THRESHOLDS.null_rate, metadata={"help": "Win rate of no change, which the interval must clear."})
    tolerance: float = field(default=THRESHOLDS.tolerance, metadata={"help": "Loss of a skill that counts as no worse: 0.01 is one point."})
    require: str | None = field(default=None, metadata={"help": "Exit with 1 unless the verdict is: better, or 'not worse'."})

    def thresholds(self) -> Thresholds:
        """The three numbers.

        Raises:
            ConfigError: out of range, or an unknown demand.
        """
        if self.require is not None and self.require not in REQUIRED:
            raise ConfigError(f"--require is {self.require!r}; expected {' or '.join(map(repr, REQUIRED))}", code="PF-C03")
        if not 0 <= self.null_rate <= self.min_win_rate <= 1:
            raise ConfigError(
                f"--null-rate {self.null_rate} and --min-win-rate {self.min_win_rate}: expected 0 <= null rate <= minimum win rate <= 1"
            )
        if not 0 <= self.tolerance < 1:
            raise ConfigError(f"--tolerance is {self.tolerance}; expected a rate, as 0.01 for one point", code="PF-C03")
        return Thresholds(self.min_win_rate, self.null_rate, self.tolerance)

    def exit_code(self, outcomes: set[str]) -> int:
        """0, or 1 where the demand is not met: ``better, but`` is not ``better``, and is worse in something."""
        failed = {None: False, "better": outcomes != {"better"}, "not worse": bool(outcomes & WORSE)}
        return int(failed[self.require])


def _openai(choice: JudgeChoice, models: tuple[str, str]) -> Judge:
    from prefine.cache import cache_folder
    from prefine.evaluation.chat_client import ChatClient, ReplyCache
    from prefine.evaluation.server_judge import Asker, LogprobJudge, PairJudge, RatingScorer

    if not choice.judge_model:
        raise ConfigError("--judge openai needs --judge-model: the model's name on the server")
    if choice.mode not in MODES:
        raise ConfigError(f"--mode is {choice.mode!r}; expected one of {', '.join(MODES)}{nearest(choice.mode, MODES)}", code="PF-C03")
    template = None
    if choice.judge_prompt:
        if not Path(choice.judge_prompt).is_file():
            raise MissingFile(f"--judge-prompt {choice.judge_prompt}: no such file")
        template = Path(choice.judge_prompt).read_text(encoding="utf-8")
        needed = ("{answer}",) if choice.mode == "single" else ("{answer_a}", "{answer_b}")
        if not all(n in template for n in needed):
            raise ConfigError(f"--judge-prompt {choice.judge_prompt}: expected {' and '.join(needed)} in it for --mode {choice.mode}")
    client = ChatClient(choice.judge_model, choice.server, choice.key_variable, choice.concurrency, choice.timeout, choice.retries)
    asker = Asker(client, ReplyCache(cache_folder() / "judge.sqlite"))
    if choice.mode == "single":
        return ByScore(RatingScorer(asker, choice.structured, template))
    return LogprobJudge(asker, template) if choice.mode == "logprob" else PairJudge(asker, choice.structured, template)


def _reward_model(choice: JudgeChoice, models: tuple[str, str]) -> Judge:
    from prefine.evaluation.reward_scorer import Ensemble, RewardModel

    if not choice.reward_model:
        raise ConfigError("--judge reward-model needs --reward-model: a folder or Hub id")
    scorers = [RewardModel(m) for name in choice.reward_model for m in models_of(name)]
    return ByScore(scorers[0] if len(scorers) == 1 else Ensemble(scorers, choice.aggregate))


def _implicit(choice: JudgeChoice, models: tuple[str, str]) -> Judge:
    from prefine.evaluation.model_pair import ModelPair
    from prefine.evaluation.reward_scorer import ImplicitReward
    from prefine.packing.encoding import Encoder
    from prefine.runs import RunDirectory

    if not choice.reward_run:
        raise ConfigError("--judge implicit needs --reward-run: the run whose reward judges")
    if Path(choice.reward_run).resolve() == Path(models[1]).resolve():
        raise ConfigError("--reward-run is the run that is judged: its own reward prefers its own responses; name another run")
    sides = ModelPair.load(RunDirectory.open(choice.reward_run))
    return ByScore(ImplicitReward(sides.policy, sides.reference, Encoder(sides.tokenizer), sides.budget))


def _python(choice: JudgeChoice, models: tuple[str, str]) -> Judge:
    if callable(choice.function):
        name, digest = identity_of(choice.function)
        return ByScore(TextFunctionScorer(f"{name} {digest[:6]}".strip(), choice.function))
    return ByScore(TextFunctionScorer(choice.function or "", load_function(choice.function)))


def _from_file(path: Path, option: str) -> Any:
    """A module by its file, whatever else has its name."""
    if not path.is_file():
        raise MissingFile(f"{option} {path}: no such file")
    spec = importlib.util.spec_from_file_location(f"_prefine_{abs(hash(path.resolve()))}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _from_path(module: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    return importlib.import_module(module)


def load_function(name: str | None, option: str = "--function") -> Callable[..., Any]:
    """The function ``module:name`` or ``file.py:name``; modules of the working folder are found too.

    Raises:
        ConfigError: not of that form, not there, or not callable.
    """
    module, colon, attribute = (name or "").rpartition(":")
    if not module or not colon or not attribute:
        raise ConfigError(f"{option} {name or ''}: expected file.py:name or module:name, as in rewards.py:score")
    try:
        found = getattr(_from_file(Path(module), option) if module.endswith(".py") else _from_path(module), attribute)
    except PrefineError:
        raise
    except Exception as error:  # the user's module
        raise ConfigError(f"{option} {name}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ConfigError(f"{option} {name}: not a function")
    return found  # type: ignore[no-any-return]


def _human(choice: JudgeChoice, models: tuple[str, str]) -> Judge:
    if not choice.human:
        raise ConfigError("--judge human needs --human: a file of verdicts that people gave")
    return HumanJudge(human_verdicts(read_verdicts(choice.human), models))


def _exact(choice: JudgeChoice, models: tuple[str, str]) -> Judge:
    return ByScore(FunctionScorer("exact", matches_reference))


def _own(choice: JudgeChoice, models: tuple[str, str]) -> Judge:
    assert choice.own is not None
    return choice.own


JUDGES: Mapping[str, Callable[[JudgeChoice, tuple[str, str]], Judge]] = {
    "openai": _openai,
    "reward-model": _reward_model,
    "implicit": _implicit,
    "python": _python,
    "exact": _exact,
    "human": _human,
    "fake": lambda choice, models: FakeJudge(),
    OWN: _own,
}


def build_judge(choice: JudgeChoice, models: tuple[str, str]) -> Judge | None:
    """The judge that was chosen; None where none was.

    Args:
        models: base and tuned, as people's verdicts name them.

    Raises:
        ConfigError: an unknown name, or something it needs is missing.
    """
    if choice.judge is None:
        _refuse_others(choice)
        return None
    if choice.judge not in JUDGES or (choice.judge == OWN and choice.own is None):
        known = [name for name in JUDGES if name != OWN]
        raise ConfigError(f"--judge is {choice.judge!r}; expected one of {', '.join(known)}{nearest(choice.judge, known)}", code="PF-C03")
    _refuse_others(choice)
    return JUDGES[choice.judge](choice, models)


def _refuse_others(choice: JudgeChoice) -> None:
    """Options that belong to another judge, as their help says, would be ignored."""
    for f in fields(choice):
        owner, colon, _ = str(f.metadata["help"]).partition(":")
        if colon and owner in JUDGES and owner != choice.judge and getattr(choice, f.name) != f.default:
            raise ConfigError(f"--{f.name.replace('_', '-')} would be ignored: it belongs to --judge {owner}", code="PF-C04")


def judge_choice(given: Any, option: str) -> JudgeChoice:
    """A judge from a YAML file of its options, or from a Python object.

    Raises:
        MissingFile, ConfigError: as of any YAML file.
    """
    if isinstance(given, str):
        return pick(JudgeChoice, read_yaml(given, options_of(JudgeChoice), option))
    if isinstance(given, dict):
        return pick(JudgeChoice, checked(given, options_of(JudgeChoice), f"{option}: key"))
    return JudgeChoice(given)


def check_demands(choice: JudgeChoice, gates: Gates) -> None:
    """Refuse what cannot be met without a judge.

    Raises:
        ConfigError: a verdict is demanded, or people are to be held against a judge, and there is none.
    """
    if gates.require == "better" and choice.judge is None:
        raise ConfigError("--require better needs a --judge: without one nothing can be shown to be better")
    if choice.human and choice.judge is None:
        raise ConfigError("--human holds a judge against people: give --judge too (or --judge human)")


def people_beside(choice: JudgeChoice) -> VerdictFile | None:
    """People's verdicts to hold a judge against; None where there are none, or they are the judge."""
    return read_verdicts(choice.human) if choice.human and choice.judge != "human" else None


def asker_of(judge: Any) -> Any:
    """What asks a judge's server; None where it has none."""
    return getattr(judge, "asker", None) or getattr(getattr(judge, "scorer", None), "asker", None)


def check_ready(judge: Judge) -> None:
    """Find a missing key or server before anything is generated.

    Raises:
        ConfigError: the judge's server cannot be reached, or there is no key for it.
    """
    asker = asker_of(judge)
    if asker is not None:
        asker.client.check()


def qualification_file(judge: Judge, choice: JudgeChoice) -> Path | None:
    """Where a judge's qualification is kept: by its kind, name, server, words, and the content of the files it is made of.

    None for one of which it cannot be told whether it will be the same another time.
    """
    from prefine.cache import cache_folder

    asker = asker_of(judge)
    what = [type(getattr(judge, "scorer", judge)).__name__, judge.name, asker.client.server if asker else "", choice.mode, choice.aggregate]
    digest = hashlib.sha256(repr(what).encode())
    source = choice.function.rpartition(":")[0] if isinstance(choice.function, str) else ""
    if choice.judge == OWN or (callable(choice.function) and not identity_of(choice.function)[1]):
        return None
    if callable(choice.function):
        digest.update(identity_of(choice.function)[1].encode())
    for name in filter(None, (choice.judge_prompt, source if source.endswith(".py") else None)):
        digest.update(Path(name).read_bytes())
    if source and not source.endswith(".py"):
        origin = getattr(sys.modules.get(source), "__file__", None)
        digest.update(Path(origin).read_bytes() if origin else b"")
    for name in (*(choice.reward_model or ()), *filter(None, (choice.reward_run,))):
        folder = Path(name).resolve()
        files = sorted(p for p in folder.rglob("*.safetensors")) if folder.is_dir() else []
        digest.update(repr([str(folder), *((str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files)]).encode())
    return cache_folder() / "judges" / f"{digest.hexdigest()[:24]}.json"


def qualification(judge: Judge | None, choice: JudgeChoice | None) -> dict[str, Any] | None:
    """What is known of a judge on pairs that people judged; None where nothing is."""
    if judge is None or choice is None:
        return None
    path = qualification_file(judge, choice)
    return read_json(path) if path is not None and path.exists() else None
