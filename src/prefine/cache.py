"""Where what was worked out once is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$PREFINE_CACHE``, or ``~/.cache/prefine``."""
    return Path(os.environ.get("PREFINE_CACHE") or "~/.cache/prefine").expanduser()
