"""``prefine sft``."""

from prefine.api.sft import sft
from prefine.cli.command import Command

COMMAND = Command(sft, lambda run, own, terminal: 0, training="sft", words=())
