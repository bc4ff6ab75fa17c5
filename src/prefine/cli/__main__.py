"""``python -m prefine.cli``."""

import sys

from prefine.cli import main

sys.exit(main())
