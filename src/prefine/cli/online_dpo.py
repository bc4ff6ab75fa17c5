"""``prefine online-dpo``."""

from prefine.api.sampling import online_dpo
from prefine.cli.command import Command

COMMAND = Command(online_dpo, lambda run, own, terminal: 0, training="online-dpo", words=())
