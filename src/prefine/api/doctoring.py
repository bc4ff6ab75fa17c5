"""What went wrong in a run, from its curves, whoever trained it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from prefine.api.calls import call
from prefine.api.progress import Progress
from prefine.api.tables import Shows, Table
from prefine.errors import ConfigError, nearest
from prefine.guard.curves import in_words, read_curves
from prefine.guard.rule import GRADES, SEVERITIES, Finding
from prefine.guard.rules import RULES
from prefine.guard.watch import replay

METHODS = ("dpo", "kto", "sft", "reward", "ppo", "online-dpo")
STYLES = {"act": "bold red", "warn": "yellow", "note": ""}
MOST_ADVICE = 3


@dataclass
class DoctorOptions:
    """Options of ``prefine doctor``."""

    run: str | None = field(
        default=None,
        metadata={
            "help": "A run directory, a trainer_state.json or a folder with checkpoints, a log in JSON lines, a tracker's CSV export, or "
            "TensorBoard's event files (also as the first word)."
        },
    )
    method: str | None = field(default=None, metadata={"help": "dpo, kto, sft, reward, ppo or online-dpo. Unset: seen from the metrics."})
    beta: float | None = field(default=None, metadata={"help": "Beta of the loss, where the log does not tell it. Unset: 0.1."})
    loss_type: list[str] | None = field(default=None, metadata={"help": "The loss, where the log does not tell it."})


@dataclass(repr=False)
class Diagnosis(Shows):
    """What a run's curves show.

    Attributes:
        source: what was read; findings: of the guard's rules, in the order in which the run would have met them.
        table: each curve in words; advice: at most three things to try next, the first first.
    """

    source: str
    findings: Sequence[Finding]
    table: Table
    advice: Sequence[str]
    lines: Sequence[str]

    @property
    def healthy(self) -> bool:
        """Whether nothing was found that is more than a note."""
        return not any(f.severity != "note" for f in self.findings)

    def parts(self) -> list[Any]:
        """What there is to see."""
        rows = [[GRADES[f.severity], str(f.step) if f.step else "start", f.rule, f.text] for f in self.findings]
        styles = [STYLES[f.severity] for f in self.findings]
        found: list[Any] = [Table(["", "step", "rule", "what is seen"], rows, styles=styles)] if rows else []
        return [self.lines[0], self.table, *found, *self.lines[1:]]


@call(DoctorOptions, positional=("run",))
def doctor(given: DoctorOptions, progress: Progress) -> Diagnosis:
    """What went wrong in a training run, from its curves alone: each in words, what the guard's rules find, three things to try next.

    Raises:
        PrefineError: nothing there, or nothing that was logged.
    """
    if not given.run:
        raise ConfigError("doctor needs a RUN: a run directory, a trainer_state.json, a log, or a tracker's export")
    if given.method is not None and given.method not in METHODS:
        raise ConfigError(f"--method is {given.method!r}; expected one of {', '.join(METHODS)}{nearest(given.method, METHODS)}")
    curves = read_curves(given.run, given.method)
    changes: dict[str, Any] = {"beta": given.beta, "loss": tuple(given.loss_type) if given.loss_type else None}
    facts = replace(curves.facts, **{k: v for k, v in changes.items() if v is not None})
    curves = replace(curves, facts=facts)
    findings = _worst_once(replay(facts, curves.rows))
    place = {rule.name: at for at, rule in enumerate(RULES)}
    order = sorted(findings, key=lambda f: (-SEVERITIES.index(f.severity), place[f.rule]))
    advice = list(dict.fromkeys(f.advice for f in order))[:MOST_ADVICE]
    steps = curves.rows[-1]["step"] if curves.rows else 0
    head = f"{given.run}: {curves.source}, {facts.method}, {len(curves.rows)} rows up to step {steps}"
    lines = [head]
    if facts.on_pairs and facts.beta is None:
        lines.append("beta is not in the log: 0.1 is taken; give --beta where it was another")
    if not any(f.severity != "note" for f in findings):
        lines.append("nothing in the curves is wrong. They do not tell whether the responses got better: have them judged (prefine eval)")
    lines += [f"{place}. {text}" for place, text in enumerate(advice, 1)]
    table = Table(["curve", "from, to", "course", "of a healthy run"], [list(row) for row in in_words(curves)])
    return Diagnosis(curves.source, findings, table, advice, lines)


def _worst_once(findings: Sequence[Finding]) -> list[Finding]:
    """Each rule once, at its worst, with the step at which it was first found."""
    out: dict[str, Finding] = {}
    for finding in findings:
        first = out.get(finding.rule)
        out[finding.rule] = finding if first is None else replace(finding, step=first.step)
    return list(out.values())
