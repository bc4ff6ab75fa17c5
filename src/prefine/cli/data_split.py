"""``prefine data split``."""

from prefine.api.splitting import split
from prefine.cli.command import Command

COMMAND = Command(split)
