"""``prefine doctor RUN``."""

from prefine.api.doctoring import doctor
from prefine.cli.command import Command

COMMAND = Command(doctor)
