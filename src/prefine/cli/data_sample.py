"""``prefine data sample``."""

from prefine.api.drawing import sample
from prefine.cli.command import Command, show_written

COMMAND = Command(sample, show_written)
