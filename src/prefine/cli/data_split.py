"""``prefine data split``."""

from prefine.api.splitting import split
from prefine.cli.command import Command, show_written

COMMAND = Command(split, show_written)
