"""What the terminal shows of an evaluation: five lines, and the rest where it is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prefine.evaluation.count import Count
from prefine.evaluation.interval import Interval, least_clusters

if TYPE_CHECKING:
    from prefine.evaluation.evaluate import Evaluation


def evaluation_lines(found: Evaluation, verbose: bool = False) -> list[str]:
    """An evaluation's lines."""
    if found.count is not None:
        return [*count_lines(found.count, found.summary), *(count_details(found.count) if verbose else [])]
    from prefine.evaluation.conclusion import HEADS, Conclusion

    assert isinstance(found.found, Conclusion)
    first, *rest = found.found.parts
    return [f"{HEADS[found.found.outcome]}: {first}", *(f"  {part}" for part in rest)]


def agreement_line(found: Mapping[str, Any] | None) -> str:
    """How far judge and people agree."""
    if found is None:
        return "  the people's verdicts are on none of these prompts: no agreement to show"
    same, untied, kappa = found["same"], found["same_untied"], found["kappa"]
    parts = [f"judge and people agree on {Interval(**same).percent()} of {same['count']} prompts"]
    if untied:
        parts.append(f"without ties {Interval(**untied).percent()}")
    return f"  {', '.join(parts)}; Cohen's kappa {kappa['estimate']:.2f} [{kappa['low']:.2f}, {kappa['high']:.2f}]"


def count_lines(found: Count, summary: Mapping[str, Any]) -> list[str]:
    """Verdict; win rate with its interval and n; the judge and its quality; what changed; what to do next."""
    verdict = found.verdict
    whose = "the judge's: " if summary.get("with_people") else ""
    wins = f"{whose}{found.wins} wins, {found.losses} losses, {found.draws} ties"
    lines = ["; ".join([verdict.words, *verdict.harms]), f"  {verdict.numbers}; {wins}"]
    quality = _quality(found, summary)
    if summary.get("judge") or quality:
        name = f"judge {summary['judge']}" if summary.get("judge") else "the judge"
        lines.append(f"  {'; '.join([name, *quality])}")
    lines += [f"  {found.other.words}"] if found.other else []
    changed = _changed(found, summary)
    if changed:
        lines.append(f"  {'; '.join(changed)}")
    lines += [f"  {words}" for words in _ways(summary)]
    todo = _next(found)
    return [*lines, f"  next: {todo}"] if todo else lines


def _quality(found: Count, summary: Mapping[str, Any]) -> list[str]:
    out = []
    if found.failed_votes:
        asked = found.failed_votes + found.wins + found.losses + found.draws + found.left_out
        left = f", {found.left_out} more left out for want of their other order" if found.left_out else ""
        out.append(f"{found.failed_votes} of {asked} verdicts failed{left}")
    qualified = summary.get("qualified")
    if qualified:
        out.append(f"agrees with people on {Interval(**qualified['accuracy']).percent()} of {qualified['accuracy']['clusters']} prompts")
    for interval, text in (
        (found.quality.flips, "flips with the order in"),
        (found.quality.first_wins, "prefers what it sees first in"),
        (found.quality.longer_wins, "prefers the longer in"),
    ):
        if interval is not None and interval.clusters >= least_clusters(0.5):
            out.append(f"{text} {100 * interval.estimate:.0f} %")
    return out


def _changed(found: Count, summary: Mapping[str, Any]) -> list[str]:
    out = []
    if summary.get("drift"):
        out.append(f"KL {summary['drift']['per_token']['estimate']:.2g} nats/token")
    if found.mean_lengths is not None:
        out.append(f"mean length {found.mean_lengths[0]:.0f} to {found.mean_lengths[1]:.0f} characters")
    if found.at_equal_style is not None:
        out.append(f"at equal style {found.at_equal_style.percent()}")
    elif found.at_equal_length is not None:
        out.append(f"at equal length {found.at_equal_length.percent()}")
    return out


def _ways(summary: Mapping[str, Any]) -> list[str]:
    """How verdicts were had, where it was not by asking a judge about all prompts."""
    out = []
    looked = summary.get("until_decided")
    if looked:
        from prefine.evaluation.sequence import Looked

        out.append(Looked(looked["decision"], Interval(**looked["interval"]), looked["available"]).words())
    if summary.get("too_few_people"):
        out.append(f"people judged {summary['too_few_people']} of these prompts, too few to count (20); the verdict is the judge's alone")
    powered = summary.get("with_people")
    if powered:
        people, judge = (Interval(**powered[side]) for side in ("people", "judge"))
        out.append(
            f"people alone {people.percent()} on {people.clusters} prompts, the judge alone {judge.percent()} on {judge.clusters}; "
            f"it was worth {powered['worth']:.0f} more prompts judged by people, if theirs are a random part of all"
        )
    return out


def _next(found: Count) -> str:
    verdict = found.verdict
    if verdict.outcome not in ("inconclusive", "too few prompts"):
        return ""
    here, rate = verdict.win_rate.clusters, verdict.win_rate.estimate
    if found.needed is None or found.wins + found.losses == 0:
        return f"no number of prompts would call {100 * rate:.1f} % better or worse" if verdict.win_rate.clusters >= 30 else ""
    if found.needed <= here:
        return ""
    most = f"{found.needed_most:,}" if found.needed_most is not None else "any number"
    return f"{found.needed:,} prompts in all would show it, were {100 * rate:.1f} % the truth; by the interval's end up to {most}"


def count_details(found: Count) -> list[str]:
    """What stands behind the five lines."""
    lines = [
        f"  {found.failures} rows without a verdict; "
        + (f"standard error {100 * found.standard_error:.2f} points; " if math.isfinite(found.standard_error) else "")
        + f"rounded to win or loss {100 * found.discrete:.2f} %"
        + ("" if found.p_value is None else f"; sign test p = {found.p_value:.2g}")
    ]
    if found.at_equal_length is not None:
        lines.append(f"  at equal length {found.at_equal_length.percent()} (length alone, not AlpacaEval's length-controlled rate)")
    if found.at_equal_style is not None:
        counts = ", ".join(f"{name} {value:+.2f}" for name, value in found.style.items() if value)
        lines.append(f"  at equal style {found.at_equal_style.percent()}; log-odds a standard deviation: {counts}")
    for name, interval in found.by_length.items():
        lines.append(f"  {name}: {interval.percent()} of {interval.count}")
    quality = found.quality
    for rate, text in (
        (quality.longer_wins, "the longer response wins"),
        (quality.first_wins, "the response shown first wins"),
        (quality.flips, "verdicts flip with the order in"),
    ):
        if rate is not None:
            lines.append(f"  judge: {text} {rate.percent()}")
    return [*lines, *(f"  {name}: {interval.percent()}" for name, interval in found.categories.items())]


def summary_details(s: Mapping[str, Any]) -> list[str]:
    """What an evaluation of a run measured beside verdicts."""
    out = []
    if s["failure_reasons"]:
        out.append(f"  without a verdict: {s['failure_reasons']}")
    for f in s["degeneration"]:
        change = f["change"]
        mark = "  broken" if f["broken"] else ""
        out.append(f"  {f['name']}: {f['base']:.3g} to {f['tuned']:.3g}, change [{change['low']:+.3g}, {change['high']:+.3g}]{mark}")
    if s["drift"]:
        kl = s["drift"]["per_token"]
        out.append(f"  KL {kl['estimate']:.4f} [{kl['low']:.4f}, {kl['high']:.4f}] nats/token, along the tuned model's responses")
    if s["held_out_pairs"]:
        p = s["held_out_pairs"]
        parts = [f"{n} {p[n]['before']:.1f} to {p[n]['after']:.1f}" for n in ("chosen", "rejected")]
        out.append(f"  log-probs of held-out responses: {', '.join(parts)} nats")
    if s.get("held_out_labels"):
        p = s["held_out_labels"]
        parts = [f"{p[n]['count']} {n} {p[n]['before']:.1f} to {p[n]['after']:.1f}" for n in ("wanted", "unwanted") if n in p]
        out.append(f"  log-probs of held-out responses: {', '.join(parts)} nats")
        if right := p.get("accuracy"):  # summaries of earlier versions have none
            out.append(f"  wanted responses that gained and unwanted ones that lost: {Interval(**right).percent()}")
    return out


def skill_lines(s: Mapping[str, Any]) -> list[str]:
    """Perplexities and skills, which somebody asked for."""
    out = [f"  perplexity of {p['source']}: {p['before']:.3g} to {p['after']:.3g}" for p in s["perplexity"]]
    for skill in s["skills"]:
        low, high = (100 * skill["change"][k] for k in ("low", "high"))
        out.append(
            f"  {skill['name']}: {100 * skill['before']:.1f} % to {100 * skill['after']:.1f} % "
            f"[{low:+.1f}, {high:+.1f}] points, {skill['state']}"
            + ("" if skill["p_value"] is None else f"; McNemar p = {skill['p_value']:.2g}")
        )
    return out
