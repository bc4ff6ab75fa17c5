"""The judges by name, and the options that say which one and how: shared by ``judge`` and ``eval``."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from prefine.errors import ConfigError, MissingFile, PrefineError, nearest
from prefine.evaluation.contest import Until, people_on
from prefine.evaluation.judge import ByScore, FakeJudge, FunctionScorer, HumanJudge, Judge, matches_reference
from prefine.evaluation.verdict import THRESHOLDS, Thresholds
from prefine.evaluation.verdict_files import read_verdicts
from prefine.preferences.records import plain_text
from prefine.runs import models_of

T = TypeVar("T")
MODES = ("pairwise", "single", "logprob")
REQUIRED = ("better", "not worse")
WORSE = {"worse", "better, but", "degenerated", "collapsed", "opposite"}
"""Outcomes that are not "not worse"."""


@dataclass
class JudgeChoice:
    """Who judges."""

    judge: str | None = field(
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
        default=None, metadata={"help": "openai: file with your own words: {question}, {answer_a}, {answer_b} (or {answer}), {reference}."}
    )
    structured: bool = field(default=True, metadata={"help": "openai: ask for JSON by a schema; left out by itself where refused."})
    concurrency: int = field(default=8, metadata={"help": "openai: most requests under way."})
    timeout: float = field(default=120.0, metadata={"help": "openai: seconds until a request is tried again."})
    retries: int = field(default=6, metadata={"help": "openai: how often a failed request is tried again, waiting longer each time."})
    reward_model: list[str] | None = field(
        default=None, metadata={"help": "reward-model: folder or Hub id of a one-label classifier; several make an ensemble."}
    )
    reward_run: str | None = field(default=None, metadata={"help": "implicit: the run whose reward judges."})
    aggregate: str = field(default="mean", metadata={"help": "reward-model: several as mean, min, or mean-std."})
    function: str | None = field(default=None, metadata={"help": "python: file.py:name (or module:name) of (prompt, answer) -> number."})
    human: str | None = field(
        default=None, metadata={"help": "Verdicts that people gave, in any form that is counted: the judge, or what it is compared with."}
    )


@dataclass
class Stopping:
    """When judging stops before all is judged."""

    until: str | None = field(
        default=None, metadata={"help": "decided: judge prompts in random order and stop as soon as the verdict is; valid at every look."}
    )
    max_calls: int | None = field(default=None, metadata={"help": "--until decided: most verdicts asked of the judge."})

    def stopping(self, choice: JudgeChoice, thresholds: Thresholds, seed: int = 0) -> Until | None:
        """The rule; None for never.

        Raises:
            ConfigError: another word than decided, or options that would be ignored.
        """
        if self.until is None:
            if self.max_calls is not None:
                raise ConfigError("--max-calls would be ignored without --until decided")
            return None
        if self.until != "decided":
            raise ConfigError(f"--until is {self.until!r}; expected decided")
        if choice.judge is None:
            raise ConfigError("--until decided is about a judge's verdicts: give --judge")
        if self.max_calls is not None and self.max_calls < 1:
            raise ConfigError(f"--max-calls is {self.max_calls}; expected at least 1")
        if choice.human is not None and choice.judge != "human":
            raise ConfigError("--until decided and --human answer in two ways; leave one of the two out")
        return Until(thresholds, self.max_calls, choice.concurrency if choice.judge == "openai" else 1, seed)


@dataclass
class Gates:
    """What counts as better, and what the exit code demands."""

    works: float = field(default=THRESHOLDS.works, metadata={"help": "Win rate from which training works."})
    even: float = field(default=THRESHOLDS.even, metadata={"help": "Win rate that the interval must clear."})
    allowed: float = field(default=THRESHOLDS.allowed, metadata={"help": "Loss of a skill that counts as no worse: 0.01 is one point."})
    require: str | None = field(default=None, metadata={"help": "Exit with 1 unless the verdict is: better, or 'not worse'."})

    def thresholds(self) -> Thresholds:
        """The three numbers.

        Raises:
            ConfigError: out of range, or an unknown demand.
        """
        if self.require is not None and self.require not in REQUIRED:
            raise ConfigError(f"--require is {self.require!r}; expected {' or '.join(map(repr, REQUIRED))}")
        if not 0 <= self.even <= self.works <= 1:
            raise ConfigError(f"--even {self.even} and --works {self.works}: expected 0 <= even <= works <= 1")
        if not 0 <= self.allowed < 1:
            raise ConfigError(f"--allowed is {self.allowed}; expected a rate, as 0.01 for one point")
        return Thresholds(self.works, self.even, self.allowed)

    def exit_code(self, outcomes: set[str]) -> int:
        """0, or 1 where the demand is not met: ``better, but`` is not ``better``, and is worse in something."""
        failed = {None: False, "better": outcomes != {"better"}, "not worse": bool(outcomes & WORSE)}
        return int(failed[self.require])


def _openai(choice: JudgeChoice, models: tuple[str, str]) -> Judge:
    from prefine.evaluation.chat_client import ChatClient, ReplyCache
    from prefine.evaluation.server_judge import Asker, LogprobJudge, PairJudge, RatingScorer
    from prefine.packing.encoded import cache_folder

    if not choice.judge_model:
        raise ConfigError("--judge openai needs --judge-model: the model's name on the server")
    if choice.mode not in MODES:
        raise ConfigError(f"--mode is {choice.mode!r}; expected one of {', '.join(MODES)}{nearest(choice.mode, MODES)}")
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
    from prefine.evaluation.reward_scorer import ImplicitReward
    from prefine.evaluation.sides import Sides
    from prefine.packing.encoding import Encoder
    from prefine.runs import RunDirectory

    if not choice.reward_run:
        raise ConfigError("--judge implicit needs --reward-run: the run whose reward judges")
    if Path(choice.reward_run).resolve() == Path(models[1]).resolve():
        raise ConfigError("--reward-run is the run that is judged: its own reward prefers its own responses; name another run")
    sides = Sides.load(RunDirectory.open(choice.reward_run))
    return ByScore(ImplicitReward(sides.policy, sides.reference, Encoder(sides.tokenizer), sides.budget))


def _python(choice: JudgeChoice, models: tuple[str, str]) -> Judge:
    function = load_function(choice.function)
    return ByScore(FunctionScorer(choice.function or "", lambda a: function(plain_text(a.question.asked(a.answers[:-1])), a.answers[-1])))


def _from_file(path: Path) -> Any:
    """A module by its file, whatever else has its name."""
    if not path.is_file():
        raise MissingFile(f"--function {path}: no such file")
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


def load_function(name: str | None) -> Callable[[str, str], float]:
    """The function ``module:name`` or ``file.py:name``; modules of the working folder are found too.

    Raises:
        ConfigError: not of that form, not there, or not callable.
    """
    module, colon, attribute = (name or "").rpartition(":")
    if not module or not colon or not attribute:
        raise ConfigError("--judge python needs --function module:name, as in rewards:score")
    try:
        found = getattr(_from_file(Path(module)) if module.endswith(".py") else _from_path(module), attribute)
    except PrefineError:
        raise
    except Exception as error:  # the user's module
        raise ConfigError(f"--function {name}: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ConfigError(f"--function {name}: not a function")
    return found  # type: ignore[no-any-return]


def _human(choice: JudgeChoice, models: tuple[str, str]) -> Judge:
    if not choice.human:
        raise ConfigError("--judge human needs --human: a file of verdicts that people gave")
    return HumanJudge(people_on(read_verdicts(choice.human), models))


def _exact(choice: JudgeChoice, models: tuple[str, str]) -> Judge:
    return ByScore(FunctionScorer("exact", matches_reference))


JUDGES: Mapping[str, Callable[[JudgeChoice, tuple[str, str]], Judge]] = {
    "openai": _openai,
    "reward-model": _reward_model,
    "implicit": _implicit,
    "python": _python,
    "exact": _exact,
    "human": _human,
    "fake": lambda choice, models: FakeJudge(),
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
    if choice.judge not in JUDGES:
        raise ConfigError(f"--judge is {choice.judge!r}; expected one of {', '.join(JUDGES)}{nearest(choice.judge, JUDGES)}")
    _refuse_others(choice)
    return JUDGES[choice.judge](choice, models)


def _refuse_others(choice: JudgeChoice) -> None:
    """Options that belong to another judge, as their help says, would be ignored."""
    for f in fields(choice):
        owner, colon, _ = str(f.metadata["help"]).partition(":")
        if colon and owner in JUDGES and owner != choice.judge and getattr(choice, f.name) != f.default:
            raise ConfigError(f"--{f.name.replace('_', '-')} would be ignored: it belongs to --judge {owner}")


@contextmanager
def stages() -> Iterator[Callable[[str, int, int], None]]:
    """Bars, one a stage, with what is left; called with a stage, how much more is done, and how much there is."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, transient=True) as bars:

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.advance(tasks[stage], done)

        yield advance


def pick(kind: type[T], given: Mapping[str, Any]) -> T:
    """One option class's instance from what was given for several."""
    return kind(**{f.name: given[f.name] for f in fields(kind) if f.name in given})  # type: ignore[arg-type]


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


def qualification_file(judge: Judge, choice: JudgeChoice) -> Path:
    """Where a judge's qualification is kept: by its kind, name, server, words, and the content of the files it is made of."""
    from prefine.packing.encoded import cache_folder

    asker = asker_of(judge)
    what = [type(getattr(judge, "scorer", judge)).__name__, judge.name, asker.client.server if asker else "", choice.mode, choice.aggregate]
    digest = hashlib.sha256(repr(what).encode())
    source = (choice.function or "").rpartition(":")[0]
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
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
