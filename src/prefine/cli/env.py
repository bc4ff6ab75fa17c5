"""``prefine env``."""

from prefine.api.environment import environment
from prefine.cli.command import Command

COMMAND = Command(environment, bare=True)
