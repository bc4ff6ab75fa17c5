"""``prefine reward``."""

from prefine.api.reward import reward
from prefine.cli.command import Command

COMMAND = Command(reward, lambda run, own, terminal: 0, training="reward", words=())
