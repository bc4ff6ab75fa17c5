"""What ``prefine dpo`` and ``prefine sft`` share: options, the five lines, the run directory."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from prefine.cli.options import Option, help_text, options_of, parse
from prefine.errors import ConfigError, nearest, printable
from prefine.runs import RunDirectory, model_of
from prefine.training.recipes import RECIPES, unusual

PRESETS = ("recipe", "trl")


@dataclass
class RunOptions:
    """Options of a training command that are not fields of its config."""

    model: str = field(default="", metadata={"help": "Model: a folder or a Hub id."})
    data: list[str] | None = field(
        default=None,
        metadata={"help": "Training data: files, folders, globs, Hub ids[:config][:split], databases, - for stdin."},
    )
    data_weights: list[float] | None = field(
        default=None, metadata={"help": "How many times each source's rows are used: 2 is twice, 0.5 half of them."}
    )
    eval_data: str | None = field(default=None, metadata={"help": "Held-out data. Unset: a part of --data is held out."})
    eval_fraction: float | None = field(
        default=None,
        metadata={
            "help": "Share of prompts held out of --data (at most 500; of prompts to sample from, 200). "
            "Unset: one in twenty, at least 30, at most one in five."
        },
    )
    preset: str = field(
        default="recipe",
        metadata={"help": "What is not given: recipe (settings known to work, see the recipes page) or trl (TRL's defaults)."},
    )
    map: list[str] | None = field(default=None, metadata={"help": "Columns by another name: --map prompt=question."})
    format: str | None = field(default=None, metadata={"help": "The data's form. Unset: found from its rows; see the formats page."})
    pairing: str = field(
        default="best-vs-worst", metadata={"help": "Ranked answers to pairs: best-vs-worst, best-vs-random, adjacent or all."}
    )
    min_gap: float = field(default=0.0, metadata={"help": "Least difference of scores in a pair made of ranked answers."})
    ignore_audit: bool = field(
        default=False, metadata={"help": "Train even where the audit finds that it means nothing, or the template cuts most rows."}
    )
    resume: bool = field(default=False, metadata={"help": "Go on from the run's last whole checkpoint."})
    dtype: str = field(default="auto", metadata={"help": "auto, float32, bfloat16 or float16."})
    load_in_4bit: bool = field(default=False, metadata={"help": "Load the base in 4-bit NF4 (needs CUDA and LoRA)."})
    lora_r: int | None = field(default=None, metadata={"help": "Train a LoRA adapter of this rank. Unset: all weights."})
    lora_alpha: float | None = field(default=None, metadata={"help": "LoRA's alpha. Unset: twice the rank."})
    lora_dropout: float = field(default=0.0, metadata={"help": "LoRA's dropout."})
    lora_target: list[str] | None = field(default=None, metadata={"help": "Modules to adapt. Unset: all-linear."})

    @property
    def sources(self) -> list[str]:
        """Where the training data comes from."""
        return self.data or []


@dataclass
class Planned:
    """A training command whose options are read and checked; nothing is written yet."""

    options: RunOptions
    args: Any
    training: dict[str, Any]
    repeat: list[str]
    output_dir: str
    tokenizer: Any
    precision: str
    dtype: Any
    load: Callable[..., Any]
    extra: Any = None
    given: frozenset[str] = frozenset()
    """Names of the options that were given."""

    def load_model(self) -> Any:
        """The model as the options say."""
        from prefine.scoring.loading import four_bit_config

        quantized = {"quantization_config": four_bit_config(self.dtype)} if self.options.load_in_4bit else {}
        kwargs = self.args.init_kwargs() | quantized
        return self.load(self.options.model, dtype=self.dtype, trust_remote_code=self.args.trust_remote_code, **kwargs)

    def start(self, data_key: str) -> Started:
        """Load the model, then make the run directory; ``data_key`` is what the training data is known by."""
        own = self.options
        model = self.load_model()
        if own.lora_dropout and self.args.disable_dropout:
            from prefine.training.pack_trainer import disable_dropout

            disable_dropout(model)  # the model's own; the adapter's was asked for
            self.args.disable_dropout = False
        run = RunDirectory.create(self.output_dir, own.resume)
        self.args.output_dir = str(run.checkpoints)
        config = {**self.training, **{k: v for k, v in vars(own).items() if k != "resume"}, "output_dir": self.output_dir}
        config |= {f.name: getattr(self.extra, f.name) for f in fields(self.extra)} if self.extra is not None else {}
        if own.resume and (run.path / "config.yaml").exists():
            _check_resumes(run.config(), config)
            if run.data().get("key", data_key) != data_key:
                raise ConfigError("--resume goes on with the run's data, but its content has changed since; give another --output-dir")
        else:
            run.write_config(config, self.repeat)
            run.write_environment()
        return Started(own, self.args, run, model, self.tokenizer, _peft_config(own), self.precision)


@dataclass
class Started:
    """What a command trains with."""

    options: RunOptions
    args: Any
    run: RunDirectory
    model: Any
    tokenizer: Any
    peft_config: Any
    precision: str


MAY_CHANGE = {
    *("output_dir", "max_steps", "num_train_epochs", "save_steps", "save_total_limit", "eval_steps"),
    *("logging_steps", "report_to", "disable_tqdm", "token_budget", "final_eval", "final_judge"),
}
"""What a resumed run may be told otherwise: how far it goes, how it is watched, what it fits."""


def _check_resumes(was: dict[str, Any], now: dict[str, Any]) -> None:
    differing = [k for k in sorted({*was, *now} - MAY_CHANGE) if was.get(k) != now.get(k)]
    if differing:
        listed = ", ".join(f"{k} was {_shown(was.get(k))} and is now {_shown(now.get(k))}" for k in differing)
        raise ConfigError(f"--resume goes on with the run as it was, but {listed}; give what it had, or another --output-dir")


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)


def all_options(config: Any) -> dict[str, Option]:
    """Run options first, then our config's own fields, then transformers'."""
    from transformers import TrainingArguments

    inherited = {f.name for f in fields(TrainingArguments)}
    own = {f.name for f in fields(config) if f.name not in inherited}
    ours = options_of(RunOptions, "run") | options_of(config, "training", own)
    return ours | options_of(config, "transformers.TrainingArguments", inherited)


def plan(
    command: str,
    about: str,
    config: Any,
    argv: list[str],
    load: Callable[..., Any] | None = None,
    extra: Any = None,
    group: str = "evaluation",
) -> Planned | None:
    """Read options and check them; load the tokenizer. None after ``--help``.

    Args:
        load: takes the model's name, ``dtype``, ``trust_remote_code`` and what ``from_pretrained`` takes; unset: a causal language model.
        extra: a dataclass of further options of the command; group: their heading.
    """
    options = all_options(config) | (options_of(extra, group) if extra else {})
    if "--help" in argv or "-h" in argv:
        print(help_text(command, about, options))
        return None
    given = parse(argv, options)
    run_names = {f.name for f in fields(RunOptions)}
    own = RunOptions(**{k: v for k, v in given.items() if k in run_names})
    for name in ("model", "data"):
        if not getattr(own, name):
            raise ConfigError(f"--{name} is missing ({options[name].help})")
    own.model = model_of(own.model)
    is_adapter = (Path(own.model) / "adapter_config.json").exists()
    if is_adapter and command == "reward":
        raise ConfigError(f"{own.model} is an adapter of a language model; make one model of it first: prefine merge RUN --output FOLDER")
    if not own.load_in_4bit and own.lora_r is None:
        for name in ("lora_alpha", "lora_target", "lora_dropout"):
            if getattr(own, name) != getattr(RunOptions, name):
                raise ConfigError(f"{options[name].flag} would be ignored without --lora-r; give --lora-r 16, say")
    if own.load_in_4bit and own.lora_r is None and not is_adapter:
        raise ConfigError("--load-in-4bit trains an adapter on a frozen base: give --lora-r 16, say")
    for name, fine, expected in (
        ("lora_r", own.lora_r is None or own.lora_r >= 1, "at least 1"),
        ("lora_alpha", own.lora_alpha is None or own.lora_alpha > 0, "a number above 0"),
        ("lora_dropout", 0 <= own.lora_dropout < 1, "0 to below 1"),
    ):
        if not fine:
            raise ConfigError(f"{options[name].flag} is {getattr(own, name)}; expected {expected}")
    if own.lora_r is not None and is_adapter:
        raise ConfigError(f"{own.model} is an adapter already, and training goes on with it; leave out --lora-r")
    if own.eval_fraction is not None and not 0 <= own.eval_fraction < 1:
        raise ConfigError(f"--eval-fraction is {own.eval_fraction}; expected 0 to below 1")
    more = {f.name for f in fields(extra)} if extra else set()
    training = {k: v for k, v in given.items() if k not in run_names | more}
    output_dir = str(training.pop("output_dir", f"runs/{command}"))
    from prefine.scoring.loading import four_bit_config, load_model, load_tokenizer, pick_dtype

    dtype, precision = pick_dtype(own.dtype)
    if own.load_in_4bit:
        four_bit_config(dtype)
    name = str(dtype).removeprefix("torch.")
    mixed = {"bfloat16": {"bf16": True}, "float16": {"fp16": True}}.get(name, {"bf16": False})
    training = mixed | training
    if own.preset not in PRESETS:
        raise ConfigError(f"--preset is {own.preset!r}; expected one of {', '.join(PRESETS)}{nearest(own.preset, PRESETS)}")
    adapter = own.lora_r is not None or is_adapter
    if own.preset == "recipe":
        recipe = RECIPES[command, adapter].values
        if "max_new_tokens" in training:
            recipe.pop("response_length", None)  # the same by another name
        training = recipe | training
    training.setdefault("disable_tqdm", True)
    training.setdefault("gradient_checkpointing", _has_gpu())
    args = _make_args(config, training, output_dir)
    for key, instead in (("dtype", "--dtype"), ("quantization_config", "--load-in-4bit"), ("trust_remote_code", "--trust-remote-code")):
        if key in args.init_kwargs():
            raise ConfigError(f"--model-init-kwargs has {key}; give {instead} in its place")
    tokenizer = load_tokenizer(own.model, args.trust_remote_code, args.chat_template_kwargs)
    # Adapters train in float32 over a base in the compute dtype; full fine-tuning keeps float32 master weights.
    load_dtype = dtype if (own.lora_r is not None or is_adapter) and name == "bfloat16" else _float32()
    return Planned(
        own,
        args,
        training,
        [command, *argv],
        output_dir,
        tokenizer,
        precision,
        load_dtype,
        load or load_model,
        extra(**{k: v for k, v in given.items() if k in more}) if extra else None,
        frozenset(given),
    )


def _make_args(config: Any, training: dict[str, Any], output_dir: str) -> Any:
    from prefine.training.refusals import refusals, try_options

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers renames arguments between versions we support
        with refusals(training):
            args = config(output_dir=f"{output_dir}/checkpoints", **training)
        try_options(args)
    return args


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def _float32() -> Any:
    import torch

    return torch.float32


def _peft_config(own: RunOptions) -> Any:
    if own.lora_r is None:
        return None
    from peft import LoraConfig

    targets: Any = own.lora_target or ["all-linear"]
    return LoraConfig(
        r=own.lora_r,
        lora_alpha=own.lora_alpha or 2 * own.lora_r,
        lora_dropout=own.lora_dropout,
        target_modules="all-linear" if targets == ["all-linear"] else targets,
        task_type="CAUSAL_LM",
    )


def settings_line(args: Any, own: RunOptions) -> str:
    """What decides how fast a run learns, and where that comes from."""
    warmup = f"{100 * args.warmup_steps:g} % warm-up" if 0 < args.warmup_steps < 1 else f"{args.warmup_steps:g} warm-up steps"
    length = f"{args.max_steps} steps" if args.max_steps > 0 else f"{args.num_train_epochs:g} epoch{'s' * (args.num_train_epochs != 1)}"
    schedule = getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)
    betas = getattr(args, "beta", [])
    beta = f"beta {', '.join(f'{b:g}' for b in betas)}, " if isinstance(betas, list) and betas else ""
    beta = f"beta {betas:g}, " if isinstance(betas, int | float) else beta
    return f"{beta}learning rate {args.learning_rate:g} ({schedule}, {warmup}), {length}; preset {own.preset}"


def warnings_of(command: str, args: Any, model: Any) -> list[str]:
    """What is unusual about the settings."""
    found = unusual(command, hasattr(model, "peft_config"), args.learning_rate)
    return [found] if found else []


def retention_lines(trainer: Any) -> list[str]:
    """What was read of --retain's data, and what was dropped or changed of it."""
    from prefine.cli.data.reading import counted, reading_lines

    if trainer.retention is None:
        return []
    read = trainer.retention.read
    dropped = {reason: what["count"] for part in (read, read["encoding"]) for reason, what in part["dropped"].items()}
    head = f"retained: {read['source']}: {len(trainer.retention.groups)} of {read['rows']} rows; dropped: {counted(dropped)}"
    return [head, *(f"retained: {line}" for line in reading_lines(read, read["encoding"]))]


def announce(lines: list[str]) -> None:
    """Say what will be done, before it starts."""
    from rich.console import Console

    console = Console()
    for line in lines:
        console.print(f"  {printable(line)}", highlight=False, markup=False, emoji=False, soft_wrap=True)


def parameters_line(model: Any, precision: str) -> str:
    """Trainable and total parameters, and the precision."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    return f"trains {trainable:,} of {total:,} parameters in {precision}"


def show_progress(trainer: Any, keys: tuple[str, ...]) -> None:
    """Replace transformers' printing: a bar with the metrics that tell, or a line a log where there is no terminal."""
    from transformers import PrinterCallback, ProgressCallback

    from prefine.cli.progress import TrainingProgress

    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(TrainingProgress(keys))


def train(trainer: Any, prepared: Started) -> float:
    """Train, resuming if asked, and save the model; returns the seconds it took."""
    from prefine.training.refusals import refusals

    resume = None
    if prepared.options.resume:
        resume = prepared.run.last_checkpoint()
        if resume is None:
            announce(["no whole checkpoint to resume from: starting at the beginning"])
    trainer.on_event = prepared.run.append_event
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        with refusals(began=lambda: trainer.state.global_step > 0):
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    trainer.save_model(str(prepared.run.model))
    prepared.tokenizer.save_pretrained(prepared.run.model)
    return time.perf_counter() - start
