"""``prefine ppo``."""

from prefine.api.sampling import ppo
from prefine.cli.command import Command

COMMAND = Command(ppo, lambda run, own, terminal: 0, training="ppo", words=())
