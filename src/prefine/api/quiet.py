"""Libraries that print of themselves, kept quiet while a call runs: what is worth saying, calls say."""

from __future__ import annotations

import sys
from logging import ERROR, NOTSET
from logging import getLogger as logger

_before: list[tuple[int, bool]] = []


def quiet_transformers() -> None:
    """Keep transformers' load reports, bars and advice off the screen, until :func:`restore`."""
    from transformers.utils import logging

    if not _before:
        _before.append((logging.get_verbosity(), logging.is_progress_bar_enabled()))
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    logger("bitsandbytes").setLevel(ERROR)  # it advises a package that would load code from the Hub


def restore() -> None:
    """Let transformers speak as it did before."""
    if _before and "transformers" in sys.modules:
        from transformers.utils import logging

        verbosity, bars = _before.pop()
        logging.set_verbosity(verbosity)
        logger("bitsandbytes").setLevel(NOTSET)
        if bars:
            logging.enable_progress_bar()
