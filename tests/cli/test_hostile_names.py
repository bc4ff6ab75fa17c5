"""Names and texts that would drive a terminal or a page: no command ends in a traceback, and nothing of them is shown raw."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from prefine.api.progress import TqdmProgress
from prefine.api.tables import Table
from prefine.report.page import figure
from prefine.report.plots import Estimate, intervals, lines
from report_pages import Seen, fake_run

NAMES = {
    "markup": "[bold]a[link=http://x/]b[red",
    "closing markup": "a[/]b[/bold]",
    "terminal codes": "a\x1b[2J\x1b]0;title\x07b\x9b31m\rc\x08",
    "turned around": "a\u202eb\u2066c\u2069d\u200be\u2060f\ufeffg",
}
RAW = re.compile("[\x07\x08\x9b\u202a-\u202e\u2066-\u2069\u200b\u2060\ufeff]|\x1b(?!\\[[0-9;?]*[A-Za-z])|\x1b\\[2J")
"""What a terminal must not be given; rich itself writes colours and moves the cursor."""


def on_a_terminal(*words: str, folder: Path) -> tuple[int, str]:
    """A command's exit code and all that it wrote to a pseudo-terminal."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "100"}
    run = subprocess.Popen([sys.executable, "-m", "prefine.cli", *words], stdout=theirs, stderr=theirs, cwd=folder, env=environment)
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    return run.wait(), written.decode("utf-8", "replace")


def responses(folder: Path, name: str, evil: str) -> Path:
    path = folder / f"{evil.replace('/', '|')} {name}.jsonl"
    row = {"key": evil, "category": evil, "model": f"{evil} {name}", f"column {evil}": evil}
    rows = [
        {k: v for k, v in row.items() if k != "model"}
        | {"instruction": f"{i} {evil}", "generator": f"{evil} {name}", "output": f"{evil} {'b' * i} {name}"}
        for i in range(4)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


COMMANDS = ("judge", "compare", "report", "data show", "data audit", "missing file")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.long
def test_nothing_raw_reaches_a_terminal(command: str, name: str, tmp_path: Path) -> None:
    evil = NAMES[name]
    in_path = evil.replace("/", "|")
    a, b = responses(tmp_path, "one", evil), responses(tmp_path, "two", evil)
    runs = [str(fake_run(tmp_path / f"{in_path} {n}", 4, evil).path) for n in ("x", "y")]
    (tmp_path / "mine.py").write_text("def score(prompt, response):\n    return float(len(response))\n")
    pairs = tmp_path / f"{in_path} pairs.jsonl"
    rows = [{"prompt": f"{evil} {i}", "chosen": f"{evil} good {i}", "rejected": f"{evil} bad"} for i in range(4)]
    pairs.write_text("".join(json.dumps(r | {f"column {evil}": 1}) + "\n" for r in rows))
    out = str(tmp_path / f"{in_path} out")
    words = {
        "judge": ["judge", str(a), str(b), "--judge", "python", "--function", "mine.py:score", "--output-dir", out],
        "compare": ["compare", *runs],
        "report": ["report", *runs],
        "data show": ["data", "show", str(pairs)],
        "data audit": ["data", "audit", str(pairs), "--html", str(tmp_path / "audit.html")],
        "missing file": ["data", "show", str(tmp_path / f"{in_path}.jsonl")],
    }[command]
    code, written = on_a_terminal(*words, folder=tmp_path)
    assert "Traceback" not in written
    assert code == (2 if command == "missing file" else 0), written
    assert RAW.findall(written) == []
    for path in [*tmp_path.rglob("*.html"), *tmp_path.rglob("README.md")]:
        assert RAW.findall(path.read_text(encoding="utf-8")) == [], path
        assert "\x1b" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("name", NAMES)
def test_tables_and_charts_show_what_they_are_given(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Markup is text: it stands there as it is; what has no sign is replaced, in a terminal, a notebook and a page."""
    evil = NAMES[name]
    table = Table([evil, "b"], [[evil, evil]], evil)
    for text in (str(table), table._repr_html_()):
        assert not RAW.findall(text)
        assert "\x1b" not in text
    if "markup" in name:
        assert str(table).replace("\n", "").count(evil) == 4  # title, head, two cells
    interval = {"estimate": 0.5, "low": 0.4, "high": 0.6, "count": 9}
    for chart in (intervals("t", [Estimate(evil, interval, evil)]), lines("t", {evil: [(1, 2), (2, 3)]}, evil)):
        drawn = figure(chart)
        assert drawn is not None
        spec = json.loads(str(drawn.spec))
        assert not re.findall("[\u202a-\u202e\u2066-\u2069\u200b\u2060\ufeff]", json.dumps(spec, ensure_ascii=False))
    progress = TqdmProgress()
    progress.say(evil)
    progress.stage(evil)
    progress.advance(evil, 1, 2)
    progress.finish()
    said = "".join(capsys.readouterr())
    assert not [c for c in RAW.findall(said) if c not in ("\x1b",)]


def test_a_page_shows_the_escapes(tmp_path: Path) -> None:
    """A reader sees that something was there, and what; joiners, which scripts and emoji need, stay."""
    from prefine.report.run_page import run_page

    page = run_page(fake_run(tmp_path / "run", 2, "a\u202eb \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f680"))
    assert "a\\u202eb" in Seen(page).text
    assert "\u0645\u06cc\u200c\u062e" in Seen(page).text
    assert "\U0001f469\u200d\U0001f680" in Seen(page).text
