"""``prefine data dedup``."""

from prefine.api.deduplicating import dedup
from prefine.cli.command import Command, show_written

COMMAND = Command(dedup, show_written)
