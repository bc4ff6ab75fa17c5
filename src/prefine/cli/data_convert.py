"""``prefine data convert``."""

from prefine.api.converting import convert
from prefine.cli.command import Command, show_written

COMMAND = Command(convert, show_written)
