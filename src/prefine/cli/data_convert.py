"""``prefine data convert``."""

from prefine.api.converting import convert
from prefine.cli.command import Command

COMMAND = Command(convert)
