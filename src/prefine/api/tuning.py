"""Which learning rate, beta, loss suit this data: trials compared on prompts kept aside, the choice measured again on fresh ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from prefine.api import samplers
from prefine.api.calls import options_call
from prefine.api.fields import training_options
from prefine.api.final_evaluation import FinalOptions
from prefine.api.grid import Range, Settings, Values, combinations, folder_name, read_grid, told
from prefine.api.options import Option, asdict_shallow, options_of, pick
from prefine.api.parts import Parts, Source
from prefine.api.progress import Progress
from prefine.api.run import Run
from prefine.api.run_options import RunOptions
from prefine.api.training_setup import TrainingSetup, set_up, storable, take_data
from prefine.api.trials import SIDE_BY_SIDE, Measuring, Task, Trial, Trials, percent
from prefine.api.tuned import Tuned, against, frame, outcome, table
from prefine.cluster import import_ray
from prefine.errors import ConfigError, DataError, nearest
from prefine.evaluation.interval import LEVEL, Interval
from prefine.runs import RunDirectory, write_text

SAMPLERS = ("halving", "grid", "optuna")
DECIDED = ("resume", "eval_fraction", "final_eval", "final_judge")
"""Options of ``prefine dpo`` that the search decides itself."""
AROUND, BETAS = 3, (0.05, 0.1)
"""What is searched where nobody says: the learning rate times and by so much, with these betas."""
READ = ("data", "data_weights", "eval_data", "map", "format", "pairing", "min_gap")
"""Options of reading: the parts are read already."""
ACCURACY_ONLY = "Reward accuracy does not tell whether responses are better: give --judge, and the choice is made by that."


@dataclass
class TuneOptions:
    """What is searched, how, and what it is measured by."""

    GROUP: ClassVar[str] = "search"
    grid: list[str] | dict[str, Any] | None = field(
        default=None,
        metadata={
            "help": "What is tried: NAME=VALUE,VALUE of any option of prefine dpo, all combinations (learning_rate=1e-6,3e-6 "
            "beta=0.05,0.1); with --sampler optuna a range too (learning_rate=1e-7..1e-5). Unset: a third, once and three times the "
            "learning rate, each with beta 0.05 and 0.1. The setting without any of it is tried as well.",
        },
    )
    sampler: str = field(
        default="halving",
        metadata={
            "help": "halving (all for a part of the length, the best third for three times as long, one in full), grid (all in full), "
            "or optuna (--trials in full, chosen by Optuna's TPE)."
        },
    )
    trials: int | None = field(default=None, metadata={"help": "optuna: how many trials. Unset: 20."})
    judge: Any = field(
        default=None,
        metadata={
            "help": "YAML file with a judge's options, as prefine judge takes them: trials are compared by win rate over the base. "
            "Unset: by reward accuracy on held-out pairs.",
            "objects": True,
        },
    )
    temperature: float = field(default=0.0, metadata={"help": "Of the responses that are judged; 0 for greedy."})
    max_new_tokens: int = field(default=256, metadata={"help": "Maximum tokens of a response that is judged."})
    select_prompts: int | None = field(
        default=None,
        metadata={
            "help": "Prompts kept aside to compare trials by. Unset: one in ten, at least 30, at most 200 and one in five; "
            "of --eval-data, half, at most 200."
        },
    )
    fresh_prompts: int | None = field(
        default=None, metadata={"help": "Further prompts kept aside, to measure the chosen setting by. Unset: as many."}
    )
    parallel: int = field(default=1, metadata={"help": "Trials side by side, through Ray: on this machine, or on RAY_ADDRESS's cluster."})


def _options() -> Mapping[str, Option]:
    theirs = {k: o for k, o in training_options("dpo", (RunOptions, FinalOptions)).items() if k not in DECIDED}
    return options_of(TuneOptions) | theirs


@options_call(_options, ("model", "data", "output_dir"))
def tune(given: Mapping[str, Any], progress: Progress) -> Tuned:
    """Find the settings of ``prefine dpo`` that suit this data, by short trials that the better ones survive, and measure the choice anew.

    Prompts are split once: to train on, to compare trials by, and fresh ones that had no part in choosing. The headline is the
    chosen setting's figure on the fresh ones, for the figure that it was chosen by is the highest of several, and so too high.
    The same call again goes on where it was stopped.

    Args:
        model: a folder, a Hub id or a finished run.
        data: sources by name, or what :func:`prefine.load_preferences` returns.
        output_dir: folder of the search: ``trials/NAME`` are run directories, ``best.yaml`` the chosen settings, ``report.html`` the page.
        options: those of the search, and every option of ``prefine dpo``.

    Returns:
        :class:`Tuned`.

    Raises:
        PrefineError: an option, a setting of the grid, a file or a model that is wrong, before anything is trained; all trials failed;
            the folder holds another search.
    """
    return Search(dict(given), progress).run()


class Search:
    """One search, from options to result.

    Args:
        given: options by name, checked.

    Raises:
        PrefineError: what is wrong with them, before anything is trained.
    """

    def __init__(self, given: dict[str, Any], progress: Progress) -> None:
        given.pop("repeat", None)
        self.own = pick(TuneOptions, given)
        self.base = {k: v for k, v in given.items() if k not in options_of(TuneOptions)}
        self.out = Path(self.base.pop("output_dir", None) or "runs/tune")
        self.progress = progress
        self._check()
        self.judge = self._judge()
        source = self._source()
        self.trials = Trials(self.out, self._told(source))
        progress.stage("splitting the data")
        self.parts: Parts = source.write(self.out / "data", self.own.select_prompts, self.own.fresh_prompts)
        progress.say(self.parts.lines)
        self.measuring = Measuring(self.judge, self.own.temperature, self.own.max_new_tokens)
        self.setups: dict[str, tuple[TrainingSetup, int]] = {}
        default = self._setup({})
        self.grid = self._grid(default)
        self.default = {name: self._value(default, name) for name in self.grid}
        self.settings = self._settings()
        self.cost = 0.0

    # ---- what was given

    def _check(self) -> None:
        own = self.own
        if own.sampler not in SAMPLERS:
            raise ConfigError(f"--sampler is {own.sampler!r}; expected one of {', '.join(SAMPLERS)}{nearest(own.sampler, SAMPLERS)}")
        if own.trials is not None and own.sampler != "optuna":
            raise ConfigError(f"--trials would be ignored: it belongs to --sampler optuna, and --sampler is {own.sampler}")
        for name in ("trials", "parallel", "select_prompts", "fresh_prompts", "max_new_tokens"):
            value = getattr(own, name)
            if value is not None and value < 1:
                raise ConfigError(f"--{name.replace('_', '-')} is {value}; expected at least 1")
        if own.temperature < 0:
            raise ConfigError(f"--temperature is {own.temperature}; expected 0 or more")
        for name in ("temperature", "max_new_tokens"):
            if own.judge is None and getattr(own, name) != getattr(TuneOptions, name):
                raise ConfigError(f"--{name.replace('_', '-')} would be ignored: without --judge no responses are sampled; give one")
        if own.parallel > 1:
            if own.sampler == "optuna":
                raise ConfigError("--parallel would be ignored: --sampler optuna chooses each trial by those before it")
            import_ray(SIDE_BY_SIDE)
        if self.out.is_file() or (self.out / "config.yaml").exists():
            what = "a file" if self.out.is_file() else "a run directory"
            raise ConfigError(f"--output-dir {self.out} is {what}; a search needs a folder of its own")

    def _judge(self) -> dict[str, Any] | None:
        """The judge's options, found wanting before training rather than after."""
        from prefine.api.judges import build_judge, check_ready, judge_choice

        given = self.own.judge
        if given is None:
            return None
        choice = judge_choice(given, "--judge")
        judge = build_judge(choice, (str(self.base.get("model")), str(self.out)))
        if judge is None:
            raise ConfigError(f"--judge {given}: names no judge")
        check_ready(judge)
        return asdict_shallow(choice) if isinstance(given, str | dict) else {"judge": given}

    def _source(self) -> Source:
        own = pick(RunOptions, self.base)
        for name in ("model", "data"):
            if not getattr(own, name):
                raise ConfigError(f"--{name} is missing ({options_of(RunOptions)[name].help})")
        take_data(own, self.base)
        self.base = {k: v for k, v in self.base.items() if k not in READ} | {"model": str(own.model)}
        return Source(own, int(self.base.get("seed", 42)))

    def _told(self, source: Source) -> dict[str, Any]:
        """What decides the trials: the same search again must have the same."""
        mine = {k: storable(v) for k, v in asdict_shallow(self.own).items() if k not in ("parallel", "judge")}
        judge = {k: storable(v) for k, v in (self.judge or {}).items()} or None
        return {k: storable(v) for k, v in self.base.items()} | mine | {"judge": judge, "data": source.fingerprint}

    # ---- settings

    def _trial_options(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What ``prefine dpo`` is told of settings; the reference's log-probs are shared where nothing says otherwise."""
        return self.base | dict(settings) | {"data": [self.parts["train"]], "eval_data": self.parts["select"], "final_eval": "off"}

    def _setup(self, settings: Mapping[str, Any]) -> tuple[TrainingSetup, int]:
        """Settings as the trainer reads them, which refuses what is wrong, and the full length in optimizer steps."""
        key = folder_name(settings, 0)
        if key not in self.setups:
            options = self._trial_options(settings) | {"output_dir": str(self.out / "trials" / key)}
            setup = set_up("dpo", options, Progress(), extra=FinalOptions)
            self.setups[key] = (setup, full_steps(setup))
        return self.setups[key]

    def _value(self, setup: tuple[TrainingSetup, int], name: str) -> Any:
        """An option's value as the trainer resolved it."""
        args, own = setup[0].args, setup[0].options
        return getattr(own, name) if hasattr(own, name) else getattr(args, name)

    def _grid(self, default: tuple[TrainingSetup, int]) -> dict[str, Values]:
        if self.own.grid is not None:
            return read_grid(self.own.grid, training_options("dpo", (RunOptions,)))
        rate = float(self._value(default, "learning_rate"))
        return {"learning_rate": [float(f"{r:.3g}") for r in (rate / AROUND, rate, rate * AROUND)], "beta": list(BETAS)}

    def _settings(self) -> list[Settings]:
        """The default first, then all others of the grid, each checked; none for what chooses them itself.

        Raises:
            ConfigError: settings that the trainer refuses, or nothing to choose from.
        """
        if self.own.sampler == "optuna":
            for name, values in self.grid.items():  # each alone, for all combinations may be many
                for value in (values.low, values.high) if isinstance(values, Range) else values:
                    self._setup({name: int(value) if isinstance(values, Range) and values.whole else value})
            return []
        others = [s for s in combinations(self.grid) if not self._is_default(s)]
        if not others:
            raise ConfigError(f"--grid holds nothing but the default ({told(self.default)}); give other values to compare it with")
        return [{}, *others]

    def _is_default(self, settings: Mapping[str, Any]) -> bool:
        setup = self._setup(settings)
        return all(self._value(setup, name) == value for name, value in self.default.items())

    # ---- trials

    def _task(self, settings: Settings, part: int) -> Task:
        setup, full = self._setup(settings)
        steps = max(1, math.ceil(full / part))
        options = self._trial_options(settings) | self._shared(setup) | ({"max_steps": steps} if part > 1 else {})
        shown = settings or self.default
        folder = self.out / "trials" / folder_name(shown, steps)
        return Task(shown, options, str(folder), steps, part, self.parts.prompts["select"], self.measuring)

    def _shared(self, setup: TrainingSetup) -> dict[str, Any]:
        """The reference's log-probs, computed by one trial for all, where the loss has a reference that stays; unless told otherwise."""
        from prefine.losses import LOSSES

        args = setup.args
        told_otherwise = {"precompute_ref_log_probs", "reference_cache_dir"} & setup.given or args.sync_ref_model
        if told_otherwise or not any(LOSSES[name].reference for name in args.loss_type):
            return {}
        return {"precompute_ref_log_probs": True, "reference_cache_dir": str(self.out / "reference")}

    def _measure(self, settings: Sequence[Settings], part: int) -> list[float]:
        self.cost += len(settings) / part
        made = self.trials.run([self._task(s, part) for s in settings], self.progress, self.own.parallel)
        return [trial.score for trial in made]

    def run(self) -> Tuned:
        """Search, then measure the choice on fresh prompts beside the default."""
        self.progress.say(self._plan())
        if self.own.sampler == "halving":
            chosen = samplers.halving(self.settings, self._measure)
        elif self.own.sampler == "grid":
            chosen = samplers.every(self.settings, self._measure)
        else:
            chosen = samplers.tpe(self.grid, {}, self._measure, self.own.trials or 20, int(self.base.get("seed", 42)))
        if chosen is None:
            raise DataError(f"all trials failed; the first: {next(t.failed for t in self.trials.made.values())}")
        best, default = self.trials.run([self._task(s, 1) for s in (chosen, {})], self.progress, self.own.parallel)
        return self._finish({} if best.name == default.name else chosen, best, default)

    def _plan(self) -> list[str]:
        """What will be done, and what it costs."""
        measure = "win rate over the base" if self.judge else "reward accuracy"
        if self.own.sampler == "optuna":
            how = f"{self.own.trials or 20} trials in full, chosen by Optuna"
        else:
            steps = samplers.rungs(len(self.settings)) if self.own.sampler == "halving" else [(len(self.settings), 1)]
            how = ", then ".join(f"{size} {'in full' if part == 1 else f'for 1/{part} of the steps'}" for size, part in steps)
            cost = sum(size / part for size, part in steps)
            how += f": {cost:.3g} full lengths, where all in full are {len(self.settings)}"
        lines = [f"search over {', '.join(self.grid)} by {measure}: {how}; default: {told(self.default)}"]
        return [*lines, *([] if self.judge else [ACCURACY_ONLY])]

    # ---- what came of it

    def _finish(self, chosen: Settings, best: Trial, default: Trial) -> Tuned:
        from prefine.api.comparing import difference
        from prefine.report.tuning_page import write_tuning

        both = dict.fromkeys(t.name for t in (best, default) if t.measure is not None)
        runs = {name: RunDirectory.open(self.out / "trials" / name) for name in both}
        self.progress.stage("measuring on fresh prompts")
        fresh = {
            name: self.measuring.of(run.path, "fresh", self.parts.prompts["fresh"], self.progress, self.parts["fresh"])
            for name, run in runs.items()
        }
        change = difference(runs[default.name], runs[best.name], "fresh", LEVEL) if len(runs) == 2 else {}
        result: dict[str, Any] = {
            "best": {k: storable(v) for k, v in chosen.items()},
            "default": default.name,
            "trial": best.name,
            "measured": "win rate" if self.judge else "reward accuracy",
            "select": best.measure,
            "fresh": fresh[best.name],
            "difference": {k: change[k] for k in ("estimate", "low", "high", "count") if k in change} or None,
            "outcome": outcome(chosen, change),
            "cost": round(self.cost, 6),
            "prompts": self.parts.prompts,
            "launch": f"prefine dpo --config {self.out / 'best.yaml'}",
        }
        result["lines"] = self._lines(result, chosen, default)
        self.trials.write(result)
        self._write_config(chosen)
        page = write_tuning(self.out)
        return Tuned(
            chosen,
            result["measured"],
            Interval(**{f.name: fresh[best.name][f.name] for f in fields(Interval)}),
            result["outcome"],
            frame(list(self.trials.made.values())),
            Run(runs[best.name].path),
            self.out / "best.yaml",
            page,
            table(list(self.trials.made.values())),
            [*result["lines"], f"report: {page}"],
        )

    def _lines(self, result: Mapping[str, Any], chosen: Settings, default: Trial) -> list[str]:
        what = "win rate over the base" if self.judge else "reward accuracy"
        name = told(chosen) or f"the default ({told(self.default)})"
        head = f"chosen: {name}: {what} {percent(result['fresh'], 'fresh prompts')}"
        lines = [
            head,
            f"  where it was chosen: {percent(result['select'], 'prompts')}; "
            "a figure is too high on average where it was chosen for being high",
            f"  {against(result['outcome'], result['difference'], self.default, default)}",
            *([] if self.judge else [f"  {ACCURACY_ONLY}"]),
            f"  {len(self.trials.made)} trials, the search as long as {result['cost']:.3g} full trainings",
            f"settings: {result['launch']}",
        ]
        return lines

    def _write_config(self, chosen: Settings) -> None:
        import yaml

        settings = {k: storable(v) for k, v in (self.base | chosen).items()}
        files = {"data": [self.parts["train"]], "eval_data": self.parts["fresh"], "output_dir": str(self.out / "best")}
        head = f"# prefine dpo --config {self.out / 'best.yaml'}\n"
        write_text(self.out / "best.yaml", head + yaml.safe_dump(settings | files, sort_keys=True, allow_unicode=True))


def full_steps(setup: TrainingSetup) -> int:
    """Optimizer steps of a training in full, as transformers counts them."""
    from prefine.packing.encoded import encode_source
    from prefine.preferences.convert import PairSource

    args = setup.args
    if args.max_steps > 0:
        return int(args.max_steps)
    groups = len(encode_source(PairSource(setup.options.sources), args.encoder(setup.tokenizer)).groups)
    batches = math.ceil(groups / (args.train_batch_size * args.world_size))
    per_epoch: int = max(1, math.ceil(batches / args.gradient_accumulation_steps))
    epochs = float(args.num_train_epochs)
    return math.ceil(epochs * per_epoch)
