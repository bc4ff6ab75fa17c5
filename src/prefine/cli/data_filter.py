"""``prefine data filter``."""

from prefine.api.filtering import filter_rows
from prefine.cli.command import Command

COMMAND = Command(filter_rows)
