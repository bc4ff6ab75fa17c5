"""From what was given to a run that is ready to train: options checked, tokenizer and model loaded, the run directory made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from prefine.api.fields import config_of
from prefine.api.options import as_flags, asdict_shallow, options_of, pick
from prefine.api.progress import Progress
from prefine.api.quiet import quiet_transformers
from prefine.api.reading import counted, reading_lines
from prefine.api.run_options import PRESETS, RunOptions
from prefine.errors import ConfigError, nearest
from prefine.preferences.source import check_there
from prefine.runs import RunDirectory, model_of
from prefine.training.recipes import RECIPES, unusual

MAY_CHANGE = {
    *("output_dir", "max_steps", "num_train_epochs", "save_steps", "save_total_limit", "eval_steps"),
    *("logging_steps", "report_to", "disable_tqdm", "token_budget", "final_eval", "final_judge"),
}
"""What a resumed run may be told otherwise: how far it goes, how it is watched, what it fits."""


@dataclass
class TrainingSetup:
    """A training command whose options are read and checked; nothing is written yet.

    Attributes:
        options: the run's; args: the trainer's config; training: what it was made of; extra: the command's own options.
        given: names of the options that were given.
    """

    command: str
    options: RunOptions
    args: Any
    training: dict[str, Any]
    repeat: list[str]
    output_dir: str
    tokenizer: Any
    precision: str
    dtype: Any
    load: Callable[..., Any]
    progress: Progress
    extra: Any = None
    given: frozenset[str] = frozenset()
    init_kwargs: Any = None

    def load_model(self) -> Any:
        """The model as the options say."""
        from prefine.scoring.loading import four_bit_config

        self.progress.stage("loading the model")
        quantized = {"quantization_config": four_bit_config(self.dtype)} if self.options.load_in_4bit else {}
        kwargs = self.args.init_kwargs() | quantized
        return self.load(self.options.model, dtype=self.dtype, trust_remote_code=self.args.trust_remote_code, **kwargs)

    def start(self, data_key: str) -> TrainingRun:
        """Load the model, then make the run directory; ``data_key`` is what the training data is known by.

        Raises:
            ConfigError: the folder holds another run, or what is resumed was told otherwise.
        """
        own = self.options
        model = self.load_model()
        if getattr(self.args, "ensemble", 1) == 1:  # members of an ensemble are loaded one by one
            self.init_kwargs, self.args.model_init_kwargs = self.args.model_init_kwargs, None  # a trainer with a model refuses them
        if own.lora_dropout and self.args.disable_dropout:
            from prefine.training.pack_trainer import disable_dropout

            disable_dropout(model)  # the model's own; the adapter's was asked for
            self.args.disable_dropout = False
        run = RunDirectory.create(self.output_dir, own.resume)
        self.args.output_dir = str(run.checkpoints)
        config = {**self.training, **{k: v for k, v in asdict_shallow(own).items() if k != "resume"}, "output_dir": self.output_dir}
        config |= {k: _storable(v) for k, v in asdict_shallow(self.extra).items()} if self.extra is not None else {}
        if own.resume and (run.path / "config.yaml").exists():
            _check_resumes(run.config(), config)
            if run.data().get("key", data_key) != data_key:
                raise ConfigError(
                    "--resume goes on with the run's data, but its content has changed since; give another --output-dir", code="PF-C06"
                )
        else:
            run.write_config(config, self.repeat)
            run.write_environment()
        return TrainingRun(self, run, model, _peft_config(own))


@dataclass
class TrainingRun:
    """What a command trains with; :meth:`train` ends in a saved model."""

    setup: TrainingSetup
    run: RunDirectory
    model: Any
    peft_config: Any
    seconds: float = field(default=0.0)

    def watch(self, trainer: Any, shown: tuple[str, ...]) -> None:
        """Tell the trainer's steps to progress, and nobody else; ``shown`` names the metrics."""
        from transformers import PrinterCallback, ProgressCallback

        from prefine.api.training_progress import ShowProgress

        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(ShowProgress(self.setup.progress, shown))

    def train(self, trainer: Any, shown: tuple[str, ...]) -> None:
        """Train, resuming if asked, and save the model; ``shown`` names the metrics that progress is told.

        Raises:
            ConfigError: a library refuses an option.
        """
        from prefine.training.refusals import refusals

        progress = self.setup.progress
        self.watch(trainer, shown)
        resume = None
        if self.setup.options.resume:
            resume = self.run.last_checkpoint()
            at = f"resuming from step {resume.name.rpartition('-')[2]}" if resume else ""
            progress.say(at or "no complete checkpoint to resume from: starting at the beginning")
        trainer.on_event = self.run.append_event
        start = time.perf_counter()
        if "logging_steps" not in self.setup.given and trainer.args.max_steps > 0:  # a short run says something, too
            trainer.args.logging_steps = max(1, min(trainer.args.logging_steps, trainer.args.max_steps // 10))
        try:
            with refusals(began=lambda: trainer.state.global_step > 0):
                trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        except KeyboardInterrupt:
            last = self.run.last_checkpoint()
            at = (
                f"the same command with --resume goes on from step {last.name.rpartition('-')[2]}"
                if last
                else "no checkpoint was written yet"
            )
            progress.say(f"stopped at step {trainer.state.global_step}: {at}")
            raise
        trainer.args.model_init_kwargs = self.setup.init_kwargs or trainer.args.model_init_kwargs
        trainer.save_model(str(self.run.model))
        self.setup.tokenizer.save_pretrained(self.run.model)
        self.seconds = time.perf_counter() - start


def _storable(value: Any) -> Any:
    """A value as ``config.yaml`` holds it: functions by their module and name, other objects by their kind."""
    if value is None or isinstance(value, str | int | float | bool | list | dict):
        return value
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}:{value.__qualname__}"
    return type(value).__name__


def _check_resumes(was: dict[str, Any], now: dict[str, Any]) -> None:
    differing = [k for k in sorted({*was, *now} - MAY_CHANGE) if was.get(k) != now.get(k)]
    if differing:
        listed = ", ".join(f"{k} was {_shown(was.get(k))} and is now {_shown(now.get(k))}" for k in differing)
        raise ConfigError(
            f"--resume goes on with the run as it was, but {listed}; give what it had, or another --output-dir", code="PF-C06"
        )


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)


def set_up(
    command: str,
    given: Mapping[str, Any],
    progress: Progress,
    load: Callable[..., Any] | None = None,
    extra: Any = None,
) -> TrainingSetup:
    """Check options, load the tokenizer. What can fail without the model fails here.

    Args:
        given: what was given, by option name; ``repeat`` may hold the words of the command line that gave it.
        load: takes the model's name, ``dtype``, ``trust_remote_code`` and what ``from_pretrained`` takes; unset: a causal language model.
        extra: a dataclass of further options of the command.

    Raises:
        ConfigError, MissingFile, ModelError: what is wrong, and what to do.
    """
    given = dict(given)
    words = given.pop("repeat", None)
    own = pick(RunOptions, given)
    for name in ("model", "data"):
        if getattr(own, name) is None or (isinstance(getattr(own, name), str | list) and not getattr(own, name)):
            raise ConfigError(f"--{name} is missing ({options_of(RunOptions)[name].help})", code="PF-C07")
    own.model = model_of(str(own.model))
    _take_data(own, given)
    resolved = given | {name: getattr(own, name) for name in ("model", "data", "eval_data") if name in given}
    repeat = list(words or as_flags(command, {k: _storable(v) for k, v in resolved.items()}))
    _check_run_options(command, own)
    mine = {f.name for kind in (RunOptions, extra) if kind for f in fields(kind)}
    preset = RECIPES[command, False].values | RECIPES[command, True].values
    training = {k: v for k, v in given.items() if k not in mine and not (v is None and k in preset)}
    output_dir = str(training.pop("output_dir", None) or f"runs/{command}")
    RunDirectory.check_free(output_dir, own.resume)
    for name in [*own.sources, *([own.eval_data] if own.eval_data else [])]:
        check_there(name)
    progress.stage("loading libraries")
    quiet_transformers()
    training, precision, load_dtype = _resolve(command, own, training)
    args = _make_args(config_of(command), training, output_dir)
    for key, instead in (("dtype", "--dtype"), ("quantization_config", "--load-in-4bit"), ("trust_remote_code", "--trust-remote-code")):
        if key in args.init_kwargs():
            raise ConfigError(f"--model-init-kwargs has {key}; give {instead} in its place")
    from prefine.scoring.loading import load_model, load_tokenizer

    return TrainingSetup(
        command,
        own,
        args,
        training,
        repeat,
        output_dir,
        load_tokenizer(own.model, args.trust_remote_code, args.chat_template_kwargs),
        precision,
        load_dtype,
        load or load_model,
        progress,
        pick(extra, given) if extra else None,
        frozenset(given),
    )


def _take_data(own: RunOptions, given: Mapping[str, Any]) -> None:
    """Preferences, datasets and rows in memory become the files they stand for.

    Raises:
        ConfigError: options of reading beside Preferences, which were read already.
    """
    from prefine.api.preferences import Preferences, files_of

    for name in ("data", "eval_data"):
        value = getattr(own, name)
        if value is None or isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            continue
        if isinstance(value, Preferences) or (isinstance(value, list) and any(isinstance(v, Preferences) for v in value)):
            beside = [k for k in ("map", "format", "pairing", "min_gap") if k in given]
            if beside:
                raise ConfigError(
                    f"{beside[0]} would be ignored: the Preferences given as {name} were read already; leave it out", code="PF-C04"
                )
        files = files_of(value)
        if name == "eval_data" and len(files) > 1:
            raise ConfigError("eval_data is one source; give one")
        setattr(own, name, files if name == "data" else files[0])


def _is_adapter(model: str) -> bool:
    return (Path(model) / "adapter_config.json").exists()


def _check_run_options(command: str, own: RunOptions) -> None:
    """Refuse what contradicts itself or would be ignored.

    Raises:
        ConfigError: which, and what to give.
    """
    is_adapter = _is_adapter(own.model)
    if is_adapter and command == "reward":
        raise ConfigError(f"{own.model} is an adapter of a language model; make one model of it first: prefine merge RUN --output FOLDER")
    if not own.load_in_4bit and own.lora_r is None:
        for name in ("lora_alpha", "lora_target", "lora_dropout"):
            if getattr(own, name) != getattr(RunOptions, name):
                raise ConfigError(f"--{name.replace('_', '-')} would be ignored without --lora-r; give --lora-r 16, say", code="PF-C04")
    if own.load_in_4bit and own.lora_r is None and not is_adapter:
        raise ConfigError("--load-in-4bit trains an adapter on a frozen base: give --lora-r 16, say")
    for name, fine, expected in (
        ("lora_r", own.lora_r is None or own.lora_r >= 1, "at least 1"),
        ("lora_alpha", own.lora_alpha is None or own.lora_alpha > 0, "a number above 0"),
        ("lora_dropout", 0 <= own.lora_dropout < 1, "0 to below 1"),
        ("eval_fraction", own.eval_fraction is None or 0 <= own.eval_fraction < 1, "0 to below 1"),
    ):
        if not fine:
            raise ConfigError(f"--{name.replace('_', '-')} is {getattr(own, name)}; expected {expected}", code="PF-C03")
    if own.lora_r is not None and is_adapter:
        raise ConfigError(f"{own.model} is an adapter already, and training goes on with it; leave out --lora-r")
    if own.preset not in PRESETS:
        raise ConfigError(f"--preset is {own.preset!r}; expected one of {', '.join(PRESETS)}{nearest(own.preset, PRESETS)}", code="PF-C03")


def _resolve(command: str, own: RunOptions, training: dict[str, Any]) -> tuple[dict[str, Any], str, Any]:
    """What the config is made of, with the preset's values; the compute dtype's name, and the dtype to load in."""
    import torch

    from prefine.scoring.loading import four_bit_config, pick_dtype

    if own.dtype == "auto":  # as scripts for other trainers say it
        own.dtype = "bfloat16" if training.get("bf16") else "float16" if training.get("fp16") else "auto"
    dtype, precision = pick_dtype(own.dtype)
    if own.load_in_4bit:
        four_bit_config(dtype)
    name = str(dtype).removeprefix("torch.")
    training = {"bfloat16": {"bf16": True}, "float16": {"fp16": True}}.get(name, {"bf16": False}) | training
    adapter = own.lora_r is not None or _is_adapter(own.model)
    if own.preset == "recipe":
        recipe = RECIPES[command, adapter].values
        if "max_new_tokens" in training:
            recipe.pop("response_length", None)  # the same by another name
        training = recipe | training
    training.setdefault("disable_tqdm", True)
    training.setdefault("gradient_checkpointing", torch.cuda.is_available())
    # Adapters train in float32 over a base in the compute dtype; full fine-tuning keeps float32 master weights.
    return training, precision, dtype if adapter and name == "bfloat16" else torch.float32


def _make_args(config: Any, training: dict[str, Any], output_dir: str) -> Any:
    from prefine.training.refusals import refusals, try_options

    with refusals(training):
        args = config(output_dir=f"{output_dir}/checkpoints", **training)
    try_options(args)
    return args


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


def model_lines(trainer: Any, precision: str) -> list[str]:
    """What was read of --retain's data; the layout that was proven; trainable and total parameters, and the precision."""
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in trainer.model.parameters())
    return [*_retention_lines(trainer), trainer.proof.sentence(), f"trains {trainable:,} of {total:,} parameters in {precision}"]


def _retention_lines(trainer: Any) -> list[str]:
    if trainer.retention is None:
        return []
    read = trainer.retention.read
    dropped = {reason: what["count"] for part in (read, read["encoding"]) for reason, what in part["dropped"].items()}
    head = f"retained: {read['source']}: {len(trainer.retention.groups)} of {read['rows']} rows; dropped: {counted(dropped)}"
    return [head, *(f"retained: {line}" for line in reading_lines(read, read["encoding"]))]


def warnings_of(command: str, args: Any, model: Any) -> list[str]:
    """What is unusual about the settings."""
    found = unusual(command, hasattr(model, "peft_config"), args.learning_rate)
    return [found] if found else []
