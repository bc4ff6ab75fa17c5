"""Will it fit, how long will it take, and which settings would fit better: told before weights are loaded."""

from __future__ import annotations

import functools
import math
import operator
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefine.api.adapter_options import AdapterOptions, is_adapter
from prefine.api.calls import Call
from prefine.api.fields import CONFIGS, training_options
from prefine.api.final_evaluation import FinalOptions
from prefine.api.options import Option, as_flags, checked, options_of, pick
from prefine.api.plan_lines import SPARE, Choice, Planned, choices, demand_of, framework_bytes, gib, steps_of, without_recompute
from prefine.api.plan_time import duration, operations_of, rate_of
from prefine.api.progress import Progress
from prefine.api.rewards import RewardOptions
from prefine.api.run_options import RunOptions
from prefine.api.tables import Shows, Table
from prefine.errors import ConfigError, PrefineError, nearest
from prefine.runs import model_of

if TYPE_CHECKING:
    from prefine.api.training_setup import TrainingSetup
    from prefine.planning.lengths import Lengths
    from prefine.planning.memory import Demand

EXTRA: dict[str, Any] = {
    "dpo": FinalOptions,
    "kto": FinalOptions,
    "sft": None,
    "reward": None,
    "ppo": RewardOptions,
    "online-dpo": RewardOptions,
}
"""Training commands and their options beside :class:`RunOptions` and their config's."""
MEASURED = 2.0
"""Seconds for which this machine's rate is measured."""


@dataclass
class PlanOptions:
    """What is planned, and for which device."""

    GROUP = "plan"

    method: str = field(default="", metadata={"help": f"What to plan: {', '.join(EXTRA)}."})
    device: str | None = field(
        default=None,
        metadata={"help": "A device by its name (h100-80gb, rtx4090, t4, cpu, ...). Unset: the GPU of this machine, or its processor."},
    )


def _options_of(method: str) -> dict[str, Option]:
    return training_options(method, [RunOptions, *([EXTRA[method]] if EXTRA[method] else [])])


@functools.cache
def _all_options() -> dict[str, Option]:
    """The plan's own options and those of every training command; one that several have is of any of their types."""
    out = options_of(PlanOptions)
    for method in EXTRA:
        for name, option in _options_of(method).items():
            out[name] = replace(option, type=operator.or_(out[name].type, option.type)) if name in out else option
    return out


@dataclass(repr=False)
class Plan(Shows):
    """What a run will need.

    Attributes:
        method: the training command; planned: its memory by part and phase, and the device.
        choices: settings in order of preference and what each would hold; best: the first that fits, None where none does.
        config: the training command's options with those of ``best``, as its ``--config`` file has them.
        operations: floating-point operations of the run; rate: of them a second, what is reckoned with, None where nobody knows.
        saved_by_sharing: share of the tokens that need not be computed, as prompts stand once.
        lengths: tokens of the data's groups, means: ``shared``, ``unshared``, ``scored``, and the longest.
    """

    method: str
    planned: Planned
    choices: tuple[Choice, ...]
    config: dict[str, Any]
    operations: float
    rate: float | None
    rate_note: str
    saved_by_sharing: float
    lengths: dict[str, float]

    @property
    def total_bytes(self) -> int:
        """The estimate, the framework's memory among it."""
        return self.planned.total

    @property
    def fits(self) -> bool:
        """Whether the settings as given fit."""
        return self.choices[0].fits

    @property
    def best(self) -> Choice | None:
        """The first settings that fit."""
        return next((c for c in self.choices if c.fits), None)

    @property
    def seconds(self) -> float | None:
        """How long training takes, sampling and evaluation aside; None where no rate is known."""
        return self.operations / self.rate if self.rate else None

    @property
    def yaml(self) -> str:
        """A ``--config`` file of the training command."""
        import yaml

        return str(yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True))

    @property
    def launch(self) -> str:
        """The command line that trains with ``best``."""
        return "prefine " + shlex.join(as_flags(self.method, self.config))

    def summary(self) -> dict[str, Any]:
        """All numbers, by name."""
        return self.planned.summary() | {
            "operations": self.operations,
            "operations_per_second": self.rate,
            "seconds": self.seconds,
            "saved_by_sharing": self.saved_by_sharing,
            "lengths": self.lengths,
            "fits": self.fits,
            "choices": [{"settings": dict(c.settings), "total_bytes": c.total, "fits": c.fits} for c in self.choices],
        }

    def parts(self) -> list[Any]:
        """Memory by part, the phases, what fits, and the file to train with."""
        memory, device = self.planned.memory, self.planned.device
        rows = [(name, gib(size)) for name, size in memory.parts.items()] + [("framework", gib(self.planned.framework))]
        phases = [(name, gib(size + self.planned.framework)) for name, size in memory.phases.items()]
        fitting = [(c.name, flags_text(c), gib(c.total), "yes" if c.fits else "no") for c in self.choices]
        best = self.best
        told = [
            f"{memory.trained:,} of {memory.parameters:,} parameters are trained; "
            f"groups of {self.lengths['shared']:.0f} tokens on average, {self.lengths['longest']:.0f} at most",
            self._time(),
            Table(("part", "GiB"), rows, "Memory by part; not all stand at the same time", numbers=frozenset({1})),
            Table(("phase", "GiB"), phases, f"Memory by phase, of {gib(device.room)} GiB on {device.name}", numbers=frozenset({1})),
            Table(("settings", "options", "GiB", "fits"), fitting, f"What fits, {SPARE - 1:.0%} kept free", numbers=frozenset({2})),
        ]
        if not memory.counted:
            told.append("this architecture could not be run without weights: its activations are a rule of thumb")
        if best is None:
            return [*told, f"nothing of this fits on {device.name}; {self._shared_out()}"]
        return [*told, "the first settings that fit, as a --config file:", self.yaml.rstrip(), f"to train: {self.launch}"]

    def _shared_out(self) -> str:
        """Over how many such devices weights, gradients and optimizer states would have to be shared out."""
        least, room = self.choices[-1], self.planned.device.room / SPARE
        rest = least.total - least.memory.fixed
        if rest >= room:
            return "a larger device is needed"
        number = math.ceil(least.memory.fixed / (room - rest))
        return f"{least.name} would fit shared out over {number} such devices, which Prefine does not do yet; give a larger device"

    def _time(self) -> str:
        steps = f"{self.planned.steps:,} steps, {self.operations:.2g} floating-point operations"
        saved = f"{self.saved_by_sharing:.0%} of the tokens saved by sharing prompts"
        if self.seconds is None:
            return f"{steps}, {saved}; no rate is published for this device, so the time is not known"
        return f"{steps}, {saved}: about {duration(self.seconds)} of training ({self.rate_note})"


def flags_text(choice: Choice) -> str:
    """A choice's options; nothing where it is what was given."""
    from prefine.api.plan_lines import flags_of

    return flags_of(choice.settings) if choice.settings else ""


def _plan(given: Mapping[str, Any], progress: Progress) -> Plan:
    """Say what a training will need before its weights are loaded: memory by part, operations, time, and settings that fit.

    Args:
        method: the training command: dpo, kto, sft, reward, ppo or online-dpo.
        model: a folder, a Hub id or a finished run; of its files the config and the tokenizer are read.
        data: sources by name, or what :func:`prefine.load_preferences` returns.
        options: every option of that command, and ``device``: a device by its name.

    Returns:
        A :class:`Plan`, which shows itself: ``fits``, ``total_bytes``, ``best``, ``yaml``, ``launch``, ``summary()``.

    Raises:
        PrefineError: an unknown device, or an option, a file, a row or a model that is wrong.
    """
    from prefine.planning.devices import device_of

    given = {k: v for k, v in given.items() if k != "repeat"}
    method, name = str(given.pop("method", "") or ""), given.pop("device", None)
    if method not in EXTRA:
        raise ConfigError(f"plan: no method {method!r}{nearest(method, EXTRA)}; expected one of {', '.join(EXTRA)}")
    given = checked(given, _options_of(method))
    device = device_of(name)
    setup, demand, lengths = _read(method, given, device, progress)
    progress.stage("planning")
    from prefine.planning.memory import estimate
    from prefine.scoring.loading import cannot_load

    framework = framework_bytes(device)
    try:
        demand = without_recompute(setup, demand, lengths, device, framework)
        planned = Planned(estimate(demand), device, framework, steps_of(method, setup.args, lengths.total))
        tried = tuple(choices(method, demand, lengths, device, framework))
        operations = operations_of(method, setup.args, demand, lengths, planned.steps)
    except PrefineError:
        raise
    except Exception as error:  # a model's code, for whatever its config says
        raise cannot_load(setup.options.model, None, "a model", error) from error
    best = next((c for c in tried if c.fits), tried[0])
    progress.stage("measuring the rate of matrix products")
    rate, note = rate_of(device, demand, MEASURED)
    mean = {kind: lengths.mean(kind) for kind in ("shared", "unshared", "scored")}
    p, c = lengths.longest
    return Plan(
        method,
        planned,
        tried,
        {**{k: v for k, v in given.items() if k != "ignore_plan"}, **best.settings},
        operations,
        rate,
        note,
        1 - mean["shared"] / mean["unshared"],
        mean | {"longest": float(p + sum(c) - len(c))},
    )


def _read(method: str, given: Mapping[str, Any], device: Any, progress: Progress) -> tuple[TrainingSetup, Demand, Lengths]:
    """Options as the command would resolve them on the device, and the data's lengths."""
    import torch

    from prefine.api.plan_lengths import example_lengths, prompt_lengths
    from prefine.api.training_setup import set_up
    from prefine.training.config.conditional import rounds_at_random

    asked, own = dict(given), pick(AdapterOptions, given)
    asked.pop("resume", None)
    asked["output_dir"] = str(Path(tempfile.gettempdir()) / "prefine-plan")  # nothing is written
    here = device.available_bytes is not None
    rounds = rounds_at_random(given.get("optim", ""), given.get("optim_args"))
    if not here:  # what this machine cannot load or compute in
        for name in ("dtype", "bf16", "fp16", *(["optim_args"] if rounds else [])):
            asked.pop(name, None)
        asked.setdefault("gradient_checkpointing", device.kind == "cuda")
        own.check_adapter(is_adapter(model_of(str(given.get("model", "")))))
        for name in ("load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "use_bnb_nested_quant"):
            asked.pop(name, None)
    setup = set_up(method, asked, progress, extra=EXTRA[method])
    setup.options.ignore_audit = True  # a plan trains on nothing
    args = setup.args
    if method in ("dpo", "kto", "reward"):
        from prefine.api.training_data import read_pair_data

        lengths = read_pair_data(setup, labelled=method == "kto").lengths()
    elif method == "sft":
        from prefine.preferences.examples import ExampleSource

        lengths = example_lengths(list(ExampleSource(setup.options.sources, setup.reading()).examples()), args, setup.tokenizer)
    else:
        from prefine.api.sampling import read_prompts

        lengths = prompt_lengths(method, read_prompts(setup).learnt, args, setup.tokenizer)
    name = given.get("dtype", "auto")
    name = name if name != "auto" else "bfloat16" if given.get("bf16") else "float16" if given.get("fp16") else device.half
    half = None if here else {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(name)
    autocast = half if not here else torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else None
    adapter = setup.options.lora_r is not None or is_adapter(setup.options.model)
    dtype = setup.dtype if here else half if half and (adapter or rounds) else torch.float32
    demand, _ = demand_of(setup, lengths, device, own.quantised_bytes, dtype, autocast)
    setup.given = frozenset(given)
    return setup, demand, lengths


_plan.__name__ = _plan.__qualname__ = "plan"
plan = Call(_plan, (), ("method", "model", "data"), options=_all_options)
assert set(EXTRA) == set(CONFIGS)
