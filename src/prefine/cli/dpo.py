"""``prefine dpo``."""

from prefine.api.dpo import dpo
from prefine.cli.command import Command

COMMAND = Command(dpo, lambda run, own, terminal: 0, training="dpo", words=())
