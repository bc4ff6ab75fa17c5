"""``prefine data audit``: find what will hurt, before it is trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefine.audit.audit import GRADES, Audit, Limits, audit
from prefine.audit.check import CHECKS, POLICY_CHECKS, ROW_CHECKS, SET_CHECKS, TOKEN_CHECKS
from prefine.cli.data.reading import SourceOptions, read_options
from prefine.errors import ConfigError, nearest, printable
from prefine.packing.encoding import Encoder
from prefine.preferences.convert import PairSource
from prefine.preferences.records import plain_text

ABOUT = "One pass over preference data; says what must be fixed, what to look at, what is fine."
PROMPT_COLUMNS = ("instruction", "prompt", "question")
STYLE = {"fix": "bold red", "look": "yellow", "fine": "green"}


@dataclass
class AuditOptions(SourceOptions):
    """Options of ``prefine data audit``."""

    model: str | None = field(default=None, metadata={"help": "Model whose tokenizer and template count tokens: a folder or a Hub id."})
    max_length: int | None = field(default=1024, metadata={"help": "Most tokens of prompt + completion that training would allow."})
    max_prompt_length: int | None = field(default=None, metadata={"help": "Most tokens of the prompt."})
    truncation_mode: str = field(default="keep_start", metadata={"help": "keep_start, keep_end or drop, as in training."})
    chat_template_kwargs: str | None = field(
        default=None, metadata={"help": "What the chat template is given beside the messages: enable_thinking=false."}
    )
    eval_data: list[str] | None = field(default=None, metadata={"help": "Evaluation data whose prompts must not be among these."})
    against: list[str] | None = field(default=None, metadata={"help": "Prompt files of benchmarks (MT-Bench, AlpacaEval) to look for."})
    near: bool = field(default=True, metadata={"help": "Look for near duplicates; --no-near is faster."})
    policy: bool = field(default=False, metadata={"help": "Score a sample under the model (loads it): is the data far from what it says?"})
    output: str | None = field(default=None, metadata={"help": "File for the findings as JSON (data.json)."})
    html: str | None = field(default=None, metadata={"help": "File for the findings as a page with plots; opens with no network."})
    processes: int | None = field(default=None, metadata={"help": "Worker processes. Unset: one a core."})
    strict: bool = field(default=False, metadata={"help": "Exit with 1 when something must be fixed: for CI."})
    explain: str | None = field(default=None, metadata={"help": "Say what a check sees, why it matters, an example and the fix."})


def main(argv: list[str]) -> int:
    """Audit, print the table, write the findings."""
    given = read_options(AuditOptions, "audit", ABOUT, argv)
    if given is None:
        return 0
    if given.explain is not None:
        return _explain(given.explain)
    if given.policy and not given.model:
        raise ConfigError("--policy scores answers under a model: give --model")
    found = run(given)
    _print(found)
    if given.output:
        from prefine.runs import write_json

        write_json(Path(given.output), found.summary())
        print(f"findings written to {given.output}")
    if given.html:
        from prefine.report.audit_section import audit_section
        from prefine.report.page import page
        from prefine.runs import write_text

        explain = {check.name: (check.why, check.fix) for check in CHECKS.values()}
        write_text(Path(given.html), page(f"Audit of {found.source}", audit_section(found.summary(), explain)))
        print(f"page written to {given.html}")
    return 1 if given.strict and found.grade == "fix" else 0


def run(given: AuditOptions) -> Audit:
    """The audit that the options ask for."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    limits = Limits(given.max_length, given.max_prompt_length, given.truncation_mode)
    Encoder(None, given.max_length, given.max_prompt_length, given.truncation_mode)  # checks them
    if given.processes is not None and given.processes < 1:
        raise ConfigError(f"--processes is {given.processes}; expected at least 1")
    for name in filter(None, (given.output, given.html)):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
    tokenization = None
    if given.model:
        from prefine.audit.workers import Tokenization
        from prefine.scoring.loading import load_tokenizer

        tokenization = Tokenization.of(load_tokenizer(given.model, template_kwargs=given.chat_template_kwargs), _common_from(limits))
    against = [(name, prompts_of(name)) for name in given.against or []]
    for source in given.eval_data or []:
        against.append((source, [plain_text(p.prompt) for p in PairSource(source, given.reading())]))
    columns = (TextColumn("reading"), BarColumn(), TextColumn("{task.completed} rows"), TimeElapsedColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=None)
        found = audit(
            given.sources,
            given.reading(),
            tokenization,
            limits,
            against,
            given.near,
            given.processes,
            lambda rows: bar.advance(task, rows),
        )
    if given.policy:
        from prefine.audit.policy import off_policy

        assert given.model
        found.findings.append(off_policy(given.model, given.pairs(), limits.max_length))
    return found


def _common_from(limits: Limits) -> int:
    return 2**30 if limits.max_length is None else max(1, limits.max_length // 8)


def prompts_of(source: str) -> list[str]:
    """The prompts of a benchmark's file: all of MT-Bench's turns, AlpacaEval's instructions, or a prompt column."""
    from prefine.preferences.source import read_rows

    out: list[str] = []
    for number, row in read_rows(source):
        column = next((c for c in PROMPT_COLUMNS if c in row), "")
        texts = row.get("turns") or [row.get(column)]
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ConfigError(f"{source}, row {number}: no turns, instruction, prompt or question; columns found: {', '.join(row)}")
        out += texts
    return out


def _explain(name: str) -> int:
    if name not in CHECKS:
        raise ConfigError(f"no check {name!r}{nearest(name, CHECKS)} Checks: {', '.join(CHECKS)}")
    check = CHECKS[name]
    for title, text in (("sees", check.sees), ("why", check.why), ("example", check.example), ("fix", check.fix)):
        print(f"{title:>8}: {text}")
    return 0


def _print(found: Audit) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    line = f"{found.source}: {found.rows:,} rows, {found.records:,} usable, {found.prompts:,} distinct prompts"
    console.print(printable(line), highlight=False, markup=False)
    order = {c.name: i for i, c in enumerate((*TOKEN_CHECKS, *SET_CHECKS, *ROW_CHECKS, *POLICY_CHECKS))}
    table = Table(show_lines=False)
    for column in ("", "check", "found"):
        table.add_column(column, overflow="fold")
    ordered = sorted(found.findings, key=lambda f: (list(GRADES).index(f.grade), order[f.name]))
    for item in ordered:
        if item.count or item.grade != "fine":
            table.add_row(Text(item.grade, STYLE[item.grade]), item.name, Text(printable(item.detail)))
    nothing = [f.name for f in ordered if not f.count and f.grade == "fine"]
    if nothing:
        table.add_row(Text("fine", STYLE["fine"]), Text("nothing found"), Text(", ".join(nothing)))
    console.print(table)
    if found.lengths:
        lengths = Table(title="lengths")
        lengths.add_column("")
        for column in next(iter(found.lengths.values())):
            lengths.add_column(column, justify="right")
        for name, values in found.lengths.items():
            lengths.add_row(name, *(f"{v:,.0f}" for v in values.values()))
        console.print(lengths)
        for name, (edges, counts) in found.histograms.items():
            console.print(f"{name:>22} {_bars(counts)} 1 to {edges[-1] - 1:,}", highlight=False)
    if found.keeps:
        kept = ", ".join(f"{length:,} keeps {share} whole" for share, length in found.keeps.items())
        console.print(f"max_length: {kept}", highlight=False)
    if found.languages:
        shown = ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(found.languages.items())[:4])
        console.print(f"languages: {shown}", highlight=False)
    must = [f.name for f in found.findings if f.grade == "fix"]
    verdict = f"must be fixed: {', '.join(must)}" if must else "something to look at" if found.grade == "look" else "all fine"
    console.print(Text(f"grade: {verdict}", STYLE[found.grade]))
    if found.grade != "fine":
        console.print("prefine data audit --explain CHECK says what a check sees, why it matters and what to do", highlight=False)


def _bars(counts: list[int]) -> str:
    most = max(counts) or 1
    return "".join(" ▁▂▃▄▅▆▇█"[round(8 * c / most)] for c in counts)


def explain_all() -> dict[str, Any]:
    """The checks by group, for the docs."""
    return {"One row": ROW_CHECKS, "The whole set": SET_CHECKS, "Tokens": TOKEN_CHECKS, "Distance to the policy": POLICY_CHECKS}
