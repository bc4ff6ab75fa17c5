"""The offline laboratory, start to verdict; its comparison of DPO with RLHF; and the same on a real chat model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefine.api.calls import call
from prefine.api.options import as_flags
from prefine.api.progress import Progress
from prefine.api.quiet import quiet_transformers
from prefine.api.run import Run
from prefine.api.tables import Shows, Table
from prefine.errors import ConfigError
from prefine.runs import RunDirectory, write_json


@dataclass
class DemoOptions:
    """Options of ``prefine demo``."""

    seed: int = field(default=0, metadata={"help": "Seed of everything: corpus, model, pairs, sampling."})
    retain: bool = field(default=True, metadata={"help": "Mix arithmetic into DPO's steps; --no-retain shows what happens without."})
    label_flips: float = field(default=0.10, metadata={"help": "Share of preference labels that are wrong."})
    output_dir: str = field(default="runs/demo", metadata={"help": "Run directory; -SEED is added, an older demo there is replaced."})
    rlhf: bool = field(default=False, metadata={"help": "Compare DPO with reward model and PPO, and with online DPO, on several seeds."})
    real: bool = field(
        default=False,
        metadata={
            "help": "On a real chat model, SmolLM2-135M-Instruct from a PyPI package (prefine[real]): a quarter of an hour on two cores."
        },
    )
    seeds: int | None = field(default=None, metadata={"help": "--rlhf, --real: how many seeds, from --seed on. Unset: 3, and 1."})
    quick: bool = field(default=False, metadata={"help": "A few steps only, to see that everything runs; the verdict means nothing."})


@dataclass(repr=False)
class Demo(Shows):
    """What the laboratory found.

    Attributes:
        folder: where everything lies; table: base against tuned, or the methods side by side; samples: prompt, base, tuned.
        runs: run directories of a real model's seeds.
    """

    folder: Path
    table: Table
    samples: Sequence[tuple[str, str, str]]
    lines: Sequence[str]
    runs: Sequence[Path] = ()

    @property
    def run(self) -> Run:
        """The run directory as an object, of several seeds the last one's; of a comparison, the runs lie in ``folder``.

        Raises:
            MissingFile: several methods were compared.
        """
        return Run(self.runs[-1] if self.runs else self.folder)

    def parts(self) -> list[Any]:
        """What there is to see."""
        return [self.table, *self.lines]


@call(DemoOptions)
def demo(given: DemoOptions, progress: Progress) -> Demo:
    """Train a tiny base model, align it by DPO, and say whether it worked. No network, no GPU.

    Raises:
        PrefineError: options that contradict each other, a folder that cannot be written.
    """
    _check(given)
    if given.rlhf:
        return _rlhf(given, progress)
    if given.real:
        return _real(given, progress)
    progress.say(
        [
            "Prefine's laboratory: a help desk in 190 words, a model of 0.4 million parameters, an oracle judge.",
            "1 base model by SFT   2 pairs of its own responses, labelled with 10 % mistakes   3 DPO   4 verdict on unseen cases",
        ]
    )
    progress.stage("loading libraries")
    from prefine.lab.experiment import Settings, run
    from prefine.report.run_page import write_report

    quiet_transformers()
    folder = Path(f"{given.output_dir}-{given.seed}{'' if given.retain else '-no-retain'}")
    if (folder / "lab").exists() or (folder / "config.yaml").exists():
        shutil.rmtree(folder)
    directory = RunDirectory.create(folder)
    own = {"command": "demo", "model": str(folder / "base"), "data": str(folder / "pairs.jsonl")}
    changed = {k: v for k, v in vars(given).items() if v != getattr(DemoOptions, k)}
    directory.write_config(vars(given) | own, as_flags("demo", changed))
    directory.write_environment()
    settings = Settings(seed=given.seed, retain=given.retain, label_flips=given.label_flips)
    outcome = run(settings.quick() if given.quick else settings, directory, absolute(progress))
    lines = [outcome.verdict.sentence, f"Everything this run did lies in {folder}; the page is {write_report(directory)}"]
    return Demo(folder, _outcome_table(outcome), [(str(p), str(b), str(t)) for p, b, t in outcome.samples], lines)


def _check(given: DemoOptions) -> None:
    """Refuse what would be ignored."""
    if given.rlhf and given.real:
        raise ConfigError("--rlhf and --real are two demos; leave one of the two out")
    if given.seeds is not None and not (given.rlhf or given.real):
        raise ConfigError("--seeds would be ignored without --rlhf or --real", code="PF-C04")
    if given.seeds is not None and given.seeds < 1:
        raise ConfigError(f"--seeds is {given.seeds}; expected at least 1", code="PF-C03")
    for name in ("retain", "label_flips") if given.real else ():
        if getattr(given, name) != getattr(DemoOptions, name):
            raise ConfigError(f"--{name.replace('_', '-')} would be ignored: it belongs to the laboratory, not to --real", code="PF-C04")


def _real(given: DemoOptions, progress: Progress) -> Demo:
    """A real chat model, seed by seed."""
    from prefine.api.real_demo import Sizes, not_learnt, real_demo, table

    progress.say("SmolLM2-135M-Instruct: its own responses to prompts with constraints that a program checks; DPO with LoRA; a verdict.")
    folder = Path(f"{given.output_dir}-real{'-quick' * given.quick}")
    seeds = range(given.seed, given.seed + (given.seeds or 1))
    found = real_demo(Sizes().quick() if given.quick else Sizes(), seeds, folder, progress)
    lines = [f"seed {f['seed']}: {f['constraints']['sentence']}" for f in found]
    if missed := not_learnt(found):
        lines.append(f"{', '.join(missed)}: hardly ever met by the base, so hardly any pairs show it; DPO learns from what is sampled")
    lines.append(f"Everything lies in {folder}: a folder a seed, with prompts, pairs and the run that prefine eval and prefine chat take;")
    lines.append(f"its page is {folder}/seed-{found[-1]['seed']}/dpo/report.html; seeds that are done there are read, not done again")
    return Demo(folder, table(found), found[-1]["samples"], lines, [folder / f"seed-{f['seed']}" / "dpo" for f in found])


def absolute(progress: Progress) -> Callable[[str, int, int], None]:
    """Progress as the laboratory tells it: a stage, what of it is done in all, and what there is."""
    done: dict[str, int] = {}

    def at(stage: str, now: int, total: int) -> None:
        progress.advance(stage, now - done.get(stage, 0), total)
        done[stage] = now

    return at


def _rlhf(given: DemoOptions, progress: Progress) -> Demo:
    """DPO against RLHF, seed by seed, and a table over seeds."""
    progress.stage("loading libraries")
    from prefine.lab.experiment import Settings
    from prefine.lab.rlhf import RlhfSettings, compare
    from prefine.report.run_page import write_report

    quiet_transformers()
    own = RlhfSettings().quick() if given.quick else RlhfSettings()
    rows: dict[int, Any] = {}
    whole = Path(f"{given.output_dir}-rlhf")
    for seed in range(given.seed, given.seed + (given.seeds or 3)):
        folder = whole / f"seed-{seed}"
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        settings = Settings(seed=seed, retain=given.retain, label_flips=given.label_flips)
        rows[seed] = compare(settings.quick() if given.quick else settings, own, folder, absolute(progress))
        progress.finish()
        progress.say([f"seed {seed}, {tried.method}: {tried.outcome.verdict.sentence}" for tried in rows[seed]])
        for tried in rows[seed]:
            write_report(RunDirectory(folder / tried.method.lower().replace(" ", "-")))
    numbers = [
        {"seed": seed, "method": t.method, "seconds": t.seconds, "tokens_sampled": t.tokens_sampled, "tokens_trained": t.tokens_trained}
        | {"peak_bytes": t.peak_bytes, "weights": t.weights, "settings": t.settings}
        | {"gold": t.outcome.gold_tuned, "kl_nats": t.outcome.kl_nats, **t.outcome.verdict.summary()}
        for seed, tried in rows.items()
        for t in tried
    ]
    write_json(whole / "comparison.json", numbers)
    lines = [f"Everything lies in {whole}; prefine compare and prefine report read its runs"]
    return Demo(whole, _comparison_table(rows), (), lines)


def _comparison_table(rows: Mapping[int, Any]) -> Table:
    from statistics import mean, stdev

    from prefine.lab.findings import over_seeds

    methods = [t.method for t in next(iter(rows.values()))]
    by_method = {m: [next(t for t in tried if t.method == m) for tried in rows.values()] for m in methods}
    out: list[list[str]] = []

    def line(label: str, cell: Callable[[list[Any]], str]) -> None:
        out.append([label, *(cell(by_method[m]) for m in methods)])

    for i, seed in enumerate(rows):
        line(f"oracle win rate over the base, seed {seed}", lambda ts, i=i: ts[i].outcome.verdict.win_rate.percent())  # type: ignore[misc]
    rates = {m: [100 * t.outcome.verdict.win_rate.estimate for t in ts] for m, ts in by_method.items()}
    if len(rows) > 1:
        whole = {m: over_seeds(r) for m, r in rates.items()}
        out.append(["  mean over seeds [95 % CI]", *(f"{w.estimate:.1f} % [{w.low:.1f}, {w.high:.1f}]" for w in whole.values())])
        out.append(["  spread between seeds", *(f"{stdev(rates[m]):.1f}" for m in methods)])
    line("oracle score", lambda ts: f"{mean(t.outcome.gold_tuned['score'] for t in ts):.3f}")
    line("arithmetic, facts trained on", lambda ts: f"{100 * mean(t.outcome.verdict.skills[0].after for t in ts):.1f} %")
    line("KL to base (nats/response)", lambda ts: f"{mean(t.outcome.kl_nats for t in ts):.2f}")
    line("seconds", lambda ts: f"{mean(t.seconds for t in ts):.0f}")
    line("tokens sampled", lambda ts: f"{mean(t.tokens_sampled for t in ts):,.0f}")
    line("tokens trained on", lambda ts: f"{mean(t.tokens_trained for t in ts):,.0f}")
    line("peak memory of the process (MiB)", lambda ts: f"{mean(t.peak_bytes for t in ts) / 2**20:,.0f}")
    line("weights held", lambda ts: f"{ts[0].weights:,}")
    line("settings given", lambda ts: str(ts[0].settings))
    title = f"seeds {', '.join(map(str, rows))}: one base and the same noisy pairs for all methods of a seed"
    return Table(["", *methods], out, title, numbers=frozenset(range(1, 1 + len(methods))))


def _outcome_table(outcome: Any) -> Table:
    before, after, change = outcome.gold_base, outcome.gold_tuned, outcome.gold_change
    rows = [
        ["oracle score (0 to 1)", f"{before['score']:.3f}", f"{after['score']:.3f}"],
        ["  change, 95 % CI", "", f"{change.estimate:+.3f} [{change.low:+.3f}, {change.high:+.3f}]"],
    ]
    for part, label in (("fix", "right fix"), ("device", "right device"), ("apology", "apologises"), ("rude", "rude")):
        rows.append([f"  {label}", f"{100 * before[part]:.1f} %", f"{100 * after[part]:.1f} %"])
    skill, held = outcome.verdict.skills[0], outcome.facts_held_out
    rows += [
        ["  extra sentences", f"{before['extras']:.2f}", f"{after['extras']:.2f}"],
        ["  garbage sentences", f"{before['garbage']:.2f}", f"{after['garbage']:.2f}"],
        ["win rate over base", "50 %", outcome.verdict.win_rate.percent()],
        ["arithmetic, facts trained on", f"{100 * skill.before:.1f} %", f"{100 * skill.after:.1f} %"],
        ["arithmetic, facts held out", f"{100 * held[0]:.1f} %", f"{100 * held[1]:.1f} %"],
        ["response length (words)", f"{outcome.length_words[0]:.1f}", f"{outcome.length_words[1]:.1f}"],
        ["KL to base (nats/response)", "0", f"{outcome.kl_nats:.2f}"],
        ["seconds: " + ", ".join(outcome.seconds), "", ", ".join(f"{s:.0f}" for s in outcome.seconds.values())],
    ]
    title = f"Seed {outcome.settings.seed}: base against DPO on device-problem combinations never trained on"
    return Table(["", "base", "DPO"], rows, title, numbers=frozenset({1, 2}))
