"""What transformers, accelerate, PEFT or an optional package refuse of the options, in one line."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from prefine.errors import ConfigError, PrefineError
from prefine.scoring.loading import first_line

HANDED_ON = {"__init__", "__post_init__", "create_optimizer", "try_options"}
"""Our functions that do no more than hand options on."""
LATE = (KeyError, ValueError, ImportError)
"""What an option may still raise once steps were taken; anything else then is no option's."""


@contextmanager
def refusals(given: Mapping[str, Any] | None = None, began: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Errors that other libraries raise within the block become a :class:`ConfigError`; our own code's pass as they are.

    Args:
        given: options, of which those are named whose value the error speaks of.
        began: whether steps were taken.
    """
    try:
        yield
    except PrefineError:
        raise
    except Exception as error:  # what a library raises for an option is not written down anywhere
        if isinstance(error, torch.OutOfMemoryError) or _is_ours(error) or (began() and not isinstance(error, LATE)):
            raise
        words = first_line(error)
        if isinstance(error, KeyError | AttributeError | TypeError | ZeroDivisionError):
            words = f"{type(error).__name__}: {words}"
        named = [f"--{k.replace('_', '-')} {v}" for k, v in (given or {}).items() if isinstance(v, str) and v and v in words]
        about = f" ({', '.join(named)})" if named else ""
        raise ConfigError(f"an option is refused{about}: {words} (--debug shows where)") from error


def _is_ours(error: BaseException) -> bool:
    """Whether our own code raised the error, or called what did without handing options on."""
    # The first two frames are this file's and the block's.
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][2:]
    ours = [f.f_code.co_name for f in frames if str(f.f_globals.get("__name__", "")).startswith("prefine.")]
    last = frames[-1] if frames else None
    return last is None or any(name not in HANDED_ON for name in ours) or str(last.f_globals.get("__name__", "")).startswith("prefine.")


def try_options(args: Any) -> None:
    """Have transformers make what it would make late of the options: trackers, the optimizer's class, the schedule, checkpointing."""
    from torch.utils.checkpoint import checkpoint
    from transformers import Trainer, get_scheduler
    from transformers.integrations import get_reporting_integration_callbacks

    args.get_process_log_level()
    for callback in get_reporting_integration_callbacks(args.report_to):
        callback()
    Trainer.get_optimizer_cls_and_kwargs(args)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
    get_scheduler(args.lr_scheduler_type, optimizer, 0, 1, scheduler_specific_kwargs=args.lr_scheduler_kwargs)
    if args.gradient_checkpointing_kwargs:
        checkpoint(torch.clone, torch.zeros(1, requires_grad=True), **{"use_reentrant": False} | args.gradient_checkpointing_kwargs)
