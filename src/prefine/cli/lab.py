"""``prefine lab EXPERIMENT``."""

from prefine.api.experiments import ABOUT, experiment
from prefine.cli.command import Command

NAMES = "; ".join(f"{name}: {about}" for name, about in ABOUT.items())
COMMAND = Command(experiment, about=f"Runs one of the laboratory's experiments, seed by seed. No network, no GPU. {NAMES}.")
