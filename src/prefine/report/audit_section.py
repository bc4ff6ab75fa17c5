"""What the audit found, as a section of a page: findings, lengths with plots, words, languages."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from prefine.report.page import histogram

GRADES = {"fix": "must be fixed", "look": "look at it", "fine": "fine"}


def audit_section(audit: Mapping[str, Any], explain: Mapping[str, tuple[str, str]]) -> str:
    """HTML of an audit's summary.

    Args:
        audit: as ``Audit.summary`` gives it (or ``data.json`` holds it under ``audit``).
        explain: check -> (why it matters, what to do).
    """
    found = sorted(audit["findings"], key=lambda f: list(GRADES).index(f["grade"]))
    rows = "".join(_finding(f, explain) for f in found if f["grade"] != "fine" or f["count"])
    quiet = ", ".join(escape(f["check"]) for f in found if f["grade"] == "fine" and not f["count"])
    grade = audit["grade"]
    parts = [
        f"<section><h2>Data: {escape(audit['source'])}</h2>",
        f"<p>{audit['rows']:,} rows, {audit['records']:,} usable, {audit['distinct_prompts']:,} distinct prompts. "
        f'Grade: <span class="{grade}">{GRADES[grade]}</span>.</p>',
        '<table class="findings"><thead><tr><th>grade</th><th>check</th><th>found</th></tr></thead>',
        f"<tbody>{rows}</tbody></table>",
        f'<p class="soft">Nothing found: {quiet}.</p>' if quiet else "",
        _lengths(audit["lengths"]),
        *(histogram(name, h["edges"], h["counts"]) for name, h in audit["histograms"].items()),
    ]
    if audit["smallest_max_length"]:
        kept = ", ".join(f"{length:,} keeps {escape(share)} whole" for share, length in audit["smallest_max_length"].items())
        parts.append(f"<p>max_length: {kept}.</p>")
    for side, words in audit["words"].items():
        if words:
            parts.append(f"<p>Words that speak most for {escape(side)}: {', '.join(map(escape, words))}.</p>")
    if audit["languages"]:
        shown = ", ".join(f"{escape(name)} {100 * share:.0f} %" for name, share in list(audit["languages"].items())[:6])
        parts.append(f"<p>Languages: {shown}.</p>")
    return "\n".join([*filter(None, parts), "</section>"])


def _finding(found: Mapping[str, Any], explain: Mapping[str, tuple[str, str]]) -> str:
    why, fix = explain.get(found["check"], ("", ""))
    more = "" if found["grade"] == "fine" else f'<br><span class="soft">Why: {escape(why)}. To do: {escape(fix)}.</span>'
    return (
        f'<tr><td class="{found["grade"]}">{GRADES[found["grade"]]}</td><td class="check">{escape(found["check"])}</td>'
        f'<td class="found">{escape(found["detail"])}{more}</td></tr>'
    )


def _lengths(lengths: Mapping[str, Mapping[str, float]]) -> str:
    if not lengths:
        return ""
    names = list(next(iter(lengths.values())))
    head = "".join(f'<th class="number">{escape(n)}</th>' for n in names)
    body = "".join(
        f"<tr><td>{escape(row)}</td>" + "".join(f'<td class="number">{v:,.0f}</td>' for v in values.values()) + "</tr>"
        for row, values in lengths.items()
    )
    return f'<div class="wide"><table><thead><tr><th>lengths</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
