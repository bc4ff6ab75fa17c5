"""One HTML page that opens from disk with no network, in light and dark, wide and narrow."""

from __future__ import annotations

import base64
import hashlib
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --paper: #ffffff; --line: #d0d7de; --bar: #2f6feb;
  --fix: #b42318; --look: #8a5a00; --fine: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa4af; --paper: #0f1318; --line: #30363d; --bar: #6ea8fe;
  --fix: #ff8a80; --look: #f2c14e; --fine: #6fdd8b; } }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
h2, p, td.found { overflow-wrap: anywhere; } td.fix, td.look, td.fine, td.check { white-space: nowrap; }
@media (max-width: 40rem) { table.findings tr, table.findings td { display: block; border: 0; padding: .1rem 0; }
  table.findings thead { display: none; } table.findings tr { padding: .5rem 0; border-bottom: 1px solid var(--line); } }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; }
.fix { color: var(--fix); font-weight: 600; } .look { color: var(--look); font-weight: 600; } .fine { color: var(--fine); }
ol.plain { list-style: none; margin: 0; padding: 0; } section table { margin: .5rem 0 1rem; }
.soft { color: var(--soft); } .wide { overflow-x: auto; }
figure { margin: 1rem 0; } figcaption { color: var(--soft); } svg { width: 100%; height: auto; max-width: 40rem; }
svg rect { fill: var(--bar); } svg rect.base { fill: var(--soft); } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .axis { stroke: var(--line); } svg .mark { stroke: var(--soft); stroke-dasharray: 3 3; }
svg .line { fill: none; stroke: var(--bar); stroke-width: 1.8; } svg .second { stroke: var(--look); stroke-dasharray: 6 3; }
svg .better { fill: var(--fine); stroke: var(--fine); } svg .worse { fill: var(--fix); stroke: var(--fix); }
svg .unsure { fill: var(--look); stroke: var(--look); }
svg .s0 { --own: #0072b2; } svg .s1 { --own: #d55e00; } svg .s2 { --own: #009e73; } svg .s3 { --own: #cc79a7; } svg .s4 { --own: #b58900; }
svg .s5 { --own: #56b4e9; }
svg .series line, svg .series polyline { fill: none; stroke: var(--own); stroke-width: 2; }
svg .series .dashed { stroke-dasharray: 5 4; }
svg .series circle, svg .series rect, svg .series path { fill: var(--own); } svg .series .faint { opacity: .35; }
svg .series text { fill: var(--ink); font-size: 12px; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: .5rem 1rem; } .curves figure { margin: 0; }
.curves svg[viewBox^="0 0 600"] text { font-size: 22px; }
.verdict { font-size: 1.25rem; font-weight: 600; border-left: .4rem solid var(--look); padding-left: .8rem; overflow-wrap: anywhere; }
.verdict.better { border-color: var(--fine); } .verdict.worse, .verdict.but { border-color: var(--fix); }
form.filter { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: end; position: sticky; top: 0; z-index: 1;
  background: var(--paper); padding: .5rem 0; border-bottom: 1px solid var(--line); }
form.filter[hidden] { display: none; } form.filter label { display: flex; flex-direction: column; font-size: .85rem; color: var(--soft); }
form.filter input, form.filter select { font: inherit; color: var(--ink); background: var(--paper); border: 1px solid var(--soft);
  border-radius: .3rem; padding: .3rem .5rem; min-width: 0; }
:focus-visible { outline: 3px solid var(--bar); outline-offset: 2px; }
article { border-bottom: 1px solid var(--line); padding: .6rem 0; content-visibility: auto; contain-intrinsic-size: auto 12rem; }
article h3 { font-size: 1rem; margin: .2rem 0; } .said { white-space: pre-wrap; overflow-wrap: anywhere; margin: .2rem 0; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
@media (max-width: 40rem) { .two { grid-template-columns: 1fr; gap: .3rem; } }
.two h4 { margin: .2rem 0; font-size: .85rem; color: var(--soft); }
mark { color: inherit; background: color-mix(in srgb, var(--look) 25%, transparent); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: color-mix(in srgb, var(--line) 35%, transparent); padding: .6rem; }
"""


def page(title: str, body: str, script: str = "") -> str:
    """A whole page; ``body`` is HTML whose texts are escaped already.

    No script runs but ``script``, which the page's policy knows by its hash: a model's words that got
    through as markup would still not run, and nothing is fetched.
    """
    allowed = f"script-src '{_sha256(script)}'; " if script else ""
    policy = f"default-src 'none'; {allowed}style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n"
        + (f"<script>{script}</script>" if script else "")
        + "</body></html>\n"
    )


def picture_file(figure: str) -> str:
    """The first picture of a figure as an SVG file of its own, for pages written elsewhere."""
    start, end = figure.index("<svg "), figure.index("</svg>") + len("</svg>")
    head, body = figure[start:end].split(">", 1)
    paper = '<rect width="100%" height="100%" style="fill: var(--paper)"></rect>'
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{STYLE}</style>{paper}{body}\n'


def _sha256(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def histogram(name: str, edges: list[int], counts: list[int]) -> str:
    """Bars over lengths on a logarithmic scale, as an inline picture.

    Args:
        edges: shape (bars + 1,); counts: shape (bars,).
    """
    width, height, foot = 600, 160, 18
    most, step = max(counts) or 1, width / max(1, len(counts))
    bars = []
    for i, count in enumerate(counts):
        tall = (height - foot) * count / most
        low, high = edges[i], edges[i + 1] - 1
        label = f"{low:,}: {count:,}" if low == high else f"{low:,} to {high:,}: {count:,}"
        bars.append(
            f'<rect x="{i * step:.1f}" y="{height - foot - tall:.1f}" width="{max(1.0, step - 1):.1f}" height="{tall:.1f}">'
            f"<title>{label}</title></rect>"
        )
    ends = f'<text x="0" y="{height - 4}">{edges[0]:,}</text><text x="{width}" y="{height - 4}" text-anchor="end">{edges[-1] - 1:,}</text>'
    about = f"{escape(name)}: {sum(counts):,} values from {edges[0]:,} to {edges[-1] - 1:,}"
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{about}">{"".join(bars)}{ends}</svg>'
        f"<figcaption>{about}, on a logarithmic scale</figcaption></figure>"
    )
