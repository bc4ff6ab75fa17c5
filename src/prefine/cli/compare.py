"""``prefine compare RUN RUN ...``."""

from prefine.api.comparing import compare
from prefine.cli.command import Command

COMMAND = Command(
    compare,
    about="Shows runs side by side: settings that differ, win rates over the base, skills, drift; and paired differences on the prompts "
    "that both were judged on by the same judge.",
)
