"""One HTML page that opens from disk with no network, in light and dark, wide and narrow, on paper.

Templates, style and script lie in ``templates/``. Jinja escapes every text that is not markup of our own; the page's content
security policy knows its style and its scripts by their hashes, so that a model's words that got through as markup
would still not run, and nothing is fetched.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from prefine.errors import printable
from prefine.redaction import redact
from prefine.report.tables import Table, cell

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from prefine.report.theme import Chart

MOST_ROWS = 60
"""Of a chart's numbers in the table below it."""
INVISIBLE = {c: f"\\u{c:04x}" for c in (0x61C, 0x200B, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF)}
"""Signs that turn text around, or hide in it; a page shows their escapes. Joiners stay: scripts and emoji need them."""
CONTROLS = INVISIBLE | {c: "\ufffd" for c in (*range(32), *range(127, 160)) if chr(c) not in "\n\t"}
"""And control characters become the sign for what cannot be shown."""
HIDDEN = ("place", "kind", "seed")
"""Columns of a chart's rows that only place or colour its marks."""


@dataclass(frozen=True)
class Figure:
    """A chart as a page shows it.

    Attributes:
        about: what it shows, in words; spec: Vega-Lite as JSON that may stand in a script element; table: its numbers.
    """

    title: str
    about: str
    spec: Markup
    table: Table


def figure(chart: Chart | None) -> Figure | None:
    """A chart for a page; None of nothing."""
    if chart is None:
        return None
    from markupsafe import Markup

    from prefine.report.plots import rows_of
    from prefine.report.theme import for_page

    spec = for_page(chart)
    # ASCII escapes and no <, > or &: whatever a model wrote cannot end the script element that holds it.
    seen = json.dumps(spec, allow_nan=False, ensure_ascii=False).translate({c: f"\\{sign}" for c, sign in INVISIBLE.items()})
    text = json.dumps(json.loads(seen))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    title = str(chart.title)
    return Figure(title, printable(str(spec["description"])), Markup(text), _numbers(title, rows_of(chart)))


def figures(charts: Sequence[Chart | None]) -> list[Figure]:
    """Those that there are."""
    return [f for chart in charts if (f := figure(chart)) is not None]


def _numbers(title: str, rows: list[dict[str, Any]]) -> Table:
    """A chart's rows as a table: series side by side where they share what they are over."""
    if rows and "series" in rows[0] and len(rows[0]) == 3:
        over, value = (k for k in rows[0] if k != "series")
        by: dict[Any, dict[str, Any]] = {}
        for row in rows:
            by.setdefault(row[over], {})[row["series"]] = row[value]
        names = list(dict.fromkeys(str(r["series"]) for r in rows))
        head = [over, *(names if len(names) > 1 else [value])]
        cells = [[cell(at), *(cell(found.get(n)) for n in names)] for at, found in sorted(by.items())]
        if len(names) > 1:
            title = f"{title}: {value}"
    else:
        head = [k for k in rows[0] if k not in HIDDEN] if rows else []
        cells = [[cell(row[k]) for k in head] for row in rows]
    step = -(-len(cells) // MOST_ROWS) if cells else 1
    note = f"Every {step}th of {len(cells)} rows." if step > 1 else ""
    return Table(head, cells[::step], title, note)


def render(template: str, /, **values: Any) -> str:
    """A template's HTML."""
    return _environment().get_template(template).render(**values)


def page(title: str, body: str) -> str:
    """A whole page; ``body`` is HTML whose texts are escaped already. What draws charts is in it only where there are some.

    Secrets are left out here, and not where the page is written: the policy names each script by its hash, as it is.
    """
    from markupsafe import Markup

    scripts = [_file("page.js")]
    if '<script type="application/json" class="spec">' in body:
        scripts.insert(0, _vega())
    style = _file("page.css")
    allowed = " ".join(_sha256(script) for script in scripts)
    policy = f"default-src 'none'; script-src {allowed}; style-src {_sha256(style)}; base-uri 'none'; form-action 'none'"
    return render(
        "page.html",
        title=redact(title),
        policy=Markup(policy),
        style=Markup(style),
        scripts=[Markup(s) for s in scripts],
        body=Markup(redact(body.translate(INVISIBLE))),
    )


def picture_file(charts: Sequence[Chart]) -> str:
    """The first of some charts as an SVG file of its own, on white paper, for pages written elsewhere."""
    import io

    out = io.StringIO()
    charts[0].properties(width=640, background="white").save(out, format="svg")
    return out.getvalue()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(
        loader=PackageLoader("prefine.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize(),
    )
    found.globals["sentence"] = lambda text: str(text)[:1].upper() + str(text)[1:]
    return found


def _finalize() -> Callable[[Any], Any]:
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        """Control characters of untrusted text become the sign for what cannot be shown; invisible ones their escapes."""
        return value.translate(CONTROLS) if isinstance(value, str) and not isinstance(value, Markup) else value

    return finalize


@cache
def _file(name: str) -> str:
    return (resources.files("prefine.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed in one script, from an installed package."""
    import vl_convert

    script = str(vl_convert.javascript_bundle())  # type: ignore[call-arg]
    assert "</script" not in script.lower()
    assert "<!--" not in script
    return script


def _sha256(text: str) -> str:
    """As a content security policy names a text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
