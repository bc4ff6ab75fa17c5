"""``prefine explain CODE``."""

from prefine.api.explaining import explain
from prefine.cli.command import Command

COMMAND = Command(explain, bare=True)
