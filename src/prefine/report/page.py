"""One HTML page that opens from disk with no network, in light and dark, wide and narrow."""

from __future__ import annotations

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
.soft { color: var(--soft); } .wide { overflow-x: auto; }
figure { margin: 1rem 0; } figcaption { color: var(--soft); } svg { width: 100%; height: auto; max-width: 40rem; }
svg rect { fill: var(--bar); } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
"""


def page(title: str, body: str) -> str:
    """A whole page; ``body`` is HTML whose texts are escaped already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


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
