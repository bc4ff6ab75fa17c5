"""Judge files of responses, or recount verdicts that lie on disk, from any judge."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefine.api.calls import call
from prefine.api.judges import (
    Gates,
    JudgeChoice,
    Stopping,
    asker_of,
    build_judge,
    check_ready,
    people_beside,
    qualification,
    qualification_file,
)
from prefine.api.progress import Progress
from prefine.api.results import EvaluationResult
from prefine.api.summaries import agreement_line, count_details, count_lines
from prefine.api.tables import Shows, Table
from prefine.cluster import ClusterOptions
from prefine.errors import ConfigError
from prefine.evaluation.answers import AnswerFile, is_answers, read_answers
from prefine.evaluation.bradley_terry import Game, ratings
from prefine.evaluation.contest import JudgedVerdicts, Until, count_judged, human_verdicts, judge_comparisons, mean_ratings
from prefine.evaluation.contest import judge_files as contest
from prefine.evaluation.count import count
from prefine.evaluation.interval import Interval, paired_difference
from prefine.evaluation.judge import ByScore, Comparison, Judge, compare, item_of
from prefine.evaluation.multiple import together
from prefine.evaluation.questions import read_questions, with_references
from prefine.evaluation.verdict_files import VerdictFile, is_verdicts, match, read_verdicts
from prefine.preferences.source import read_rows
from prefine.runs import read_jsonl, write_json

LEAST_RATED = 30
"""Prompts a file, below which no ratings are given."""


@dataclass
class FilesOptions:
    """What is judged or counted."""

    files: list[str] | None = field(
        default=None, metadata={"help": "Files of responses (base, then tuned), or of verdicts (also as the first words)."}
    )
    verdicts: list[str] | None = field(default=None, metadata={"help": "Files of verdicts to count."})


@dataclass
class TwoFiles:
    """What is judged."""

    base: str | None = field(default=None, metadata={"help": "File of the base's responses."})
    tuned: str | None = field(default=None, metadata={"help": "File of the tuned model's responses."})


@dataclass
class JudgeOptions:
    """Options of ``prefine judge`` beside the judge's."""

    output: str | None = field(default=None, metadata={"help": "File for the numbers as JSON."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for verdicts, responses and summary. Unset: verdicts/BASE-vs-TUNED."}
    )
    questions: str | None = field(default=None, metadata={"help": "The prompts, where the responses' files have none (MT-Bench)."})
    references: str | None = field(default=None, metadata={"help": "MT-Bench's reference responses, for the judge."})
    length_control: str | None = field(default=None, metadata={"help": "AlpacaEval 2's df_gamed.csv: adds its length-controlled win rate."})
    qualify: bool = field(
        default=False, metadata={"help": "Measure the judge on what people judged (--human FILE); later verdicts by it quote that."}
    )
    verbose: bool = field(default=False, metadata={"help": "Print everything that the page shows."})
    dry_run: bool = field(default=False, metadata={"help": "Say how many requests and tokens it would take, and ask nothing."})
    price_in: float = field(default=0.0, metadata={"help": "--dry-run: price of a million prompt tokens."})
    price_out: float = field(default=0.0, metadata={"help": "--dry-run: price of a million completion tokens."})


@dataclass(repr=False)
class JudgedFiles(Shows):
    """What judging or counting found.

    Attributes:
        results: a contest's, or one a file of verdicts; lines: what else there is to say; tables: ratings.
    """

    results: list[EvaluationResult] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether what was demanded is met."""
        return all(r.passed for r in self.results)

    def parts(self) -> list[Any]:
        """What there is to see."""
        return [*(line for r in self.results for line in r.lines), *self.tables, *self.lines]


@call(FilesOptions, JudgeOptions, JudgeChoice, Stopping, Gates, ClusterOptions, positional=("files",), rest=True)
def judge_files(
    what: FilesOptions,
    given: JudgeOptions,
    choice: JudgeChoice,
    stopping: Stopping,
    gates: Gates,
    cluster: ClusterOptions,
    progress: Progress,
) -> JudgedFiles:
    """Judge files of responses, or count verdicts that lie on disk, from any judge.

    Raises:
        PrefineError: files of another kind, no judge, or options that contradict each other.
    """
    cluster.check_cluster()
    thresholds = gates.thresholds()
    until = stopping.stopping(choice, thresholds)
    rest = what.files or []
    kinds = [_kind(source) for source in rest]
    if what.verdicts or set(kinds) == {"verdicts"}:
        if choice.judge is not None:
            raise ConfigError(
                "--judge would be ignored: verdicts on disk are judged already; leave it out, or give files of responses", code="PF-C04"
            )
        if cluster.ray is not None:
            raise ConfigError("--ray would be ignored: verdicts on disk are only counted; leave it out", code="PF-C04")
        if given.qualify:
            raise ConfigError("--qualify asks a judge: give two files of responses and --judge; verdicts on disk are judged already")
        return _count_files([*rest, *(what.verdicts or [])], given, gates, choice.human)
    files = _read_files(given, rest, kinds)
    found = JudgedFiles()
    for f in (f for f in files if f.repeated):
        found.lines.append(
            f"{f.source}: {f.repeated} rows ask what an earlier row asks; they are matched in order, and counted as one prompt"
        )
    models = _names(files)
    judge = build_judge(choice, models)
    if judge is None:
        raise ConfigError("judging responses needs --judge; see --help for the judges there are")
    with _spread(judge, choice, models, given, until, cluster) as judge:
        if given.dry_run:
            found.lines += _cost(judge, compare(files[0], files[-1])[0], given)
        elif given.qualify:
            found.lines += _qualify(files, judge, choice, models, progress)
        elif len(files) == 1:
            _rate(files[0], judge, given, progress, found)
        else:
            _contest(files[0], files[1], judge, models, given, choice, gates, until, progress, found)
    return found


@contextmanager
def _spread(
    judge: Judge, choice: JudgeChoice, models: tuple[str, str], given: JudgeOptions, until: Until | None, cluster: ClusterOptions
) -> Iterator[Judge]:
    """The judge itself, or one that workers of a cluster are.

    Raises:
        ConfigError: a cluster that would do nothing.
    """
    if cluster.ray is None:
        yield judge
        return
    alone = (
        "a server is asked by --concurrency requests at once" if asker_of(judge) is not None
        else "people have judged already" if choice.judge == "human"
        else "--stop-when-decided judges a few at a time" if until is not None
        else "only two files of responses are judged there" if given.dry_run or given.qualify
        else ""
    )  # fmt: skip
    if alone:
        raise ConfigError(f"--ray would be ignored: {alone}; leave it out", code="PF-C04")
    from prefine.api.side_by_side import SpreadJudge

    spread = SpreadJudge(cluster, judge.name, build_judge, (choice, models))
    with spread.workers:
        yield spread


@call(TwoFiles, JudgeOptions, JudgeChoice, Stopping, Gates, ClusterOptions, positional=("base", "tuned"))
def judge(
    what: TwoFiles,
    given: JudgeOptions,
    choice: JudgeChoice,
    stopping: Stopping,
    gates: Gates,
    cluster: ClusterOptions,
    progress: Progress,
) -> EvaluationResult:
    """Judge a tuned model's file of responses against a base's.

    Args:
        base, tuned: files, as ``prefine generate`` writes them, or AlpacaEval's or MT-Bench's.
        judge: one of this package's judges, or a function.

    Raises:
        PrefineError: a file that holds no responses, no judge, or options that contradict each other.
    """
    if what.base is None or what.tuned is None:
        raise ConfigError("judge needs two files of responses: base and tuned")
    found: JudgedFiles = judge_files.function(FilesOptions([what.base, what.tuned]), given, choice, stopping, gates, cluster, progress)
    if not found.results:
        raise ConfigError("dry_run and qualify give no verdict: call judge_files")
    if len(found.results) > 1:
        raise ConfigError("these are files of verdicts, which are judged already: pf.judge_files counts and compares them")
    [result] = found.results
    result.lines = [*result.lines, *found.lines]
    return result


def _read_files(given: JudgeOptions, rest: list[str], kinds: list[str]) -> list[AnswerFile]:
    """The files of responses that were named.

    Raises:
        ConfigError: another kind or number of files, or responses that do not say what was asked.
    """
    for source, kind in zip(rest, kinds, strict=True):
        if kind != "answers":
            what = "holds verdicts" if kind == "verdicts" else "holds neither responses nor verdicts"
            hint = "; it is a run: judge it with prefine eval" if (Path(source) / "config.yaml").exists() else ""
            raise ConfigError(f"{source}: {what}, and responses are expected (prefine generate, AlpacaEval's or MT-Bench's){hint}")
    if len(rest) not in (1, 2):
        raise ConfigError("judge needs two files of responses (base, then tuned), one for --mode single, or --verdicts FILE ...")
    questions = read_questions(given.questions) if given.questions else []
    if given.references:
        if not questions:
            raise ConfigError("--references belong to questions by their ids: give --questions too")
        questions = with_references(questions, given.references)
    files = [read_answers(source, questions) for source in rest]
    if any(not a.match_key.strip() or (a.question.later_turns and not a.question.prompt) for f in files for a in f.answered):
        raise ConfigError("these responses do not say what was asked: give the prompts with --questions")
    return files


def _kind(source: str) -> str:
    """``answers``, ``verdicts`` or neither, by the first row."""
    for _, row in itertools.islice(read_rows(source), 1):
        return "answers" if is_answers(row) else "verdicts" if is_verdicts(row) else ""
    return ""


def _stem(source: str) -> str:
    """A file's name without the endings of data files: a dot within it stays."""
    name = Path(source).name
    for suffix in (".gz", ".jsonl", ".json", ".parquet", ".csv"):
        name = name.removesuffix(suffix)
    return name


def _names(files: list[AnswerFile]) -> tuple[str, str]:
    """What to call the two models: as their files do, else by the files' names, else by their folders'."""
    first, last = files[0], files[-1]
    for name in (lambda f: f.model, lambda f: _stem(f.source), lambda f: f"{Path(f.source).resolve().parent.name}/{_stem(f.source)}"):
        if name(first) != name(last) or len(files) == 1:
            return name(first), name(last)
    raise ConfigError(f"{first.source} against itself: give the responses of two models")


def _folder(own: JudgeOptions, models: tuple[str, str], judge: Judge) -> Path:
    """Where verdicts go: a folder of its own for every two models and judge."""
    if own.output_dir:
        return Path(own.output_dir)

    def slug(words: str) -> str:
        return re.sub(r"[^\w.-]+", "-", words).strip("-.")[-60:]

    return Path("verdicts") / "-vs-".join(slug(m) for m in dict.fromkeys(models)) / slug(judge.name)


def _contest(
    base: AnswerFile,
    tuned: AnswerFile,
    judge: Judge,
    models: tuple[str, str],
    given: JudgeOptions,
    choice: JudgeChoice,
    gates: Gates,
    until: Until | None,
    progress: Progress,
    out: JudgedFiles,
) -> None:
    folder = _folder(given, models, judge)
    people = people_beside(choice)
    votes = len(compare(base, tuned)[0]) * (2 if hasattr(judge, "asks") else 1)
    known = qualification(judge, choice)

    def done(n: int) -> None:
        progress.advance("verdicts", n, votes)

    found, summary = contest(base, tuned, judge, models, folder, people, gates.thresholds(), done, until, known)
    lines = [*count_lines(found, summary), *(count_details(found) if given.verbose else [])]
    if summary["failure_reasons"]:
        lines.append(f"  without a verdict: {summary['failure_reasons']}")
    if summary["unmatched"]:
        lines.append(f"  {summary['unmatched']} questions are answered in one file only and were left out")
    if people is not None:
        lines.append(agreement_line(summary["agreement"]))
    out.tables += _rating_table(summary["ratings"])
    _write_numbers(given, summary, out)
    from prefine.report.run_page import write_judged

    report = write_judged(folder)
    out.lines.append(f"verdicts, responses and summary: {folder}; report: {report}")
    passed = not gates.exit_code({found.verdict.outcome})
    out.results.append(EvaluationResult(summary, lines, folder, report, passed))


def _write_numbers(given: JudgeOptions, numbers: Any, out: JudgedFiles) -> None:
    if given.output:
        Path(given.output).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(given.output), numbers)
        out.lines.append(f"numbers: {given.output}")


def _qualify(files: list[AnswerFile], judge: Judge, choice: JudgeChoice, models: tuple[str, str], progress: Progress) -> list[str]:
    """Hold the judge against people on what they judged; what is found is quoted wherever it judges afterwards."""
    import tempfile

    from prefine.evaluation.contest import by_comparison
    from prefine.evaluation.qualify import qualify

    if choice.human is None or choice.judge == "human" or len(files) != 2:
        raise ConfigError("--qualify needs two files of responses, a --judge, and --human FILE: verdicts that people gave on them")
    comparisons, _ = compare(files[0], files[1])
    people = by_comparison(human_verdicts(read_verdicts(choice.human), models), comparisons)
    known = {j.item for j in people}
    labelled = [c for c in comparisons if item_of(c) in known]
    if not labelled:
        raise ConfigError(f"{choice.human}: people judged none of these prompts")
    check_ready(judge)
    with tempfile.TemporaryDirectory() as folder:
        held = judge_comparisons(labelled, judge, models, Path(folder), lambda n: progress.advance("verdicts", n, 2 * len(labelled)))
    found = qualify(held.file.counted, people)
    if found is None:
        raise ConfigError(f"{choice.human}: people tie on all of these prompts, which says nothing of a judge")
    path = qualification_file(judge, choice)
    if path is None:
        raise ConfigError("this judge cannot be known again another time, so nothing can be kept of it: name a function of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"judge": judge.name, "people": choice.human, **found.summary()})
    return [f"judge {judge.name}", *(f"  {line}" for line in (*found.lines(), "later verdicts by this judge quote this"))]


def _cost(judge: Any, comparisons: list[Comparison], given: JudgeOptions) -> list[str]:
    """How many requests and tokens it would take."""
    asker = asker_of(judge)
    if asker is None:
        raise ConfigError("--dry-run is for --judge openai: other judges cost nothing")
    if isinstance(judge, ByScore):
        asks = judge.scorer.asks([side for c in comparisons for side in c.sides])  # type: ignore[attr-defined]
    else:
        asks, _ = judge.asks(comparisons)
    plan = asker.plan(asks)
    lines = [
        f"{len(comparisons)} comparisons: {plan.calls} requests ({plan.cached} more are in the cache), about {plan.prompt_tokens:,} prompt "
        f"and {plan.completion_tokens:,} completion tokens (four characters each; responses of 200 assumed)"
    ]
    if given.price_in or given.price_out:
        cost = plan.cost(given.price_in, given.price_out)
        lines.append(f"about {cost:.2f} at {given.price_in:g} and {given.price_out:g} a million tokens")
    return lines


def _rate(file: AnswerFile, judge: Judge, given: JudgeOptions, progress: Progress, out: JudgedFiles) -> None:
    """Ratings of one model's responses."""
    if not isinstance(judge, ByScore):
        raise ConfigError("one file of responses can be rated (--mode single, reward-model, python, exact), not compared; give two")
    comparisons, _ = compare(file, file)
    folder = _folder(given, (file.model, file.model), judge)
    judge_comparisons(comparisons, judge, (file.model, file.model), folder, lambda n: progress.advance("ratings", n, len(comparisons)))
    table = {file.model: mean_ratings(list(read_jsonl(folder / "verdicts.jsonl")), ("base", "tuned"))["tuned"]}
    failures = sum(r["tuned_wins"] is None for r in read_jsonl(folder / "verdicts.jsonl"))
    write_json(folder / "summary.json", {"judge": judge.name, "ratings": table, "failures": failures})
    out.tables += _rating_table(table)
    out.lines.append(f"{failures} failures; ratings: {folder}")


def _rating_table(ratings: dict[str, dict[str, Any]]) -> list[Table]:
    """Mean scores by model; none where nothing was scored."""
    if not ratings:
        return []
    rows = [
        [name, *(f"{i['estimate']:.2f} [{i['low']:.2f}, {i['high']:.2f}]" for i in (side[name] for side in ratings.values()))]
        for name in next(iter(ratings.values()))
    ]
    return [Table(["", *ratings], rows, "mean scores, 95 % CI", numbers=frozenset(range(1, 1 + len(ratings))))]


def _count_files(sources: list[str], given: JudgeOptions, gates: Gates, human: str | None = None) -> JudgedFiles:
    """Count files of verdicts and compare them; one file with what people said beside it."""
    thresholds = gates.thresholds()
    files = [read_verdicts(source) for source in sources]
    heads: list[dict[str, Any]] = [{} for _ in files]
    if human is not None:
        if len(files) > 1:
            raise ConfigError("--human stands beside one file of a judge's verdicts; give one")
        people = human_verdicts(read_verdicts(human), files[0].models)
        one, heads[0] = count_judged(JudgedVerdicts(files[0]), people, (), (), (), thresholds)
        counts = [one]
    else:
        counts = [count(file, thresholds=thresholds, comparisons=len(files)) for file in files]
    out = JudgedFiles()
    for found, head in zip(counts, heads, strict=True):
        lines = [f"{found.source}:", *count_lines(found, head), *(count_details(found) if given.verbose else [])]
        if human is not None:
            lines.append(agreement_line(head["agreement"]))
        out.results.append(EvaluationResult(found.summary() | head, lines, passed=not gates.exit_code({found.verdict.outcome})))
    controlled = [_length_controlled(source, given.length_control) for source in sources] if given.length_control else []
    out.lines += [f"{source}: length-controlled as AlpacaEval 2 {c.percent()}" for source, c in zip(sources, controlled, strict=False)]
    differences = [_difference(files[0], other, together(len(files) - 1)) for other in files[1:]]
    out.lines += [d["sentence"] for d in differences]
    enough = all(len({j.cluster for j in f.counted}) >= LEAST_RATED for f in files) and len({f.models for f in files}) == len(files)
    rated = _ratings(files, out) if len(files) > 1 and enough else []
    summaries = [dict(r.summary) for r in out.results]
    for summary, interval in zip(summaries, controlled, strict=False):
        summary["length_controlled_win_rate"] = vars(interval)
    _write_numbers(given, {"files": summaries, "differences": differences, "ratings": rated}, out)
    return out


def _length_controlled(source: str, weights: str) -> Interval:
    from prefine.evaluation.length_controlled import length_controlled, read_gamed

    return length_controlled([row for _, row in read_rows(source)], read_gamed(weights))


def _difference(first: VerdictFile, second: VerdictFile, level: float) -> dict[str, Any]:
    """The second file's model against the first's, item by item; both must have been judged against one baseline."""
    if first.models[0] != second.models[0]:
        raise ConfigError(f"{second.source} judges against {second.models[0]}, {first.source} against {first.models[0]}; give one baseline")
    who = f"{second.models[1]} against {first.models[1]}"
    if first.judge and second.judge and first.judge != second.judge:
        sentence = f"{who}: no difference to give, another judge ({second.judge} and {first.judge})"
        return {"models": [first.models[1], second.models[1]], "sentence": sentence}
    before, after, clusters, unmatched = match(first.counted, second.counted)
    if not before:
        raise ConfigError(f"{second.source} and {first.source} have no prompt in common")
    change = paired_difference(after, before, clusters, level=level)
    sentence = (
        f"{who}: {100 * change.estimate:+.2f} points "
        f"[{100 * change.low:+.2f}, {100 * change.high:+.2f}] on {change.count} prompts that both have; {unmatched} have only one"
    )
    return {"models": [first.models[1], second.models[1]], **vars(change), "unmatched": unmatched, "sentence": sentence}


def _ratings(files: list[VerdictFile], out: JudgedFiles) -> list[dict[str, Any]]:
    """Bradley-Terry ratings of all models, and their table."""
    found = ratings([Game(f.models[0], f.models[1], j.win, j.cluster) for f in files for j in f.votes])
    rows = []
    for r in found:
        told = f"[{r.low:.0f}, {r.high:.0f}]" if r.high > r.low else "not to be told: all verdicts are alike"
        rows.append([r.model, f"{r.rating:.0f}", told])
    title = "Bradley-Terry ratings (400 points: ten times the odds)"
    out.tables.append(Table(["model", "rating", "95 % CI"], rows, title, numbers=frozenset({1, 2})))
    return [vars(r) for r in found]
