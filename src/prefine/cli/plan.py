"""``prefine plan METHOD``."""

from prefine.api.planning import plan
from prefine.cli.command import Command

COMMAND = Command(plan, training="plan", words=("method",))
