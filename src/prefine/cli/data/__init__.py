"""``prefine data``: look at, check, convert, split and thin out preference data."""

from __future__ import annotations

from prefine.errors import ConfigError, nearest

COMMANDS = {
    "show": "format, counts, what would be dropped, a few pairs",
    "audit": "find what will hurt: lengths, labels, shortcuts, duplicates, content",
    "convert": "to the canonical form, as JSON lines or Parquet",
    "split": "into training and evaluation parts, never the same prompt on both sides",
    "dedup": "without duplicates, exact or near",
    "filter": "without rows that a check of the audit finds",
    "sample": "a seeded part",
}


def usage() -> str:
    """The text of ``prefine data --help``."""
    lines = [f"  {name:<8} {text}" for name, text in COMMANDS.items()]
    return "usage: prefine data COMMAND SOURCE [OPTIONS]\n\n" + "\n".join(lines) + "\n\nprefine data COMMAND --help lists its options."


def main(argv: list[str]) -> int:
    """Run one of the commands."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv[0] not in COMMANDS:
        raise ConfigError(f"no command 'data {argv[0]}'{nearest(argv[0], COMMANDS)} Commands: {', '.join(COMMANDS)}")
    import importlib

    return int(importlib.import_module(f"prefine.cli.data.{argv[0]}").main(argv[1:]))
