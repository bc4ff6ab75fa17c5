"""Pages: complete, self-contained, and never running what data says."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

from prefine.cli import main
from prefine.report.page import histogram


class Seen(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_audits_page(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    rows = [{"prompt": f"{evil} {i}", "chosen": f"{evil} yes {i} " * 3, "rejected": f"no {i}"} for i in range(300)]
    path, out = tmp_path / "<b>x.jsonl", tmp_path / "pages" / "audit.html"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert main(["data", "audit", str(path), "--html", str(out), "--processes", "1"]) == 0
    seen = Seen()
    seen.feed(out.read_text())
    assert not {"script", "img", "link", "iframe"} & set(seen.tags)
    assert not [a for a in seen.attributes if a[0].startswith("on") or (a[1] or "").startswith("http")]
    assert "<b>x.jsonl" in seen.text
    assert "300 rows, 300 usable, 300 distinct prompts" in seen.text
    assert seen.tags.count("svg") == 2  # chosen and rejected lengths
    assert "length-shortcut" in seen.text
    assert "the model learns length instead of quality" in seen.text


def test_histogram_by_hand() -> None:
    seen = Seen()
    seen.feed(histogram("x", [1, 2, 4, 8], [2, 0, 4]))
    heights = [float(v or 0) for k, v in seen.attributes if k == "height"]
    assert heights == [71.0, 0.0, 142.0]
    assert "1: 2" in seen.text
    assert "4 to 7: 4" in seen.text
