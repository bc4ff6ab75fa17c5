"""``prefine data filter``."""

from prefine.api.filtering import filter_rows
from prefine.cli.command import Command, show_written

COMMAND = Command(filter_rows, show_written)
