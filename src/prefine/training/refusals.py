"""What transformers, accelerate, PEFT or an optional package refuse of the options, in one line."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from prefine.errors import ConfigError, PrefineError
from prefine.packing.out_of_memory import is_out_of_memory
from prefine.scoring.loading import first_line

HANDED_ON = {
    *("__init__", "train", "__post_init__", "create_optimizer", "set_initial_training_values", "trackers", "schedule", "checkpointing"),
    *("_prepare_for_training", "create_accelerator_and_postprocess", "<lambda>"),
}
"""Our functions that do no more than hand options on."""
MANY = 3
"""As many options are not all to be named."""
LATE = (KeyError, ValueError, ImportError)
"""What an option may still raise once steps were taken; anything else then is no option's."""


@contextmanager
def refusals(given: Mapping[str, Any] | None = None, began: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Errors that other libraries raise within the block become a :class:`ConfigError`; our own code's pass as they are.

    Args:
        given: options, of which those are named that the error speaks of, by name or value; all where there is none such.
        began: whether steps were taken.
    """
    try:
        yield
    except PrefineError:
        raise
    except Exception as error:  # what a library raises for an option is not written down anywhere
        if is_out_of_memory(error) or _is_ours(error) or (began() and not isinstance(error, LATE)):
            raise
        words = first_line(error)
        if isinstance(error, KeyError | AttributeError | TypeError | ZeroDivisionError):
            words = f"{type(error).__name__}: {words}"
        if isinstance(error, ImportError) and "install" not in words.lower():
            words += "; install the package that it names, or leave the option out"
        options = {
            f"--{k.replace('_', '-')} {' '.join(v) if isinstance(v, list) else v}": k in words or (isinstance(v, str) and v in words)
            for k, v in (given or {}).items()
        }
        about = ", ".join([o for o, told in options.items() if told] or (options if len(options) < MANY else ()))
        raise ConfigError(f"an option is refused{about and f' ({about})'}: {words} (--traceback shows where)", code="PF-C08") from error


def _is_ours(error: BaseException) -> bool:
    """Whether our own code raised the error, or called what did without handing options on."""
    # The first two frames are this file's and the block's.
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][2:]
    ours = [f.f_code.co_name for f in frames if str(f.f_globals.get("__name__", "")).startswith("prefine.")]
    last = frames[-1] if frames else None
    return last is None or any(name not in HANDED_ON for name in ours) or str(last.f_globals.get("__name__", "")).startswith("prefine.")


def try_options(args: Any) -> None:
    """Have transformers make what it would make late of the options: trackers, the optimizer's class, the schedule, checkpointing.

    Raises:
        ConfigError: one is refused.
    """
    from torch.utils.checkpoint import checkpoint
    from transformers import Trainer, get_scheduler
    from transformers.integrations import get_reporting_integration_callbacks

    def trackers() -> None:
        for callback in get_reporting_integration_callbacks(args.report_to):
            callback()

    def schedule() -> None:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
        get_scheduler(args.lr_scheduler_type, optimizer, 0, 1, scheduler_specific_kwargs=args.lr_scheduler_kwargs)

    def checkpointing() -> None:
        if args.gradient_checkpointing_kwargs:
            checkpoint(torch.clone, torch.zeros(1, requires_grad=True), **{"use_reentrant": False} | args.gradient_checkpointing_kwargs)

    for names, attempt in (
        (("log_level",), args.get_process_log_level),
        (("report_to",), trackers),
        (("optim", "optim_args"), lambda: Trainer.get_optimizer_cls_and_kwargs(args)),
        (("lr_scheduler_type", "lr_scheduler_kwargs"), schedule),
        (("gradient_checkpointing_kwargs",), checkpointing),
    ):
        values = {name: getattr(args, name) for name in names}
        with refusals({name: getattr(value, "value", value) for name, value in values.items() if value}):
            attempt()
    refuse_unread_by_optimizer(args)


def refuse_unread_by_optimizer(args: Any) -> None:
    """Refuse what the optimizer does not read: it is made the same with and without.

    Raises:
        ConfigError: names the option, or the part of ``optim_args``.
    """
    from transformers import Trainer

    def made(**changes: Any) -> Any:
        changed = copy.copy(args)
        for name, value in changes.items():
            setattr(changed, name, value)
        return Trainer.get_optimizer_cls_and_kwargs(changed)

    pairs = [pair for pair in str(args.optim_args or "").replace(" ", "").split(",") if pair]
    without = {f"optim_args {pair}": {"optim_args": ",".join(p for p in pairs if p != pair)} for pair in pairs}
    for name in ("adam_beta1", "adam_beta2", "adam_epsilon", "optim_target_modules"):
        if getattr(args, name) != args.default(name):
            without[name] = {name: args.default(name)}
    for told, changes in without.items():
        try:
            unread = made() == made(**changes)
        except Exception:  # it cannot be made without: it is read
            continue
        if unread:
            raise ConfigError(f"{told} would be ignored by optim {args.optim.value}; leave it out")
