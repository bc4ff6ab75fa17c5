"""``prefine judge --verdicts FILE``: recount verdicts that lie on disk, from any judge."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefine.cli.options import help_text, options_of, parse
from prefine.errors import ConfigError, printable
from prefine.evaluation.bradley_terry import Game, ratings
from prefine.evaluation.count import Count, count
from prefine.evaluation.interval import paired_difference
from prefine.evaluation.verdict_files import VerdictFile, match, read_verdicts
from prefine.runs import write_json

ABOUT = "Counts verdicts: AlpacaEval's annotations, Arena-Hard's and MT-Bench's pair judgments, or our own. Several files are compared."
REQUIRED = ("better", "not worse")


@dataclass
class JudgeOptions:
    """Options of ``prefine judge``."""

    verdicts: list[str] | None = field(default=None, metadata={"help": "Files of verdicts (also as the first words)."})
    output: str | None = field(default=None, metadata={"help": "File for the numbers as JSON."})
    require: str | None = field(default=None, metadata={"help": "Exit with 1 unless every file's verdict is: better, or 'not worse'."})


def main(argv: list[str]) -> int:
    """Count, compare, print."""
    options = options_of(JudgeOptions, "options")
    if not argv or "--help" in argv or "-h" in argv:
        print(help_text("judge --verdicts FILE ...", ABOUT, options))
        return 0
    rest: list[str] = []
    given = JudgeOptions(**parse(argv, options, rest=rest))
    sources = [*rest, *(given.verdicts or [])]
    if not sources:
        raise ConfigError("judge needs files of verdicts: --verdicts FILE ...")
    if given.require is not None and given.require not in REQUIRED:
        raise ConfigError(f"--require is {given.require!r}; expected {' or '.join(map(repr, REQUIRED))}")
    files = [read_verdicts(source) for source in sources]
    counts = [count(file) for file in files]
    for found in counts:
        _print(found)
    differences = [_difference(files[0], other) for other in files[1:]]
    for line in (d["sentence"] for d in differences):
        print(printable(line))
    table = _ratings(files) if len(files) > 1 else []
    if given.output:
        Path(given.output).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(given.output), {"files": [c.summary() for c in counts], "differences": differences, "ratings": table})
    outcomes = {c.verdict.outcome for c in counts}
    failed = {"better": outcomes != {"better"}, "not worse": "worse" in outcomes}
    return int(given.require is not None and failed[given.require])


def _print(found: Count) -> None:
    lines = [
        f"{found.source}: {found.verdict.sentence}",
        f"  {found.wins} wins, {found.losses} losses, {found.draws} draws, {found.failures} failures; "
        f"standard error {100 * found.standard_error:.2f} points; "
        f"rounded to win or loss {100 * found.discrete:.2f} %; sign test p = {found.p_value:.2g}",
    ]
    if found.verdict.outcome == "not shown" and found.needed is not None:
        more = found.needed - found.verdict.win_rate.clusters
        if more > 0:
            lines.append(f"  {more:,} more prompts would tell {100 * found.verdict.win_rate.estimate:.1f} % from 50 % (power 80 %)")
    if found.at_equal_length is not None:
        lines.append(f"  at equal length {found.at_equal_length.percent()} (length alone, not AlpacaEval's length-controlled rate)")
    quality = found.quality
    for interval, text in (
        (quality.longer_wins, "the longer answer wins"),
        (quality.first_wins, "the answer shown first wins"),
        (quality.flips, "verdicts flip with the order in"),
    ):
        if interval is not None:
            lines.append(f"  judge: {text} {interval.percent()}")
    print(printable("\n".join(lines)))


def _difference(first: VerdictFile, second: VerdictFile) -> dict[str, Any]:
    """The second file's model against the first's, item by item; both must have been judged against one baseline."""
    if first.models[0] != second.models[0]:
        raise ConfigError(f"{second.source} judges against {second.models[0]}, {first.source} against {first.models[0]}; give one baseline")
    before, after, clusters, unmatched = match(first.judged, second.judged)
    if not before:
        raise ConfigError(f"{second.source} and {first.source} have no prompt in common")
    change = paired_difference(after, before, clusters)
    sentence = (
        f"{second.models[1]} against {first.models[1]}: {100 * change.estimate:+.2f} points "
        f"[{100 * change.low:+.2f}, {100 * change.high:+.2f}] on {change.count} prompts that both have; {unmatched} have only one"
    )
    return {"models": [first.models[1], second.models[1]], **vars(change), "unmatched": unmatched, "sentence": sentence}


def _ratings(files: list[VerdictFile]) -> list[dict[str, Any]]:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    found = ratings([Game(f.models[0], f.models[1], j.win, j.cluster) for f in files for j in f.judged])
    table = Table(title="Bradley-Terry ratings (400 points: ten times the odds)")
    for name in ("model", "rating", "95 % interval"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for r in found:
        table.add_row(Text(printable(r.model)), f"{r.rating:.0f}", f"[{r.low:.0f}, {r.high:.0f}]")
    Console().print(table)
    return [vars(r) for r in found]
