"""``prefine data dedup``."""

from prefine.api.deduplicating import dedup
from prefine.cli.command import Command

COMMAND = Command(dedup)
