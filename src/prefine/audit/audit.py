"""The whole audit: parts merged, sets compared, a grade at the end."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefine.audit.check import CHECKS, ROW_CHECKS, Check, Finding, Grade, grade
from prefine.audit.part import NUMBERS, Part, Sampled
from prefine.audit.shortcuts import (
    LABELLED,
    Named,
    first_word,
    first_word_finding,
    length_finding,
    mark_finding,
    probe_finding,
    turned_finding,
)
from prefine.audit.tokens import cuts
from prefine.audit.workers import SAMPLE_RECORDS, Tokenization, parts
from prefine.cluster import ClusterOptions
from prefine.errors import DataError
from prefine.preferences.convert import Reading
from prefine.preferences.formats.thumbs import UNRATED
from prefine.preferences.near import SignatureFile, near_groups, signatures
from prefine.preferences.source import Numbering

RARE = 0.05
"""Share of a label up to which it is worth a look."""
GRADES: dict[Grade, str] = {"fix": "must be fixed", "look": "look at it", "fine": "fine"}


@dataclass
class Gathered:
    """All parts of one or several sources."""

    rows: int = 0
    dropped: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    found: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    columns: dict[str, list[NDArray[Any]]] = field(default_factory=lambda: defaultdict(list))
    sample: list[Sampled] = field(default_factory=list)
    sampled: float = 1.0
    signatures: SignatureFile = field(default_factory=SignatureFile)

    def add(self, part: Part) -> None:
        """Add a part."""
        self.rows += part.rows
        for mine, theirs in ((self.dropped, part.dropped), (self.found, part.found)):
            for name, rows in theirs.items():
                mine[name] += rows
        for name, values in part.numbers.items():
            self.columns[name].append(values)
        self.sample += [s for s in part.sample if s.draw < self.sampled]
        while len(self.sample) > 2 * SAMPLE_RECORDS:  # more than was thought: thin out
            self.sampled = max(s.draw for s in self.sample) / 2
            self.sample = [s for s in self.sample if s.draw < self.sampled]
        self.signatures.add(part.signatures)

    @functools.cached_property
    def distinct_rows(self) -> int:
        """Rows that gave a record; a row of ranked answers may give several. Asked for once all is gathered."""
        return len(np.unique(self.column("row")))

    def column(self, name: str) -> NDArray[Any]:
        """One number of every record."""
        return np.concatenate(self.columns[name]) if self.columns[name] else np.empty(0, NUMBERS[name])


@dataclass(frozen=True)
class Limits:
    """The lengths that training would allow."""

    max_length: int | None = 1024
    max_prompt_length: int | None = None
    truncation_mode: str = "keep_start"


@dataclass
class Audit:
    """What the audit found.

    Attributes:
        prompts: distinct prompts among the records.
        lengths: name -> percentiles and mean; histograms: name -> (edges, counts), tokens or characters.
        keeps: the smallest max_length that keeps 99 and 99.9 % of records whole.
        probe: the words that speak most for chosen and for rejected.
        languages: shares of languages (ISO 639-1) among sampled answers.
    """

    source: str
    rows: int
    records: int
    prompts: int
    findings: list[Finding]
    lengths: dict[str, dict[str, float]]
    histograms: dict[str, tuple[list[int], list[int]]]
    keeps: dict[str, int]
    probe: dict[str, list[str]]
    languages: dict[str, float]

    @property
    def grade(self) -> Grade:
        """The worst grade of a finding."""
        grades = {f.grade for f in self.findings}
        return "fix" if "fix" in grades else "look" if "look" in grades else "fine"

    def summary(self) -> dict[str, Any]:
        """Plain data, for ``data.json``."""
        return {
            "source": self.source,
            "rows": self.rows,
            "records": self.records,
            "distinct_prompts": self.prompts,
            "grade": self.grade,
            "findings": [f.summary() for f in self.findings],
            "lengths": self.lengths,
            "histograms": {name: {"edges": e, "counts": c} for name, (e, c) in self.histograms.items()},
            "smallest_max_length": self.keeps,
            "words": self.probe,
            "languages": self.languages,
        }


def gather(
    sources: Sequence[str],
    reading: Reading,
    tokenization: Tokenization | None,
    near: bool = True,
    processes: int | None = None,
    progress: Callable[[int], None] = lambda rows: None,
    cluster: ClusterOptions | None = None,
) -> Gathered:
    """One pass over the sources."""
    out, numbering = Gathered(), Numbering()
    for source in sources:
        for part in parts(source, reading, tokenization, near, processes, numbering, cluster):
            out.add(part)
            progress(part.rows)
    return out


def audit(
    sources: Sequence[str],
    reading: Reading,
    tokenization: Tokenization | None = None,
    limits: Limits | None = None,
    against: Sequence[tuple[str, Sequence[str]]] = (),
    near: bool = True,
    processes: int | None = None,
    progress: Callable[[int], None] = lambda rows: None,
    cluster: ClusterOptions | None = None,
) -> Audit:
    """Audit preference data.

    Args:
        tokenization: of the model that will be trained; without it nothing is said about tokens.
        against: (name, prompts) of evaluation sets that must not be trained on.
        near: look for near duplicates as well.
        progress: called with the rows just read.
        cluster: where blocks of rows are looked at; None here, by so many ``processes``.

    Raises:
        DataError: nothing usable in the sources.
    """
    got = gather(sources, reading, tokenization, near, processes, progress, cluster)
    records = len(got.column("row"))
    name = " + ".join(sources)
    if not records:
        raise DataError(
            f"{name}: none of its {got.rows} rows is usable ({', '.join(f'{len(r)} {w}' for w, r in got.dropped.items())})", code="PF-D04"
        )
    findings = [_dropped(got)]
    findings += [_by_rows(check, got.found.get(check.name, []), got.distinct_rows) for check in ROW_CHECKS]
    findings += _duplicates(got, near)
    findings += _overlaps(got, against) if against else []
    findings += _labels(got)
    shortcut_findings, probe = _shortcuts(got)
    findings += shortcut_findings
    if tokenization is not None:
        findings += _tokens(got, limits or Limits())
    lengths, histograms = _lengths(got, tokenization is not None)
    keeps = _keeps(got, tokenization is not None)
    prompts = len(np.unique(got.column("prompt_key")))
    return Audit(name, got.rows, records, prompts, findings, lengths, histograms, keeps, probe, _languages(got.sample))


def _by_rows(check: Check, rows: Sequence[int], of: int, detail: str = "") -> Finding:
    unique = sorted(set(rows))
    shown = ", ".join(map(str, unique[:5])) + (" ..." if len(unique) > 5 else "")
    text = detail or (f"{len(unique)} of {of} ({100 * len(unique) / of:.2f} %): rows {shown}" if unique else "none")
    return Finding(check.name, grade(check, len(unique), of), len(unique), of, text, tuple(unique))


def _dropped(got: Gathered) -> Finding:
    """What could not be used; that nobody rated a row is told, and is no fault of it."""
    unrated = len(set(got.dropped.get(UNRATED, ())))
    rows = [row for reason, numbers in got.dropped.items() if reason != UNRATED for row in numbers]
    detail = ", ".join(f"{len(set(numbers))} {reason}" for reason, numbers in sorted(got.dropped.items())) or "none"
    return _by_rows(CHECKS["dropped"], rows, max(1, got.rows - unrated), detail)


def _duplicates(got: Gathered, near: bool) -> list[Finding]:
    rows, keys, flipped, is_pair = (got.column(n) for n in ("row", "pair_key", "flipped", "is_pair"))
    label, prompts = got.column("label"), got.column("prompt_key")
    order = np.lexsort((np.where(is_pair, flipped, label), keys))
    same = keys[order][1:] == keys[order][:-1]
    side = np.where(is_pair, flipped, label)[order]
    again, against = same & (side[1:] == side[:-1]), same & (side[1:] != side[:-1])
    opposed = np.union1d(rows[order][1:][against], rows[order][:-1][against])
    out = [
        _by_rows(CHECKS["repeated-pair"], rows[order][1:][again].tolist(), got.distinct_rows),
        _by_rows(CHECKS["conflicting-labels"], opposed.tolist(), got.distinct_rows),
    ]
    if near:
        first = np.sort(np.unique(prompts, return_index=True)[1])  # exact repeats of a prompt are no news here
        found = near_groups(np.asarray(got.signatures.read())[first])
        twins = np.flatnonzero(found != np.arange(len(found)))
        out.append(_by_rows(CHECKS["near-duplicate-prompts"], rows[first[twins]].tolist(), got.distinct_rows))
    return out


def _overlaps(got: Gathered, against: Sequence[tuple[str, Sequence[str]]]) -> list[Finding]:
    from prefine.preferences.draws import text_key

    rows, prompts = got.column("row"), got.column("prompt_key")
    mine = np.asarray(got.signatures.read())
    hits: set[int] = set()
    parts_of_detail = []
    for name, texts in against:
        exact = np.isin(prompts, np.array([text_key(t) for t in texts], np.uint64))
        near_rows = exact
        if len(mine) == len(rows):
            joined = np.concatenate((signatures(texts), mine))
            near_rows = exact | (near_groups(joined)[len(texts) :] < len(texts))
        hits |= set(rows[near_rows].tolist())
        parts_of_detail.append(f"{int(near_rows.sum())} share a prompt with {name}, {int(exact.sum())} of them word for word")
    return [_by_rows(CHECKS["eval-overlap"], sorted(hits), got.distinct_rows, "; ".join(parts_of_detail) if hits else "none")]


def _shortcuts(got: Gathered) -> tuple[list[Finding], dict[str, list[str]]]:
    is_pair, columns = got.column("is_pair"), ("chosen_chars", "rejected_chars", "chosen_marks", "rejected_marks")
    if is_pair.any():
        of_pairs = np.flatnonzero(is_pair)
        first, second, named = of_pairs, of_pairs, Named()
        sample = [(s.chosen, s.rejected) for s in got.sample if s.chosen and s.rejected]
    elif len(is_pair):
        first, second, named = *_matched(got.column("label"), got.column("prompt_key")), LABELLED
        sides = [[s.chosen for s in got.sample if s.chosen], [s.rejected for s in got.sample if s.rejected]]
        sample = list(zip(*sides, strict=False))
    else:
        first = np.empty(0, int)
    if not len(first):
        return [], {"chosen": [], "rejected": []}
    chosen, rejected, chosen_marks, rejected_marks = (got.column(n)[p] for n, p in zip(columns, (first, second) * 2, strict=True))
    words = [(first_word(c), first_word(r)) for c, r in sample]
    probe, speaks = probe_finding([c for c, _ in sample], [r for _, r in sample], named)
    rows = got.column("row")
    return [
        length_finding(chosen, rejected, named),
        first_word_finding([a for a, _ in words], [b for _, b in words], named),
        mark_finding(chosen_marks, rejected_marks),
        probe,
        turned_finding(rows[first], (chosen, rejected), (chosen_marks, rejected_marks), named),
    ], speaks


def _matched(label: NDArray[np.bool_], prompts: NDArray[np.uint64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Places of wanted and of unwanted responses, one beside the other: of the same prompt where there are both, else in their order.

    Each stands in one couple at most, so that couples are counted as pairs are.
    """
    wanted, unwanted, couples = np.flatnonzero(label), np.flatnonzero(~label), []
    by_prompt: dict[int, list[int]] = defaultdict(list)
    for place in unwanted[::-1].tolist():
        by_prompt[int(prompts[place])].append(place)
    alone = []
    for place in wanted.tolist():
        others = by_prompt.get(int(prompts[place]))
        if others:
            couples.append((place, others.pop()))
        else:
            alone.append(place)
    left = sorted(place for places in by_prompt.values() for place in places)
    # Spread over both, so that one that is rarer is met by others of all parts of the rows.
    count = min(len(alone), len(left))
    spread = [[side[i * len(side) // count] for i in range(count)] for side in (alone, left)]
    couples = sorted([*couples, *zip(*spread, strict=True)])
    first, second = zip(*couples, strict=True) if couples else ((), ())
    return np.array(first, int), np.array(second, int)


def _labels(got: Gathered) -> list[Finding]:
    """How many responses of each label there are, where there are labels."""
    label = got.column("label")[~got.column("is_pair")]
    if not len(label):
        return []
    wanted, check = int(label.sum()), CHECKS["one-sided-labels"]
    rarer = min(wanted, len(label) - wanted)
    grade: Grade = "fix" if not rarer else "look" if rarer <= RARE * len(label) else "fine"
    return [Finding(check.name, grade, rarer, len(label), f"{wanted} of {len(label)} responses are wanted, {len(label) - wanted} unwanted")]


def _tokens(got: Gathered, limits: Limits) -> list[Finding]:
    prompt, chosen, rejected, shared = (got.column(n) for n in ("prompt_tokens", "chosen_tokens", "rejected_tokens", "shared_tokens"))
    of = got.distinct_rows
    cut = cuts(prompt, chosen, rejected, shared, limits.max_length, limits.max_prompt_length, limits.truncation_mode)
    truncated = f"{cut.prompts_cut} prompts and {cut.answers_cut} responses truncated"
    detail = f"at max_length {limits.max_length}: {cut.dropped} rows dropped, {truncated}"
    rows = got.column("row")
    out = [
        _by_rows(CHECKS["too-long"], rows[cut.touched].tolist(), of, detail if cut.touched.any() else ""),
        _by_rows(CHECKS["cut-difference"], rows[cut.lost_difference].tolist(), of),
    ]
    names = ("template-refuses", "template-leaves-out", "boundary-merge", "doubled-begin", "missing-end", "empty-after-template")
    return out + [_by_rows(CHECKS[n], got.found.get(n, []), of) for n in names]


def _measured(got: Gathered, tokens: bool) -> dict[str, NDArray[np.int32]]:
    if not tokens:
        chosen, rejected = got.column("chosen_chars"), got.column("rejected_chars")
        return {"chosen (characters)": chosen[chosen > 0], "rejected (characters)": rejected[rejected > 0]}
    chosen, rejected = got.column("chosen_tokens"), got.column("rejected_tokens")
    return {"prompt (tokens)": got.column("prompt_tokens"), "chosen (tokens)": chosen, "rejected (tokens)": rejected[rejected >= 0]}


def _lengths(got: Gathered, tokens: bool) -> tuple[dict[str, dict[str, float]], dict[str, tuple[list[int], list[int]]]]:
    lengths, histograms = {}, {}
    for name, values in _measured(got, tokens).items():
        if not len(values):
            continue
        quantiles = np.percentile(values, (50, 90, 99, 99.9, 100)).tolist()
        lengths[name] = {"mean": float(values.mean()), **dict(zip(("50 %", "90 %", "99 %", "99.9 %", "most"), quantiles, strict=True))}
        edges = np.unique(np.geomspace(1, max(2, int(values.max()) + 1), 25).astype(int))
        counts, _ = np.histogram(values, edges)
        histograms[name] = (edges.tolist(), counts.tolist())
    return lengths, histograms


def _keeps(got: Gathered, tokens: bool) -> dict[str, int]:
    """The smallest max_length under which 99 and 99.9 % of records stay whole."""
    if not tokens:
        return {}
    whole = got.column("prompt_tokens") + np.maximum(got.column("chosen_tokens"), got.column("rejected_tokens"))
    return {f"{q} %": int(np.percentile(whole, q, method="higher")) for q in (99, 99.9)}


def _languages(sample: Sequence[Sampled], most: int = 500) -> dict[str, float]:
    """Shares of languages (ISO 639-1) among sampled answers."""
    from py3langid.langid import classify

    texts = [(s.chosen or s.rejected)[:400] for s in sample[:most]]
    found = Counter(classify(text)[0] for text in texts if text.strip())
    return {name: count / found.total() for name, count in found.most_common()}
