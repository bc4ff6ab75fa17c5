"""Libraries that print of themselves, kept quiet while a call runs: what is worth saying, calls say."""

from __future__ import annotations

import sys
from logging import ERROR, NOTSET
from logging import getLogger as logger

TALKATIVE = ("bitsandbytes", "torchao", "torch.utils._pytree")
"""bitsandbytes advises a package that would load code from the Hub; torchao, which transformers loads where it is installed, tells of
kernels that it has not, and by it torch of names that will change."""
_before: list[tuple[int, bool]] = []


def quiet_transformers() -> None:
    """Keep transformers' load reports, bars and advice off the screen, until :func:`restore`."""
    for name in TALKATIVE:
        logger(name).setLevel(ERROR)
    from transformers.utils import logging

    if not _before:
        _before.append((logging.get_verbosity(), logging.is_progress_bar_enabled()))
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def restore() -> None:
    """Let transformers speak as it did before."""
    if _before and "transformers" in sys.modules:
        from transformers.utils import logging

        verbosity, bars = _before.pop()
        logging.set_verbosity(verbosity)
        for name in TALKATIVE:
            logger(name).setLevel(NOTSET)
        if bars:
            logging.enable_progress_bar()
