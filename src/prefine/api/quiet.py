"""Libraries that print of themselves, kept quiet: what is worth saying, calls say."""

from __future__ import annotations


def quiet_transformers() -> None:
    """Keep transformers' load reports, bars and advice off the screen."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
