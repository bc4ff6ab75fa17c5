"""``prefine demo``: the offline laboratory."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from prefine.cli.options import help_text, options_of, parse
from prefine.runs import RunDirectory


@dataclass
class DemoOptions:
    """Options of ``prefine demo``."""

    seed: int = field(default=0, metadata={"help": "Seed of everything: corpus, model, pairs, sampling."})
    retain: bool = field(default=True, metadata={"help": "Mix arithmetic into DPO's steps; --no-retain shows what happens without."})
    label_flips: float = field(default=0.10, metadata={"help": "Share of preference labels that are wrong."})
    output_dir: str = field(default="runs/demo", metadata={"help": "Run directory; -SEED is added, an older demo there is replaced."})
    rlhf: bool = field(default=False, metadata={"help": "Compare DPO with reward model and PPO, and with online DPO, on several seeds."})
    seeds: int = field(default=3, metadata={"help": "--rlhf: how many seeds, from --seed on."})
    quick: bool = field(default=False, metadata={"help": "A few steps only, to see that everything runs; the verdict means nothing."})


def main(argv: list[str]) -> int:
    """Run the lab and print its table."""
    options = options_of(DemoOptions, "options")
    if "--help" in argv or "-h" in argv:
        print(help_text("demo", "Trains a tiny base model, aligns it by DPO, and says whether it worked. No network, no GPU.", options))
        return 0
    given = DemoOptions(**parse(argv, options))
    if given.rlhf:
        return _rlhf(given, argv)
    import shutil
    from pathlib import Path

    from rich.console import Console

    console = Console()
    console.print("[bold]Prefine's laboratory[/bold]: a help desk in 190 words, a model of 0.4 million parameters, an exact judge.")
    console.print("1 base model by SFT   2 pairs of its own answers, labelled with 10 % mistakes   3 DPO   4 verdict on unseen cases")
    from transformers.utils import logging as transformers_logging

    from prefine.lab.experiment import Settings, run

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    folder = Path(f"{given.output_dir}-{given.seed}{'' if given.retain else '-no-retain'}")
    if (folder / "lab").exists() or (folder / "config.yaml").exists():
        shutil.rmtree(folder)
    directory = RunDirectory.create(folder)
    own = {"command": "demo", "model": str(folder / "base"), "data": str(folder / "pairs.jsonl")}
    directory.write_config(vars(given) | own, ["demo", *argv])
    directory.write_environment()
    settings = Settings(seed=given.seed, retain=given.retain, label_flips=given.label_flips)
    settings = settings.quick() if given.quick else settings
    with bars(console) as progress:
        outcome = run(settings, directory, progress)
    _print_outcome(console, outcome)
    from prefine.report.run_page import write_report

    console.print(f"Everything this run did lies in {folder}; the page is {write_report(directory)}", highlight=False)
    sys.stdout.flush()
    return 0


@contextmanager
def bars(console: Any) -> Iterator[Callable[[str, int, int], None]]:
    """A bar a stage; called with a stage, what is done and what there is."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        tasks: dict[str, TaskID] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield progress


def _rlhf(given: DemoOptions, argv: list[str]) -> int:
    """DPO against RLHF, seed by seed, and a table over seeds."""
    import shutil
    from pathlib import Path

    from rich.console import Console
    from transformers.utils import logging as transformers_logging

    from prefine.lab.experiment import Settings
    from prefine.lab.rlhf import RlhfSettings, compare
    from prefine.report.run_page import write_report
    from prefine.runs import RunDirectory, write_json

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    console = Console()
    own = RlhfSettings().quick() if given.quick else RlhfSettings()
    rows: dict[int, Any] = {}
    whole = Path(f"{given.output_dir}-rlhf")
    for seed in range(given.seed, given.seed + given.seeds):
        folder = whole / f"seed-{seed}"
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        settings = Settings(seed=seed, retain=given.retain, label_flips=given.label_flips)
        with bars(console) as progress:
            rows[seed] = compare(settings.quick() if given.quick else settings, own, folder, progress)
        for tried in rows[seed]:
            console.print(f"seed {seed}, {tried.method}: {tried.outcome.verdict.sentence}", highlight=False)
            write_report(RunDirectory(folder / tried.method.lower().replace(" ", "-")))
    _print_comparison(console, rows)
    numbers = [
        {"seed": seed, "method": t.method, "seconds": t.seconds, "tokens_sampled": t.tokens_sampled, "tokens_trained": t.tokens_trained}
        | {"peak_bytes": t.peak_bytes, "weights": t.weights, "settings": t.settings}
        | {"gold": t.outcome.gold_tuned, "kl_nats": t.outcome.kl_nats, **t.outcome.verdict.summary()}
        for seed, tried in rows.items()
        for t in tried
    ]
    write_json(whole / "comparison.json", numbers)
    console.print(f"Everything lies in {whole}; prefine compare and prefine report read its runs", highlight=False)
    return 0


def _print_comparison(console: Any, rows: dict[int, Any]) -> None:
    from statistics import mean, stdev

    from rich.table import Table

    from prefine.lab.findings import over_seeds

    methods = [t.method for t in next(iter(rows.values()))]
    by_method = {m: [next(t for t in tried if t.method == m) for tried in rows.values()] for m in methods}
    table = Table(title=f"seeds {', '.join(map(str, rows))}: one base and the same noisy pairs for all methods of a seed")
    for name in ("", *methods):
        table.add_column(name, justify="right" if name else "left")

    def line(label: str, cell: Callable[[list[Any]], str]) -> None:
        table.add_row(label, *(cell(by_method[m]) for m in methods))

    for i, seed in enumerate(rows):
        line(f"gold win rate over the base, seed {seed}", lambda ts, i=i: ts[i].outcome.verdict.win_rate.percent())  # type: ignore[misc]
    rates = {m: [100 * t.outcome.verdict.win_rate.estimate for t in ts] for m, ts in by_method.items()}
    if len(rows) > 1:
        whole = {m: over_seeds(r) for m, r in rates.items()}
        table.add_row("  mean over seeds [95 %]", *(f"{w.estimate:.1f} % [{w.low:.1f}, {w.high:.1f}]" for w in whole.values()))
        table.add_row("  spread between seeds", *(f"{stdev(rates[m]):.1f}" for m in methods))
    line("gold score", lambda ts: f"{mean(t.outcome.gold_tuned['score'] for t in ts):.3f}")
    line("arithmetic, facts trained on", lambda ts: f"{100 * mean(t.outcome.verdict.skills[0].after for t in ts):.1f} %")
    line("KL to base (nats a reply)", lambda ts: f"{mean(t.outcome.kl_nats for t in ts):.2f}")
    line("seconds", lambda ts: f"{mean(t.seconds for t in ts):.0f}")
    line("tokens sampled", lambda ts: f"{mean(t.tokens_sampled for t in ts):,.0f}")
    line("tokens trained on", lambda ts: f"{mean(t.tokens_trained for t in ts):,.0f}")
    line("peak memory of the process (MiB)", lambda ts: f"{mean(t.peak_bytes for t in ts) / 2**20:,.0f}")
    line("weights held", lambda ts: f"{ts[0].weights:,}")
    line("settings given", lambda ts: str(ts[0].settings))
    console.print(table)


def _print_outcome(console: Any, outcome: Any) -> None:
    from rich.table import Table

    table = Table(title=f"Seed {outcome.settings.seed}: base against DPO on device-problem combinations never trained on")
    for name in ("", "base", "DPO"):
        table.add_column(name, justify="left" if not name else "right")
    before, after, change = outcome.gold_base, outcome.gold_tuned, outcome.gold_change
    table.add_row("gold score (0 to 1)", f"{before['score']:.3f}", f"{after['score']:.3f}")
    table.add_row("  change, 95 % interval", "", f"{change.estimate:+.3f} [{change.low:+.3f}, {change.high:+.3f}]")
    for part, label in (("fix", "right fix"), ("device", "right device"), ("apology", "apologises"), ("rude", "rude")):
        table.add_row(f"  {label}", f"{100 * before[part]:.1f} %", f"{100 * after[part]:.1f} %")
    table.add_row("  extra sentences", f"{before['extras']:.2f}", f"{after['extras']:.2f}")
    table.add_row("  garbage sentences", f"{before['garbage']:.2f}", f"{after['garbage']:.2f}")
    table.add_row("win rate over base", "50 %", outcome.verdict.win_rate.percent())
    skill = outcome.verdict.skills[0]
    table.add_row("arithmetic, facts trained on", f"{100 * skill.before:.1f} %", f"{100 * skill.after:.1f} %")
    held = outcome.facts_held_out
    table.add_row("arithmetic, facts held out", f"{100 * held[0]:.1f} %", f"{100 * held[1]:.1f} %")
    table.add_row("reply length (words)", f"{outcome.length_words[0]:.1f}", f"{outcome.length_words[1]:.1f}")
    table.add_row("KL to base (nats a reply)", "0", f"{outcome.kl_nats:.2f}")
    table.add_row("seconds: " + ", ".join(outcome.seconds), "", ", ".join(f"{s:.0f}" for s in outcome.seconds.values()))
    console.print(table)
    for prompt, base, tuned in outcome.samples:
        console.print(f"\nuser: {prompt}\nbase: {base}\nDPO:  {tuned}", highlight=False, markup=False)
    console.print(f"\n[bold]{outcome.verdict.sentence}[/bold]", highlight=False)
