"""``prefine tune``."""

from prefine.api.tuning import tune
from prefine.cli.command import Command

COMMAND = Command(tune, training="tune", words=())
