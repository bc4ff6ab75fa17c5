"""From what was given to a run that is ready to train: options checked, tokenizer and model loaded, the run directory made."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefine.api.adapter_options import is_adapter
from prefine.api.fields import config_of
from prefine.api.guarding import add_guard, check_mode
from prefine.api.options import as_flags, asdict_shallow, options_of, pick
from prefine.api.progress import Progress
from prefine.api.quiet import quiet_transformers
from prefine.api.reading import column_map, counted, reading_lines
from prefine.api.resuming import check_resumes, check_same, seconds_of
from prefine.api.run_options import PRESETS, RunOptions
from prefine.checkpoints import FULL, SAVING, is_verifiable, newest, publish, step_of, storing, sync
from prefine.errors import CheckpointError, ConfigError, ModelError, Stopped, StorageError, nearest, printable
from prefine.preferences.source import check_there
from prefine.processes import first_then_others, is_first, meet
from prefine.redaction import redacted
from prefine.runs import RunDirectory, model_of
from prefine.training.recipes import KEPT, RECIPES

if TYPE_CHECKING:
    from prefine.api.run import Run
    from prefine.planning.lengths import Lengths


NOT_HERE = "this process does not hold the whole model, so no responses were sampled; for a verdict, on a larger machine"


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
    begun: float = field(default_factory=time.monotonic)

    @property
    def go_on(self) -> str:
        """The command that goes on with the run."""
        if int(os.environ.get("WORLD_SIZE") or 1) > 1:  # what launched it is not known
            return "the same command with --resume"
        words = ["prefine", *self.repeat]
        return printable(shlex.join(words if any(w.partition("=")[0] == "--resume" for w in words) else [*words, "--resume"]))

    def reading(self) -> Any:
        """How the data's rows are read."""
        from prefine.preferences.convert import Reading

        own = self.options
        return Reading(column_map(own.map), own.format, own.pairing, own.min_gap, self.args.seed)

    def load_model(self) -> Any:
        """The model as the options say."""
        import torch
        from transformers import set_seed

        from prefine.scoring.held_in_half import linears_alone_in_half

        self.progress.stage("loading the model")
        set_seed(self.args.seed)  # of what loading draws: a new reward head
        quantization = self.options.quantization(self.dtype, self.args.is_sharded)
        quantized = {} if quantization is None else {"quantization_config": quantization}
        kwargs = self.args.init_kwargs() | quantized
        model = self.load(self.options.model, dtype=self.dtype, trust_remote_code=self.args.trust_remote_code, **kwargs)
        if self.dtype is torch.float16 and not quantized:
            linears_alone_in_half(model)
        return model

    def start(self, data_key: str, lengths: Callable[[], Lengths], eval_key: str | None = None) -> TrainingRun:
        """Say what memory the run will take, load the model, then make the run directory.

        Args:
            data_key: what the training data is known by; eval_key: what evaluation data of its own is, None where it has none.
            lengths: gives those of the training data's groups.

        Raises:
            ConfigError: it cannot fit, the folder holds another run, or what is resumed was told otherwise or finds other data or another
                model.
        """
        from prefine.api.plan_lines import plan_training
        from prefine.scoring.fingerprint import fingerprint

        own = self.options
        planned = plan_training(self, lengths)
        model = self.load_model()
        if getattr(self.args, "ensemble", 1) == 1:  # members of an ensemble are loaded one by one
            self.init_kwargs, self.args.model_init_kwargs = self.args.model_init_kwargs, None  # a trainer with a model refuses them
        if own.lora_dropout and self.args.disable_dropout:
            from prefine.training.pack_trainer import disable_dropout

            disable_dropout(model)  # the model's own; the adapter's was asked for
            self.args.disable_dropout = False
        with first_then_others():
            run = RunDirectory.create(self.output_dir, bool(own.resume))
        run.lock()
        self.args.output_dir = str(run.checkpoints)
        config = {**self.training, **{k: v for k, v in asdict_shallow(own).items() if k not in ("resume", "stop_after")}}
        config |= {k: storable(v) for k, v in asdict_shallow(self.extra).items()} if self.extra is not None else {}
        config["output_dir"] = self.output_dir
        keys: dict[str, Any] = {"key": data_key, "eval_key": eval_key}
        keys["batch"] = self.args.per_device_train_batch_size * self.args.world_size
        if self.args.zero_stage:
            keys["deepspeed"] = f"ZeRO-{self.args.zero_stage} in {self.args.world_size} processes"
        commit = getattr(getattr(model, "config", None), "_commit_hash", None)
        keys["model_files"] = fingerprint(own.model, commit)
        for name in getattr(self.extra, "reward_model", None) or []:
            keys.setdefault("reward_model_files", {})[name] = fingerprint(name)
        if not is_first():
            pass  # the first writes, or compares
        elif own.resume and (run.path / "config.yaml").exists():
            check_resumes(run.config(), redacted(config), asdict_shallow(RunOptions()))
            check_same(run.data(), keys)
        else:
            run.write_config(config, self.repeat)
            run.write_environment()
        meet()
        return TrainingRun(self, run, model, own.peft_config(), keys, {} if planned is None else {"plan": planned.summary()})


@dataclass
class TrainingRun:
    """What a command trains with; :meth:`train` ends in a saved model."""

    setup: TrainingSetup
    run: RunDirectory
    model: Any
    peft_config: Any
    keys: Mapping[str, Any]
    planned: dict[str, Any] = field(default_factory=dict)
    seconds: float = field(default=0.0)

    def write_data(self, summary: Mapping[str, Any]) -> None:
        """Write ``data.json``: what was read, and what data and models are known by when the run is resumed, its plan."""
        self.run.write_data({**summary, **self.keys, **self.planned})

    def watch(self, trainer: Any, shown: tuple[str, ...]) -> None:
        """Tell the trainer's steps to progress, and nobody else; ``shown`` names the metrics."""
        from transformers import PrinterCallback, ProgressCallback

        from prefine.api.training_progress import ShowProgress

        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(ShowProgress(self.setup.progress, shown))

    def train(self, trainer: Any, shown: tuple[str, ...], questions: Any = None, judge: Any = None) -> None:
        """Train, resuming if asked, and save the model.

        Args:
            shown: names the metrics that progress is told.
            questions, judge: of the guard's probe (:func:`prefine.api.guarding.add_guard`).

        Raises:
            ConfigError: a library refuses an option.
            ModelError: nothing good came of it.
            PrefineError, Stopped: as :meth:`fit`.
        """
        self.watch(trainer, shown)
        if "logging_steps" not in self.setup.given and trainer.args.max_steps > 0:  # a short run says something, too
            trainer.args.logging_steps = max(1, min(trainer.args.logging_steps, trainer.args.max_steps // 10))
        guard = add_guard(self.setup, self.run, trainer, questions, judge)
        progress, ended = self.setup.progress, guard.ended_at()
        if ended is not None:
            trainer.ended_at = ended[0]
            progress.say(f"the guard ended this run at step {ended[0]}: {ended[1]}; with --guard warn it would be trained on")
        self.fit(trainer)
        if guard.stopped:
            progress.say(guard.stopped)
        warned = {finding.rule: f"{finding.rule} at step {finding.step}" for finding, _ in guard.findings if finding.severity != "note"}
        if warned:
            progress.say(f"the guard warned of {', '.join(warned.values())}; the page says more, prefine doctor {self.run.path} too")
        if not trainer.weights_are_finite():
            raise ModelError(
                "the weights are not finite numbers any more, so no model is saved; lower the learning rate, and begin anew", code="PF-M18"
            )
        trainer.args.model_init_kwargs = self.setup.init_kwargs or trainer.args.model_init_kwargs
        self.save_model(trainer, self.run.model)

    def followed(self) -> Run:
        """The finished run of a process that is not the first, once that has done what comes after training, and meets the others."""
        from prefine.api.run import Run

        meet()
        return Run(self.run.path)

    def fit(self, trainer: Any) -> None:
        """Train, from the newest whole checkpoint in the trainer's folder where resuming.

        Raises:
            StorageError: the disk took no more; what was saved before is kept.
            CheckpointError: all checkpoints are damaged.
            Stopped: by a signal or the time limit, after a step and with its checkpoint; KeyboardInterrupt where by Ctrl-C.
        """
        from prefine.training.refusals import refusals
        from prefine.training.room import check_room
        from prefine.training.stop import StopBetweenSteps, listening

        setup, progress = self.setup, self.setup.progress
        checkpoint = self._checkpoint(trainer) if setup.options.resume else None
        trainer.verified = str(checkpoint)
        trainer.on_event = self.run.append_event
        check_room(trainer, self.run.path)
        limit = seconds_of(setup.options.stop_after)
        stop = StopBetweenSteps(trainer, None if limit is None else setup.begun + limit, progress.say)
        trainer.add_callback(stop)
        start = time.perf_counter()
        try:
            with refusals(began=lambda: trainer.state.global_step > 0), listening(stop):
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except KeyboardInterrupt:
            progress.say(f"stopped at step {trainer.state.global_step}; {self._kept(trainer)}go on with: {setup.go_on}")
            raise
        except StorageError as error:
            raise StorageError(f"{error}; {self._kept(trainer)}{_remedy(error)}, then go on with: {setup.go_on}") from error
        self.seconds = time.perf_counter() - start
        if trainer.nothing_left:  # training took its time before
            self.seconds = max((m["train_runtime"] for m in self.run.metrics() if "train_runtime" in m), default=self.seconds)
        if stop.step is not None:
            self.run.append_event("stopped", step=stop.step, by=stop.reason)
            told = f"stopped by {stop.reason} after step {stop.step} of {trainer.state.max_steps}, whose checkpoint is saved; "
            if stop.reason == "Ctrl-C":
                progress.say(f"{told}go on with: {setup.go_on}")
                raise KeyboardInterrupt
            raise Stopped(f"{told}go on with: {setup.go_on}")

    def _checkpoint(self, trainer: Any) -> Path | None:
        """What to resume from; each checkpoint that is passed over is told of, and so is one that cannot be verified."""
        say = self.setup.progress.say

        def told(name: str, wrong: list[str]) -> None:
            say(f"{name} is passed over: {', '.join(wrong)}")
            self.run.append_event("checkpoint_passed_over", checkpoint=name, wrong=wrong)

        found = newest(Path(trainer.args.output_dir), told)
        if trainer.args.should_save:  # what a killed process was writing or removing; a finished run would save nothing more
            shutil.rmtree(Path(trainer.args.output_dir) / SAVING, ignore_errors=True)
        if found is None:
            say("no complete checkpoint to resume from: starting at the beginning")
            return None
        if trainer.args.save_only_model:
            raise ConfigError("--save-only-model keeps no optimizer, without which --resume cannot go on as before; leave one of them out")
        unknown = "" if is_verifiable(found) else ", saved by an earlier version without a manifest: its files cannot be verified"
        say(f"resuming from step {step_of(found)}{unknown}")
        return found

    @staticmethod
    def _kept(trainer: Any) -> str:
        with suppress(CheckpointError):
            found = newest(Path(trainer.args.output_dir))
            return f"the checkpoint of step {step_of(found)} is kept; " if found else "no checkpoint was saved yet; "
        return ""

    def save_model(self, trainer: Any, folder: Path) -> None:
        """Save the model and its tokenizer; the folder is replaced whole.

        Raises:
            StorageError: the disk took no more.
        """
        staged = self.run.path / SAVING / folder.name
        try:
            with storing(f"the model in {folder}"):
                trainer.save_model(str(staged))
                if trainer.args.should_save:
                    self.setup.tokenizer.save_pretrained(staged)
                    sync(staged)
                    folder.parent.mkdir(exist_ok=True)
                    publish(staged, folder)
        except StorageError as error:
            raise StorageError(f"{error}; {self._kept(trainer)}{_remedy(error)}, then go on with: {self.setup.go_on}") from error
        finally:
            if trainer.args.should_save:
                shutil.rmtree(staged.parent, ignore_errors=True)
        trainer.accelerator.wait_for_everyone()


def _remedy(error: StorageError) -> str:
    refused = any(FULL[code] in str(error) for code in (errno.EROFS, errno.EACCES))
    return "make it writable" if refused else "free some space"


def storable(value: Any) -> Any:
    """A value as ``config.yaml`` holds it: functions by their module and name, other objects by their kind."""
    if value is None or isinstance(value, str | int | float | bool | list | dict):
        return value
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}:{value.__qualname__}"
    return type(value).__name__


def _refuse_unused_gpu(training: Mapping[str, Any]) -> None:
    """Training on the processor beside a GPU takes a hundred times as long, and is seldom meant.

    Raises:
        ConfigError: why the GPU cannot be used; not where ``use_cpu`` is given.
    """
    from prefine.scoring.accelerator import unused_gpu

    why = "" if training.get("use_cpu") else unused_gpu()
    if why:
        raise ConfigError(f"{why}; --use-cpu trains on the processor all the same", code="PF-C10")


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
    take_data(own, given)
    resolved = given | {name: getattr(own, name) for name in ("model", "data", "eval_data") if name in given}
    repeat = list(words or as_flags(command, {k: storable(v) for k, v in resolved.items()}))
    _check_run_options(command, own)
    mine = {f.name for kind in (RunOptions, extra) if kind for f in fields(kind)}
    preset = RECIPES[command, False].values | RECIPES[command, True].values
    training = {k: v for k, v in given.items() if k not in mine and not (v is None and k in preset)}
    output_dir = str(training.pop("output_dir", None) or f"runs/{command}")
    RunDirectory.check_free(output_dir, bool(own.resume))
    if (Path(output_dir) / "config.yaml").exists():
        RunDirectory(output_dir).lock()  # known before anything is loaded
    for name in [*own.sources, *([own.eval_data] if own.eval_data else [])]:
        check_there(name)
    progress.stage("loading libraries")
    quiet_transformers()
    _refuse_unused_gpu(training)
    training, precision, load_dtype = _resolve(command, own, training)
    args = _make_args(config_of(command), training, output_dir, given)
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


def take_data(own: RunOptions, given: Mapping[str, Any]) -> None:
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


def _check_run_options(command: str, own: RunOptions) -> None:
    """Refuse what contradicts itself or would be ignored.

    Raises:
        ConfigError: which, and what to give.
    """
    check_mode(own.guard)
    has_adapter = is_adapter(own.model)
    if has_adapter and command == "reward":
        raise ConfigError(f"{own.model} is an adapter of a language model; make one model of it first: prefine merge RUN --output FOLDER")
    own.check_adapter(has_adapter)
    for name, fine, expected in (
        ("guard_prompts", own.guard_prompts >= 0, "0 or more"),
        ("guard_every", own.guard_every is None or own.guard_every >= 1, "at least 1"),
        ("eval_fraction", own.eval_fraction is None or 0 <= own.eval_fraction < 1, "0 to below 1"),
    ):
        if not fine:
            raise ConfigError(f"--{name.replace('_', '-')} is {getattr(own, name)}; expected {expected}", code="PF-C03")
    if own.lora_r is not None and has_adapter:
        raise ConfigError(f"{own.model} is an adapter already, and training goes on with it; leave out --lora-r")
    if own.resume not in (True, False, "auto"):
        raise ConfigError(f"--resume is {own.resume!r}; expected nothing behind it, or auto")
    seconds_of(own.stop_after)
    if own.preset not in PRESETS:
        raise ConfigError(f"--preset is {own.preset!r}; expected one of {', '.join(PRESETS)}{nearest(own.preset, PRESETS)}", code="PF-C03")


def _resolve(command: str, own: RunOptions, training: dict[str, Any]) -> tuple[dict[str, Any], str, Any]:
    """What the config is made of, with the preset's values; the compute dtype's name, and the dtype to load in."""
    import torch

    from prefine.planning.devices import kind_here
    from prefine.scoring.loading import pick_dtype
    from prefine.training.config.conditional import rounds_at_random, warms_up

    if own.dtype == "auto":  # as scripts for other trainers say it
        own.dtype = "bfloat16" if training.get("bf16") else "float16" if training.get("fp16") else "auto"
    dtype, precision = pick_dtype(own.dtype)
    own.quantization(dtype)
    name = str(dtype).removeprefix("torch.")
    training = {"bfloat16": {"bf16": True}, "float16": {"fp16": True}}.get(name, {"bf16": False}) | training
    adapter = own.lora_r is not None or is_adapter(own.model)
    if own.preset == "recipe":
        recipe = RECIPES[command, adapter].values
        if "max_new_tokens" in training:
            recipe.pop("response_length", None)  # the same by another name
        if {"desirable_weight", "undesirable_weight"} & training.keys():
            recipe.pop("balance_labels", None)
        if not warms_up(training.get("lr_scheduler_type", ""), training.get("optim", "")):
            recipe.pop("warmup_steps", None)
        training = recipe | training
        if training.get("save_strategy", "steps") == "steps" and not training.get("load_best_model_at_end"):
            training = {name: value for name, (value, _) in KEPT.items()} | training
    training.setdefault("disable_tqdm", True)
    training.setdefault("gradient_checkpointing", kind_here() == "cuda")
    rounds = rounds_at_random(training.get("optim", ""), training.get("optim_args"))
    if rounds and (adapter or name != "bfloat16"):
        kept = "an adapter's weights are" if adapter else f"at dtype {name} weights are"
        raise ConfigError(f"bf16_stochastic_round would be ignored: {kept} kept in float32; leave it out", code="PF-C04")
    # Adapters train in float32 over a base in the compute dtype: of float16 where there is mixed precision of it, which a CPU has not.
    # Full fine-tuning keeps float32 master weights, but where the optimizer rounds those of bfloat16 at random.
    in_half = adapter and (name == "bfloat16" or (torch.accelerator.is_available() and not training.get("use_cpu")))
    return training, precision, dtype if in_half or rounds else torch.float32


def _make_args(config: Any, training: dict[str, Any], output_dir: str, given: Mapping[str, Any]) -> Any:
    from prefine.training.config.conditional import BY_HAND, CONDITIONAL, refuse_conditional
    from prefine.training.refusals import refusals, try_options

    with refusals(training):
        args = config(output_dir=f"{output_dir}/checkpoints", **training)
    rows = CONDITIONAL + BY_HAND
    named = {name: given[name] for row in rows for name in row.names if name in given}
    refuse_conditional(args, {name for name, value in named.items() if value not in (None, False, 0, "", "no", [], {})}, rows)
    try_options(args)
    return args


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
