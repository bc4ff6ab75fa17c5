"""``prefine serve-rollouts MODEL``."""

from prefine.api.serving import serve_rollouts
from prefine.cli.command import Command

COMMAND = Command(serve_rollouts, about="Runs vLLM's server for a policy under training; its rollouts are sampled there.")
