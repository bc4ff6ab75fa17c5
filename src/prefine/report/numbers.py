"""What evaluations measured, as tables. Each quantity stands once: what all share in one column, what a judge says in its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prefine.report.evaluation_files import EvaluationFiles, Summary
from prefine.report.tables import Table, points, rate, sign_words, signed, words_of

STATES = {"kept": "no worse", "broken": "worse", "not shown": "inconclusive", "inconclusive": "inconclusive"}
QUALITY = {
    "flips": "verdicts that flip with the order",
    "first_wins": "verdicts won by the response shown first",
    "longer_wins": "verdicts won by the longer response",
}


def verdict_tables(found: Sequence[EvaluationFiles]) -> list[Table]:
    """What was concluded: the sentences that do not head the page, and the judges side by side."""
    rows = [[e.label, str(e.summary["sentence"])] for e in found[1:]]
    further = Table(["evaluation", "verdict"], rows, "Further evaluations", prose=True)
    return [t for t in (further, _verdicts([e for e in found if e.judged])) if t]


def number_tables(found: Sequence[EvaluationFiles]) -> list[Table]:
    """What was measured beside verdicts; empty tables are left out."""
    several = sum(bool(e.summary.get("win_rate_by_length")) for e in found) > 1  # one is a chart, which holds its numbers
    tables = [
        *shared(found, _learning, "What was learned"),
        *shared(found, _skills, "Skills", 2),
        *shared(found, _perplexity, "Perplexity", 2),
        *shared(found, _degeneration, "Signs of degeneration", 2),
        *shared(found, _drift, "Drift from the base"),
        *shared(found, _held_out, "Held-out pairs", 2),
        _by_name(found, "categories", "category"),
        *([_by_name(found, "win_rate_by_length", "length")] if several else []),
        _ratings(found),
    ]
    return [t for t in tables if t]


def _verdicts(found: Sequence[EvaluationFiles]) -> Table:
    """What each judge said, a column an evaluation."""
    columns = [_verdict_rows(e.summary) for e in found]
    names = list(dict.fromkeys(name for rows in columns for name in rows))
    rows = [[name, *(rows.get(name, "") for rows in columns)] for name in names]
    return Table(["", *(e.label for e in found)], [r for r in rows if any(r[1:])], "Verdicts", "In brackets: 95 % CI.")


def _verdict_rows(s: Summary) -> dict[str, str]:
    rated, agreed = s.get("win_rate") or {}, s.get("agreement")
    rows = {
        "outcome": words_of(str(s.get("outcome", ""))),
        "win rate": rate(s.get("win_rate")),
        "n, verdicts and prompts": f"{rated['count']:,}, {rated['clusters']:,}" if "clusters" in rated else "",
        "wins, losses, ties": f"{s['wins']}, {s['losses']}, {s['draws']}" if "wins" in s else "",
        "failed verdicts": str(s.get("failed_votes") or ""),
        "left out, one order only": str(s.get("left_out") or ""),
        "sign test": f"p = {s['p_value']:.2g}" if s.get("p_value") is not None else "",
        "win rate at equal length": rate(s.get("length_only_win_rate")),
        "win rate at equal style": rate(s.get("style_controlled_win_rate")),
        "mean length, characters": " to ".join(f"{n:.0f}" for n in s.get("mean_lengths") or ()),
    }
    rows |= {words: rate((s.get("judge_quality") or {}).get(key)) for key, words in QUALITY.items()}
    if agreed:
        rows |= {"agreement with people": rate(agreed["same"]), "Cohen's kappa with people": signed(agreed["kappa"])}
    return rows


def shared(found: Sequence[EvaluationFiles], draw: Callable[[Summary], Table], title: str, telling: int | None = None) -> list[Table]:
    """One table of all evaluations: a row that all of them share stands once, one that differs once for each value it has.

    Args:
        telling: how many cells after the first tell rows apart; unset: all. Intervals of the same responses may differ in the last digit.
    """
    drawn = [(e.name, table) for e in found if (table := draw(e.summary))]
    rows: dict[str, dict[tuple[str, ...], tuple[list[str], list[str]]]] = {}
    for name, table in drawn:
        for label, *cells in table.rows:
            rows.setdefault(label, {}).setdefault(tuple(cells[:telling]), ([], cells))[0].append(name)
    if not drawn:
        return []
    first = max((table for _, table in drawn), key=lambda t: len(t.head))
    out = [
        [label if len(names) == len(drawn) else f"{label} ({', '.join(names)})", *cells, *[""] * (len(first.head) - 1 - len(cells))]
        for label, values in rows.items()
        for names, cells in values.values()
    ]
    return [Table(first.head, out, title, first.note, first.prose)]


def learned(s: Summary) -> tuple[str, Mapping[str, Any]] | None:
    """What a run learned of held-out preferences, and what that is called: of single responses with labels it is an AUC."""
    found = s.get("learning")
    if not found or s.get("trained_on"):
        return None
    return ("AUC of held-out labels" if s.get("held_out_labels") else "reward accuracy"), found["accuracy"]


def _learning(s: Summary) -> Table:
    found = s.get("learning")
    if not found:
        return Table([], [])
    between = found.get("margin_interval")
    interval = f" [{between['low']:+.3g}, {between['high']:+.3g}]" if between else ""
    margin = f"{found['margin']:+.3g}{interval} {found['unit']}, SD {found['spread']:.3g}; up to {found['floor']:.2g} counts as no change"
    rows = [[found["measure"], f"{rate(found['accuracy'])}, n = {found['accuracy']['count']}"]]
    of = "labelled responses" if s.get("held_out_labels") else "pairs"
    return Table(["", f"held-out {of}, in brackets 95 % CI"], [*rows, ["mean margin", margin]])


def _skills(s: Summary) -> Table:
    rows = [
        [k["name"], f"{100 * k['before']:.1f} %", f"{100 * k['after']:.1f} %", points(k["change"]), STATES.get(k.get("state", ""), "")]
        for k in s.get("skills") or ()
    ]
    return Table(["skill", "base", "tuned", "change, points", "no worse?"], rows)


def _perplexity(s: Summary) -> Table:
    rows = [
        [p["source"], f"{p['before']:.4g}", f"{p['after']:.4g}", f"log {signed(p['change'])} nats/token"] for p in s.get("perplexity") or ()
    ]
    return Table(["text", "base", "tuned", "change"], rows)


def _degeneration(s: Summary) -> Table:
    found = s.get("degeneration") or ()
    rows = [
        [sign_words(f["name"]), f"{f['base']:.3g}", f"{f['tuned']:.3g}", signed(f["change"]), "worse" if f["broken"] else ""] for f in found
    ]
    if not any(r[-1] for r in rows):
        rows = [r[:-1] for r in rows]
    about = "; ".join(f"{sign_words(f['name'])}: {sign_words(f['about'])}" for f in found)
    return Table(["sign", "base", "tuned", "change", "shown?"][: len(rows[0]) if rows else 0], rows, note=f"{about}." if about else "")


def _drift(s: Summary) -> Table:
    drift = s.get("drift")
    kinds = (("per_token", "KL to the base, nats/token"), ("per_answer", "KL to the base, nats/response"))
    return Table(["", "mean"], [[words, signed(drift[key])] for key, words in kinds] if drift else [])


def _held_out(s: Summary) -> Table:
    pairs, rows = s.get("held_out_pairs") or s.get("held_out_labels") or {}, []
    for name in ("chosen", "rejected", "wanted", "unwanted"):
        if name in pairs:
            p = pairs[name]
            rows.append(
                [f"log-prob of {name}, nats", f"{p['before']:.1f}", f"{p['after']:.1f}", signed(p["change"]) if "change" in p else ""]
            )
    if "chosen_likelier_before" in pairs:
        shares = [100 * pairs[f"chosen_likelier_{when}"] for when in ("before", "after")]
        rows.append(["chosen likelier than rejected", *(f"{share:.1f} %" for share in shares), ""])
    if "accuracy" in pairs:
        rows.append(["wanted gained, unwanted lost", "", rate(pairs["accuracy"]), ""])
    return Table(["", "base", "tuned", "change"], rows)


def _ratings(found: Sequence[EvaluationFiles]) -> Table:
    rows = []
    for e in found:
        ratings: Mapping[str, Mapping[str, Any]] = e.summary.get("ratings") or {}
        names = list(next(iter(ratings.values()), {}))
        for name in names:
            sides = [f"{side[name]['estimate']:.2f} [{side[name]['low']:.2f}, {side[name]['high']:.2f}]" for side in ratings.values()]
            rows.append([e.label if name == "all" else f"{e.label}: {name}", *sides])
    return Table(["judge", "base", "tuned"], [r for r in rows if len(r) == 3], "Mean scores, 95 % CI")


def _by_name(found: Sequence[EvaluationFiles], key: str, head: str) -> Table:
    """Win rates of parts, a column an evaluation."""
    having = [e for e in found if e.summary.get(key)]
    names = list(dict.fromkeys(name for e in having for name in e.summary[key]))
    cells = [[_part(e.summary[key].get(name)) for e in having] for name in names]
    rows = [[name, *row] for name, row in zip(names, cells, strict=True)]
    return Table([head, *(e.label for e in having)], rows, f"Win rate by {head}" if rows else "")


def _part(interval: Mapping[str, Any] | None) -> str:
    return f"{rate(interval)}, n = {interval['count']}" if interval else ""
