"""``prefine merge RUN``."""

from prefine.api.merging import merge
from prefine.cli.command import Command

COMMAND = Command(
    merge,
    about="Folds a run's adapter into its base: a folder that transformers, vLLM and llama.cpp's converter load. Proves it equal first.",
)
