"""``prefine data sample``."""

from prefine.api.drawing import sample
from prefine.cli.command import Command

COMMAND = Command(sample)
