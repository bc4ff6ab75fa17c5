"""``prefine kto``."""

from prefine.api.dpo import kto
from prefine.cli.command import Command

COMMAND = Command(kto, lambda run, own, terminal: 0, training="kto", words=())
