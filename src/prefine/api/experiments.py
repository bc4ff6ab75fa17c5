"""The laboratory's experiments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefine.api.calls import call
from prefine.api.demo import absolute
from prefine.api.progress import Progress
from prefine.api.quiet import quiet_transformers
from prefine.api.tables import Shows, Table
from prefine.cluster import ClusterOptions, Workers
from prefine.errors import ConfigError, nearest

ABOUT = {
    "frontier": "oracle score against KL for DPO, IPO, PPO, SFT on the chosen and best of n, each over its knob",
    "hacking": "a weak reward model without KL, with KL, and as an ensemble's lower bound",
    "ensembles": "PPO against one reward model and against four, under label noise",
    "live": "samples of the base against samples of the policy as it learns",
    "filters": "PPO and SFT with thresholds on the reward",
}


@dataclass
class LabOptions:
    """Options of ``prefine lab``."""

    experiment: str = field(default="", metadata={"help": "Which one (also as the first word)."})
    seed: int = field(default=0, metadata={"help": "First seed."})
    seeds: int | None = field(default=None, metadata={"help": "How many seeds. Unset: the experiment's own, 3 to 5."})
    output_dir: str = field(
        default="runs/lab", metadata={"help": "Where bases, policies and pages are kept; what is there is not done again."}
    )
    only: str | None = field(default=None, metadata={"help": "Only arms whose name has these words."})
    quick: bool = field(default=False, metadata={"help": "A few steps only, to see that everything runs; the figures mean nothing."})


@dataclass(repr=False)
class Found(Shows):
    """What an experiment found: its tables, its page, and what there is to say."""

    tables: Sequence[Table]
    page: Path
    lines: Sequence[str]

    def parts(self) -> list[Any]:
        """What there is to see."""
        return [*self.tables, *self.lines]


def _seed(task: tuple[LabOptions, int], progress: Any = lambda stage, done, total: None) -> Any:
    """An experiment's arms on one seed."""
    from prefine.lab.experiment import Settings
    from prefine.lab.experiments import EXPERIMENTS, run_seed
    from prefine.lab.rlhf import RlhfSettings

    given, seed = task
    settings, own = Settings(seed=seed), RlhfSettings()
    if given.quick:
        settings, own = settings.quick(), own.quick()
    return run_seed(EXPERIMENTS[given.experiment], settings, own, Path(given.output_dir), progress, given.only)


@call(LabOptions, ClusterOptions, positional=("experiment",))
def experiment(given: LabOptions, cluster: ClusterOptions, progress: Progress) -> Found:
    """Run one of the laboratory's experiments, seed by seed: frontier, hacking, ensembles, live or filters. No network, no GPU.

    Raises:
        ConfigError: no such experiment or arm.
    """
    name = given.experiment
    if name not in ABOUT:
        raise ConfigError(f"no experiment {name!r}{nearest(name, ABOUT)}; expected one of {', '.join(ABOUT)}", code="PF-C03")
    if given.seeds is not None and given.seeds < 1:
        raise ConfigError(f"--seeds is {given.seeds}; expected at least 1", code="PF-C03")
    cluster.check_cluster()
    progress.stage("loading libraries")
    from prefine.lab.experiments import EXPERIMENTS
    from prefine.lab.findings import Findings
    from prefine.report.page import picture_file
    from prefine.runs import replace_file, write_json, write_text

    quiet_transformers()
    chosen = EXPERIMENTS[name]
    if given.only is not None and not any(given.only in a.label for a in chosen.arms):
        raise ConfigError(f"no arm has {given.only!r} in its name: {', '.join(a.label for a in chosen.arms)}")
    seeds = range(given.seed, given.seed + (given.seeds or (1 if given.quick else chosen.seeds)))
    found = {}
    if cluster.ray is not None:
        progress.say(f"{name}, seeds {', '.join(map(str, seeds))}, side by side")
        with Workers(cluster, quiet_transformers, (), "a worker of the laboratory was lost (out of memory?)", gpus=True) as pool:
            for seed, measured in zip(seeds, pool.map(_seed, ((given, seed) for seed in seeds)), strict=True):
                found[seed] = measured
                progress.advance("seeds", 1, len(seeds))
        progress.finish()
    else:
        for seed in seeds:
            progress.say(f"{name}, seed {seed}")
            found[seed] = _seed((given, seed), absolute(progress))
            progress.finish()
    findings = Findings(chosen, found)
    tables = []
    # Eighty columns hold less than the page does.
    for head, rows, places in ((findings.HEAD, findings.rows(), (0, 1, 3, 4, 5)), (findings.CLAIMS_HEAD, findings.claims(), (0, 2, 3))):
        if rows:
            shown = [[row[place] for place in places] for row in rows]
            tables.append(Table([head[place] for place in places], shown, numbers=frozenset(range(1, len(places)))))
    part = "".join(f"-{word}" for word in ("quick" * given.quick, "-".join((given.only or "").split())) if word)
    page = Path(given.output_dir) / f"{name}{part}.html"
    write_json(page.with_suffix(".json"), findings.summary())
    replace_file(page, findings.html())
    write_text(page.with_suffix(".svg"), picture_file(findings.picture()))
    lines = [*filter(None, [findings.hacked()]), f"The page is {page}; every policy lies under {given.output_dir}"]
    return Found(tables, page, lines)
