"""What the audit found, as a section of a page or a page of its own: findings, lengths with charts, words, languages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefine.report.page import figures, page, render
from prefine.report.plots import histogram
from prefine.report.tables import Table

GRADES = {"fix": "must be fixed", "look": "look at it", "fine": "fine"}
Explanations = Mapping[str, tuple[str, str]]


def audit_section(audit: Mapping[str, Any], explain: Explanations, level: int = 2) -> str:
    """HTML of an audit's summary.

    Args:
        audit: as ``Audit.summary`` gives it (or ``data.json`` holds it under ``audit``).
        explain: check -> (why it matters, what to do).
        level: of its heading.
    """
    found = sorted(audit["findings"], key=lambda f: list(GRADES).index(f["grade"]))
    lengths = audit["lengths"]
    names = ["maximum" if name == "most" else name for name in next(iter(lengths.values()), {})]
    drawn = [
        histogram(name, {name: (h["edges"], h["counts"])}, "tokens" if "token" in name else "characters", log=True)
        for name, h in audit["histograms"].items()
    ]
    return render(
        "audit.html",
        audit=audit,
        level=level,
        grades=GRADES,
        findings=[_finding(f, explain) for f in found if f["grade"] != "fine" or f["count"]],
        quiet=[f["check"] for f in found if f["grade"] == "fine" and not f["count"]],
        lengths=Table(["lengths", *names], [[row, *(f"{v:,.0f}" for v in values.values())] for row, values in lengths.items()]),
        figures=figures(drawn),
        languages=[f"{name} {100 * share:.0f} %" for name, share in list(audit["languages"].items())[:6]],
        kept=[f"{length:,} keeps {share} without truncation" for share, length in (audit["smallest_max_length"] or {}).items()],
    )


def audit_page(audit: Mapping[str, Any], explain: Explanations) -> str:
    """The same as a page of its own."""
    return page(f"Audit of {audit['source']}", audit_section(audit, explain, 1))


def _finding(found: Mapping[str, Any], explain: Explanations) -> dict[str, str]:
    why, fix = explain.get(found["check"], ("", ""))
    more = {"why": why, "fix": fix} if found["grade"] != "fine" else {"why": "", "fix": ""}
    return {"grade": found["grade"], "check": found["check"], "detail": found["detail"]} | more
