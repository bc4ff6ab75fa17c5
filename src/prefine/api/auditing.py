"""Find what will hurt in preference data, before it is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefine.api.calls import call
from prefine.api.progress import Progress
from prefine.api.reading import SourceOptions, shown_text
from prefine.api.tables import Table, lines_html
from prefine.audit.audit import GRADES, Audit, Limits, audit
from prefine.audit.check import CHECKS, POLICY_CHECKS, ROW_CHECKS, SET_CHECKS, TOKEN_CHECKS
from prefine.cluster import ClusterOptions
from prefine.errors import ConfigError, nearest, printable, some
from prefine.packing.encoding import Encoder
from prefine.preferences.convert import PairSource, answers_of
from prefine.preferences.records import Dropped, plain_text

PROMPT_COLUMNS = ("instruction", "prompt", "question")
STYLE = {"fix": "bold red", "look": "yellow", "fine": "green"}
EXAMPLE = 90
"""Characters of a row's prompt and response that the table shows."""


@dataclass
class AuditOptions(SourceOptions):
    """Options of ``prefine data audit``."""

    model: str | None = field(default=None, metadata={"help": "Model whose tokenizer and template count tokens: a folder or a Hub id."})
    max_length: int | None = field(default=1024, metadata={"help": "Maximum tokens of prompt + completion that training would allow."})
    max_prompt_length: int | None = field(default=None, metadata={"help": "Maximum tokens of the prompt."})
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


@dataclass
class AuditResult:
    """What an audit found; a table in a terminal and in a notebook.

    Attributes:
        audit: all of it; examples: text of a row that each finding is about; page: the HTML file, written: the JSON file, if any.
    """

    audit: Audit
    examples: Mapping[str, str] = field(default_factory=dict)
    page: Path | None = None
    written: Path | None = None

    @property
    def grade(self) -> str:
        """``fix``, ``look`` or ``fine``."""
        return self.audit.grade

    @property
    def findings(self) -> list[Any]:
        """One a check, worst first."""
        order = {c.name: i for i, c in enumerate((*TOKEN_CHECKS, *SET_CHECKS, *ROW_CHECKS, *POLICY_CHECKS))}
        return sorted(self.audit.findings, key=lambda f: (list(GRADES).index(f.grade), order[f.name]))

    def summary(self) -> dict[str, Any]:
        """Plain data."""
        return self.audit.summary()

    def table(self) -> Table:
        """A row a finding: its grade, what was found with the text of one row, and what to do."""
        rows, styles = [], []
        for item in self.findings:
            if item.count or item.grade != "fine":
                found = "\n".join(filter(None, [item.detail, self.examples.get(item.name, "")]))
                rows.append([item.grade, item.name, found, CHECKS[item.name].fix if item.grade != "fine" else ""])
                styles.append(STYLE[item.grade])
        nothing = [f.name for f in self.findings if not f.count and f.grade == "fine"]
        if nothing:
            rows.append(["fine", "nothing found", ", ".join(nothing), ""])
            styles.append(STYLE["fine"])
        return Table(["", "check", "found", "what to do"], rows, styles=styles)

    def lengths(self) -> Table | None:
        """Tokens, words or characters of prompts and responses; None where nothing was read."""
        found = self.audit.lengths
        if not found:
            return None
        columns = list(next(iter(found.values())))
        rows = [[name, *(f"{v:,.0f}" for v in values.values())] for name, values in found.items()]
        return Table(["", *columns], rows, "lengths", numbers=frozenset(range(1, 1 + len(columns))))

    def head(self) -> str:
        """How much was read."""
        a = self.audit
        return f"{a.source}: {a.rows:,} rows, {a.records:,} usable, {a.prompts:,} distinct prompts"

    def lines(self) -> list[str]:
        """What else there is to say; the grade last."""
        a = self.audit
        out = []
        for name, (edges, counts) in a.histograms.items() if a.lengths else ():
            out.append(f"{name:>22} {_bars(counts)} 1 to {edges[-1] - 1:,}")
        if a.keeps:
            out.append("max_length: " + ", ".join(f"{length:,} keeps {share} whole" for share, length in a.keeps.items()))
        if a.languages:
            out.append("languages: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in list(a.languages.items())[:4]))
        must = [f.name for f in a.findings if f.grade == "fix"]
        verdict = f"must be fixed: {', '.join(must)}" if must else "something to look at" if a.grade == "look" else "all fine"
        return [*out, f"grade: {verdict}"]

    def __str__(self) -> str:
        lengths = self.lengths()
        return "\n".join([self.head(), str(self.table()), *([str(lengths)] if lengths else []), *self.lines()])

    __repr__ = __str__

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        *lines, grade = self.lines()
        lengths = self.lengths()
        parts: list[Any] = [
            Text(printable(self.head())),
            self.table(),
            *([lengths] if lengths else []),
            *(Text(printable(line)) for line in lines),
        ]
        return Group(*parts, Text(printable(grade), STYLE[self.grade]))

    def _repr_html_(self) -> str:
        lengths = self.lengths()
        tables = self.table()._repr_html_() + (lengths._repr_html_() if lengths else "")
        return lines_html([self.head()]) + tables + lines_html(self.lines())


@call(AuditOptions, ClusterOptions, positional=("source",), rest=True)
def audit_data(given: AuditOptions, cluster: ClusterOptions, progress: Progress) -> AuditResult:
    """One pass over preference data: what must be fixed, what to look at, what is fine.

    Raises:
        PrefineError: a source or a model that cannot be read, or options that contradict each other.
    """
    if given.policy and not given.model:
        raise ConfigError("--policy scores responses under a model: give --model")
    cluster.check_cluster()
    if cluster.ray is not None and given.processes is not None:
        raise ConfigError("--processes would be ignored: --ray does the work on a cluster; give --ray-workers", code="PF-C04")
    audited = _run(given, cluster, progress)
    found = AuditResult(audited, _examples(given, audited))
    if given.output:
        from prefine.runs import write_json

        found.written = Path(given.output)
        write_json(found.written, found.summary())
    if given.html:
        from prefine.report.audit_section import audit_page
        from prefine.runs import replace_file

        found.page = Path(given.html)
        reasons = {check.name: (check.why, check.fix) for check in CHECKS.values()}
        replace_file(found.page, audit_page(found.summary(), reasons))
    return found


def _examples(given: AuditOptions, found: Audit) -> dict[str, str]:
    """The text of the first row of each finding that is not fine: a second look at the source, as far as the last of them."""
    wanted = {f.name: f.rows[0] for f in found.findings if f.grade != "fine" and f.rows}
    if not wanted or "-" in given.sources:
        return {}
    rows, last = set(wanted.values()), max(wanted.values())
    texts: dict[int, str] = {}
    for item in given.pairs().records():
        number = item.number if isinstance(item, Dropped) else item.row
        if number in rows and number not in texts:
            if isinstance(item, Dropped):
                texts[number] = shown_text(str(dict(item.row)), EXAMPLE)
            else:
                said = shown_text(item.prompt, EXAMPLE), *(shown_text(a, EXAMPLE) for a in answers_of(item)[:2])
                texts[number] = " -> ".join(said)
        if number >= last:
            break
    return {name: f"row {row}: {texts[row]}" for name, row in wanted.items() if row in texts}


def explain(name: str) -> list[str]:
    """What a check sees, why it matters, an example and the fix.

    Raises:
        ConfigError: no such check.
    """
    if name not in CHECKS:
        raise ConfigError(f"no check {name!r}{nearest(name, CHECKS)} Checks: {', '.join(CHECKS)}")
    check = CHECKS[name]
    return [f"{t:>8}: {text}" for t, text in (("sees", check.sees), ("why", check.why), ("example", check.example), ("fix", check.fix))]


def _run(given: AuditOptions, cluster: ClusterOptions, progress: Progress) -> Audit:
    """The audit that the options ask for."""
    limits = Limits(given.max_length, given.max_prompt_length, given.truncation_mode)
    Encoder(None, given.max_length, given.max_prompt_length, given.truncation_mode)  # checks them
    if given.processes is not None and given.processes < 1:
        raise ConfigError(f"--processes is {given.processes}; expected at least 1", code="PF-C03")
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
    found = audit(
        given.sources,
        given.reading(),
        tokenization,
        limits,
        against,
        given.near,
        given.processes,
        lambda rows: progress.advance("reading", rows, None),
        cluster,
    )
    if given.policy:
        from prefine.audit.policy import off_policy

        assert given.model
        progress.stage("scoring under the model")
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
            raise ConfigError(
                f"{source}, row {number}: no turns, instruction, prompt or question; columns found: {some(list(row))}", code="PF-D01"
            )
        out += texts
    return out


def _bars(counts: list[int]) -> str:
    most = max(counts) or 1
    return "".join(" ▁▂▃▄▅▆▇█"[round(8 * c / most)] for c in counts)


def explain_all() -> dict[str, Any]:
    """The checks by group, for the docs."""
    return {"One row": ROW_CHECKS, "The whole set": SET_CHECKS, "Tokens": TOKEN_CHECKS, "Distance to the policy": POLICY_CHECKS}
