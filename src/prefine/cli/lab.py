"""``prefine lab``: the laboratory's experiments."""

from __future__ import annotations

from dataclasses import dataclass, field

from prefine.cli.options import help_text, options_of, parse
from prefine.errors import ConfigError, nearest

ABOUT = {
    "frontier": "gold against KL for DPO, IPO, PPO, SFT on the chosen and best of n, each over its knob",
    "hacking": "a weak reward model without KL, with KL, and as an ensemble's lower bound",
    "ensembles": "PPO against one reward model and against four, under label noise",
    "live": "samples of the base against samples of the policy as it learns",
    "filters": "PPO and SFT with thresholds on the reward",
}


@dataclass
class LabOptions:
    """Options of ``prefine lab``."""

    seed: int = field(default=0, metadata={"help": "First seed."})
    seeds: int | None = field(default=None, metadata={"help": "How many seeds. Unset: the experiment's own, 3 to 5."})
    output_dir: str = field(
        default="runs/lab", metadata={"help": "Where bases, policies and pages are kept; what is there is not done again."}
    )
    only: str | None = field(default=None, metadata={"help": "Only arms whose name has these words."})
    quick: bool = field(default=False, metadata={"help": "A few steps only, to see that everything runs; the figures mean nothing."})


def main(argv: list[str]) -> int:
    """Run an experiment and show what it found."""
    options = options_of(LabOptions, "options")
    if not argv or "--help" in argv or "-h" in argv:
        names = "\n".join(f"  {name:<10} {about}" for name, about in ABOUT.items())
        about = f"Runs one of the laboratory's experiments, seed by seed. No network, no GPU.\n\n{names}"
        print(help_text("lab EXPERIMENT", about, options))
        return 0
    words = parse(argv, options, ("experiment",))
    name = str(words.pop("experiment", ""))
    if name not in ABOUT:
        raise ConfigError(f"no experiment {name!r}{nearest(name, ABOUT)}; expected one of {', '.join(ABOUT)}")
    given = LabOptions(**words)
    if given.seeds is not None and given.seeds < 1:
        raise ConfigError(f"--seeds is {given.seeds}; expected at least 1")
    from pathlib import Path

    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from transformers.utils import logging as transformers_logging

    from prefine.cli.demo import bars
    from prefine.lab.experiment import Settings
    from prefine.lab.experiments import EXPERIMENTS, run_seed
    from prefine.lab.findings import Findings
    from prefine.lab.rlhf import RlhfSettings
    from prefine.report.page import picture_file
    from prefine.runs import write_json, write_text

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    console = Console()
    experiment = EXPERIMENTS[name]
    if given.only is not None and not any(given.only in a.label for a in experiment.arms):
        raise ConfigError(f"no arm has {given.only!r} in its name: {', '.join(a.label for a in experiment.arms)}")
    found = {}
    for seed in range(given.seed, given.seed + (given.seeds or (1 if given.quick else experiment.seeds))):
        settings, own = Settings(seed=seed), RlhfSettings()
        if given.quick:
            settings, own = settings.quick(), own.quick()
        console.print(f"[bold]{name}, seed {seed}[/bold]")
        with bars(console) as progress:
            found[seed] = run_seed(experiment, settings, own, Path(given.output_dir), progress, given.only)
    findings = Findings(experiment, found)
    # Eighty columns hold less than the page does.
    for head, rows, places in ((findings.HEAD, findings.rows(), (0, 1, 3, 4, 5)), (findings.CLAIMS_HEAD, findings.claims(), (0, 2, 3))):
        shown = Table(box=SIMPLE)
        for place in places:
            shown.add_column(head[place], justify="right" if place else "left", min_width=0 if place else 28)
        for row in rows:
            shown.add_row(*(row[place] for place in places))
        if rows:
            console.print(shown)
    if findings.hacked():
        console.print(findings.hacked(), highlight=False)
    part = "".join(f"-{word}" for word in ("quick" * given.quick, "-".join((given.only or "").split())) if word)
    page = Path(given.output_dir) / f"{name}{part}.html"
    write_json(page.with_suffix(".json"), findings.summary())
    write_text(page, findings.html())
    write_text(page.with_suffix(".svg"), picture_file(findings.picture()))
    console.print(f"The page is {page}; every policy lies under {given.output_dir}", highlight=False)
    return 0
