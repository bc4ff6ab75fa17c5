"""``python -m prefine.cli``."""

import sys

from prefine.cli import main

if __name__ == "__main__":  # worker processes import this file too
    sys.exit(main())
