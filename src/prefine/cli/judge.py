"""``prefine judge``: judge two files of answers, or recount verdicts that lie on disk, from any judge."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefine.cli.judge_lines import count_details, count_lines
from prefine.cli.judging import (
    Gates,
    JudgeChoice,
    Stopping,
    asker_of,
    build_judge,
    check_ready,
    pick,
    qualification,
    qualification_file,
    stages,
)
from prefine.cli.options import help_text, options_of, parse
from prefine.errors import ConfigError, printable
from prefine.evaluation.answers import AnswerFile, is_answers, read_answers
from prefine.evaluation.bradley_terry import Game, ratings
from prefine.evaluation.contest import Held, Until, count_held, hold, judge_files, mean_ratings, people_on
from prefine.evaluation.count import Count, count
from prefine.evaluation.interval import Interval, paired_difference
from prefine.evaluation.judge import ByScore, Comparison, Judge, compare, item_of
from prefine.evaluation.multiple import together
from prefine.evaluation.questions import read_questions, with_references
from prefine.evaluation.verdict import Thresholds
from prefine.evaluation.verdict_files import VerdictFile, is_verdicts, match, read_verdicts
from prefine.preferences.source import read_rows
from prefine.runs import read_jsonl, write_json

LEAST_RATED = 30
"""Prompts a file, below which no ratings are given."""
ABOUT = (
    "Judges the answers of a tuned model against a base's: prefine judge BASE.jsonl TUNED.jsonl --judge ... "
    "(our own answers, AlpacaEval's model_outputs, MT-Bench's model_answer). Or counts verdicts on disk: AlpacaEval's annotations, "
    "Arena-Hard's and MT-Bench's pair judgments, our own; several files are compared."
)


@dataclass
class JudgeOptions:
    """Options of ``prefine judge`` beside the judge's."""

    verdicts: list[str] | None = field(default=None, metadata={"help": "Files of verdicts to count."})
    output: str | None = field(default=None, metadata={"help": "File for the numbers as JSON."})
    output_dir: str | None = field(
        default=None, metadata={"help": "Folder for verdicts, answers and summary. Unset: verdicts/BASE-vs-TUNED."}
    )
    questions: str | None = field(default=None, metadata={"help": "The prompts, where the answers' files have none (MT-Bench)."})
    references: str | None = field(default=None, metadata={"help": "MT-Bench's reference answers, for the judge."})
    length_control: str | None = field(default=None, metadata={"help": "AlpacaEval 2's df_gamed.csv: adds its length-controlled win rate."})
    qualify: bool = field(
        default=False, metadata={"help": "Measure the judge on what people judged (--human FILE); later verdicts by it quote that."}
    )
    verbose: bool = field(default=False, metadata={"help": "Print everything that the page shows."})
    dry_run: bool = field(default=False, metadata={"help": "Say how many requests and tokens it would take, and ask nothing."})
    price_in: float = field(default=0.0, metadata={"help": "--dry-run: price of a million prompt tokens."})
    price_out: float = field(default=0.0, metadata={"help": "--dry-run: price of a million answered tokens."})


def main(argv: list[str]) -> int:
    """Judge or count, print, and exit as ``--require`` says."""
    options = (
        options_of(JudgeOptions, "options")
        | options_of(JudgeChoice, "judge")
        | options_of(Stopping, "judge")
        | options_of(Gates, "verdict")
    )
    if not argv or "--help" in argv or "-h" in argv:
        print(help_text("judge BASE.jsonl TUNED.jsonl --judge NAME | judge --verdicts FILE ...", ABOUT, options))
        return 0
    rest: list[str] = []
    given = parse(argv, options, rest=rest)
    own, choice, gates = pick(JudgeOptions, given), pick(JudgeChoice, given), pick(Gates, given)
    thresholds = gates.thresholds()
    until = pick(Stopping, given).stopping(choice, thresholds)
    kinds = [_kind(source) for source in rest]
    if own.verdicts or set(kinds) == {"verdicts"}:
        if choice.judge is not None:
            raise ConfigError("--judge would be ignored: verdicts on disk are judged already; leave it out, or give files of answers")
        if own.qualify:
            raise ConfigError("--qualify asks a judge: give two files of answers and --judge; verdicts on disk are judged already")
        counted = count_files([*rest, *(own.verdicts or [])], own, thresholds, choice.human)
        return gates.exit_code({c.verdict.outcome for c in counted})
    for source, kind in zip(rest, kinds, strict=True):
        if kind != "answers":
            what = "holds verdicts" if kind == "verdicts" else "holds neither answers nor verdicts"
            hint = "; it is a run: judge it with prefine eval" if (Path(source) / "config.yaml").exists() else ""
            raise ConfigError(f"{source}: {what}, and answers are expected (prefine generate, AlpacaEval's or MT-Bench's){hint}")
    if len(rest) not in (1, 2):
        raise ConfigError("judge needs two files of answers (base, then tuned), one for --mode single, or --verdicts FILE ...")
    questions = read_questions(own.questions) if own.questions else []
    if own.references:
        if not questions:
            raise ConfigError("--references belong to questions by their ids: give --questions too")
        questions = with_references(questions, own.references)
    files = [read_answers(source, questions) for source in rest]
    for f in (f for f in files if f.repeated):
        print(
            printable(f"{f.source}: {f.repeated} rows ask what an earlier row asks; they are matched in order, and counted as one prompt")
        )
    if any(not a.match_key.strip() or (a.question.later_turns and not a.question.prompt) for f in files for a in f.answered):
        raise ConfigError("these answers do not say what was asked: give the prompts with --questions")
    models = _names(files)
    judge = build_judge(choice, models)
    if judge is None:
        raise ConfigError("judging answers needs --judge; see --help for the judges there are")
    if own.dry_run:
        _plan(judge, compare(files[0], files[-1])[0], own)
        return 0
    if own.qualify:
        return _qualify(files, judge, choice, models)
    if len(files) == 1:
        return _rate(files[0], judge, own)
    return gates.exit_code(_contest(files[0], files[1], judge, models, own, choice, thresholds, until))


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
    raise ConfigError(f"{first.source} against itself: give the answers of two models")


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
    own: JudgeOptions,
    choice: JudgeChoice,
    thresholds: Thresholds,
    until: Until | None,
) -> set[str]:
    folder = _folder(own, models, judge)
    people = read_verdicts(choice.human) if choice.human and choice.judge != "human" else None
    with stages() as advance:
        votes = len(compare(base, tuned)[0]) * (2 if hasattr(judge, "asks") else 1)
        known = qualification(judge, choice)
        done = lambda n: advance("verdicts", n, votes)  # noqa: E731
        found, summary = judge_files(base, tuned, judge, models, folder, people, thresholds, done, until, known)
    print(printable("\n".join([*count_lines(found, summary), *(count_details(found) if own.verbose else [])])))
    if summary["failure_reasons"]:
        print(printable(f"  without a verdict: {summary['failure_reasons']}"))
    if summary["unmatched"]:
        print(f"  {summary['unmatched']} questions are answered in one file only and were left out")
    _print_ratings(summary["ratings"])
    if people is not None:
        print_agreement(summary["agreement"])
    if own.output:
        Path(own.output).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path(own.output), summary)
        print(f"numbers: {own.output}")
    from prefine.report.run_page import write_judged

    print(printable(f"verdicts, answers and summary: {folder}; report: {write_judged(folder)}"))
    return {found.verdict.outcome}


def _qualify(files: list[AnswerFile], judge: Judge, choice: JudgeChoice, models: tuple[str, str]) -> int:
    """Hold the judge against people on what they judged; what is found is quoted wherever it judges afterwards."""
    import tempfile

    from prefine.evaluation.contest import by_comparison
    from prefine.evaluation.qualify import qualify

    if choice.human is None or choice.judge == "human" or len(files) != 2:
        raise ConfigError("--qualify needs two files of answers, a --judge, and --human FILE: verdicts that people gave on them")
    comparisons, _ = compare(files[0], files[1])
    people = by_comparison(people_on(read_verdicts(choice.human), models), comparisons)
    known = {j.item for j in people}
    labelled = [c for c in comparisons if item_of(c) in known]
    if not labelled:
        raise ConfigError(f"{choice.human}: people judged none of these prompts")
    check_ready(judge)
    with tempfile.TemporaryDirectory() as folder, stages() as advance:
        held = hold(labelled, judge, models, Path(folder), lambda n: advance("verdicts", n, 2 * len(labelled)))
    found = qualify(held.file.counted, people)
    if found is None:
        raise ConfigError(f"{choice.human}: people tie on all of these prompts, which says nothing of a judge")
    path = qualification_file(judge, choice)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"judge": judge.name, "people": choice.human, **found.summary()})
    print(printable("\n  ".join([f"judge {judge.name}", *found.lines(), "later verdicts by this judge quote this"])))
    return 0


def _plan(judge: Any, comparisons: list[Comparison], own: JudgeOptions) -> None:
    asker = asker_of(judge)
    if asker is None:
        raise ConfigError("--dry-run is for --judge openai: other judges cost nothing")
    if isinstance(judge, ByScore):
        asks = judge.scorer.asks([side for c in comparisons for side in c.sides])  # type: ignore[attr-defined]
    else:
        asks, _ = judge.asks(comparisons)
    plan = asker.plan(asks)
    print(
        f"{len(comparisons)} comparisons: {plan.calls} requests ({plan.cached} more are in the cache), about {plan.prompt_tokens:,} prompt "
        f"and {plan.completion_tokens:,} answered tokens (four characters each; answers of 200 assumed)"
    )
    if own.price_in or own.price_out:
        print(f"about {plan.cost(own.price_in, own.price_out):.2f} at {own.price_in:g} and {own.price_out:g} a million tokens")


def _rate(file: AnswerFile, judge: Judge, own: JudgeOptions) -> int:
    """Ratings of one model's answers."""
    if not isinstance(judge, ByScore):
        raise ConfigError("one file of answers can be rated (--mode single, reward-model, python, exact), not compared; give two")
    comparisons, _ = compare(file, file)
    folder = _folder(own, (file.model, file.model), judge)
    with stages() as advance:
        hold(comparisons, judge, (file.model, file.model), folder, lambda n: advance("ratings", n, len(comparisons)))
    table = {file.model: mean_ratings(list(read_jsonl(folder / "verdicts.jsonl")), ("base", "tuned"))["tuned"]}
    failures = sum(r["tuned_wins"] is None for r in read_jsonl(folder / "verdicts.jsonl"))
    write_json(folder / "summary.json", {"judge": judge.name, "ratings": table, "failures": failures})
    _print_ratings(table)
    print(printable(f"{failures} failures; ratings: {folder}"))
    return 0


def _print_ratings(table: dict[str, dict[str, Any]]) -> None:
    if not table:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(title="mean scores, 95 % interval")
    shown.add_column("")
    for model in table:
        shown.add_column(printable(model), justify="right")
    for name in next(iter(table.values())):
        cells = [f"{i['estimate']:.2f} [{i['low']:.2f}, {i['high']:.2f}]" for i in (side[name] for side in table.values())]
        shown.add_row(Text(printable(name)), *cells)
    Console().print(shown)


def print_agreement(found: dict[str, Any] | None) -> None:
    """How far judge and people agree."""
    if found is None:
        print("  the people's verdicts are on none of these prompts: no agreement to show")
        return
    same, untied, kappa = found["same"], found["same_untied"], found["kappa"]
    parts = [f"judge and people agree on {Interval(**same).percent()} of {same['count']} prompts"]
    if untied:
        parts.append(f"without ties {Interval(**untied).percent()}")
    print(f"  {', '.join(parts)}; Cohen's kappa {kappa['estimate']:.2f} [{kappa['low']:.2f}, {kappa['high']:.2f}]")


def count_files(sources: list[str], own: JudgeOptions, thresholds: Thresholds, human: str | None = None) -> list[Count]:
    """Count files of verdicts, compare them, print and write the numbers; one file with what people said beside it."""
    files = [read_verdicts(source) for source in sources]
    heads: list[dict[str, Any]] = [{} for _ in files]
    if human is not None:
        if len(files) > 1:
            raise ConfigError("--human stands beside one file of a judge's verdicts; give one")
        people = people_on(read_verdicts(human), files[0].models)
        one, heads[0] = count_held(Held(files[0]), people, (), (), (), thresholds)
        counts = [one]
    else:
        counts = [count(file, thresholds=thresholds, comparisons=len(files)) for file in files]
    for found, head in zip(counts, heads, strict=True):
        print(printable("\n".join([f"{found.source}:", *count_lines(found, head), *(count_details(found) if own.verbose else [])])))
        if human is not None:
            print_agreement(head["agreement"])
    controlled = [_length_controlled(source, own.length_control) for source in sources] if own.length_control else []
    differences = [_difference(files[0], other, together(len(files) - 1)) for other in files[1:]]
    for line in (d["sentence"] for d in differences):
        print(printable(line))
    enough = all(len({j.cluster for j in f.counted}) >= LEAST_RATED for f in files) and len({f.models for f in files}) == len(files)
    table = _ratings(files) if len(files) > 1 and enough else []
    if own.output:
        Path(own.output).parent.mkdir(parents=True, exist_ok=True)
        summaries = [c.summary() | head for c, head in zip(counts, heads, strict=True)]
        for summary, interval in zip(summaries, controlled, strict=False):
            summary["length_controlled_win_rate"] = vars(interval)
        write_json(Path(own.output), {"files": summaries, "differences": differences, "ratings": table})
        print(f"numbers: {own.output}")
    return counts


def _length_controlled(source: str, weights: str) -> Interval:
    from prefine.evaluation.length_controlled import length_controlled, read_gamed

    found = length_controlled([row for _, row in read_rows(source)], read_gamed(weights))
    print(printable(f"{source}: length-controlled as AlpacaEval 2 {found.percent()}"))
    return found


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


def _ratings(files: list[VerdictFile]) -> list[dict[str, Any]]:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    found = ratings([Game(f.models[0], f.models[1], j.win, j.cluster) for f in files for j in f.votes])
    table = Table(title="Bradley-Terry ratings (400 points: ten times the odds)")
    for name in ("model", "rating", "95 % interval"):
        table.add_column(name, justify="left" if name == "model" else "right")
    for r in found:
        told = f"[{r.low:.0f}, {r.high:.0f}]" if r.high > r.low else "not to be told: all verdicts are alike"
        table.add_row(Text(printable(r.model)), f"{r.rating:.0f}", told)
    Console().print(table)
    return [vars(r) for r in found]
