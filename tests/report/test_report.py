"""Pages: complete, self-contained, readable on a phone and without sight, and never running what data says."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from prefine.cli import main
from prefine.errors import DataError
from prefine.redaction import remember
from prefine.report.charts import CHARTS
from prefine.report.comparison import comparison_page
from prefine.report.evaluation_files import EvaluationFiles, join
from prefine.report.numbers import number_tables
from prefine.report.page import figure, page, render
from prefine.report.plots import (
    Estimate,
    Series,
    binned,
    calibration,
    frontier,
    histogram,
    intervals,
    lines,
    rows_of,
    scatter,
    shares,
    thinned,
)
from prefine.report.responses import marked, responses_section
from prefine.report.run_page import run_page, write_judged, write_report
from prefine.report.theme import COLOURS
from prefine.runs import RunDirectory, write_json
from report_pages import ESCAPES, EVIL, Seen, fake_run


def spec_of(chart: Any) -> dict[str, Any]:
    return json.loads(figure(chart).spec)  # type: ignore[union-attr]


# ---- a page as a file


def check_self_contained(html: str) -> Seen:
    """Nothing is fetched, and only scripts and styles of our own run: the policy names each by its hash."""
    seen = Seen(html)
    assert not {"img", "link", "iframe", "object", "embed", "base"} & set(seen.tags)
    assert not [a for a in seen.attributes if a[0].startswith("on") or a[0] in ("src", "style") or (a[1] or "").startswith(("http", "//"))]
    [policy] = [v for k, v in seen.attributes if k == "content" and "default-src" in (v or "")]
    assert policy
    assert "default-src 'none'" in policy
    assert not re.search(r"unsafe|https?:|\*", policy)
    run = [text for attributes, text in seen.scripts if attributes.get("type") != "application/json"]
    hashes = {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in run}
    assert hashes == set(re.search(r"script-src ([^;]+)", policy)[1].split())  # type: ignore[index]
    for attributes, text in seen.scripts:
        if attributes.get("type") == "application/json":
            assert "<" not in text
            json.loads(text)
    return seen


def test_the_audits_page(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    rows = [{"prompt": f"{evil} {i}", "chosen": f"{evil} yes {i} " * 3, "rejected": f"no {i}"} for i in range(300)]
    path, out = tmp_path / "<b>x.jsonl", tmp_path / "pages" / "audit.html"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert main(["data", "audit", str(path), "--html", str(out), "--processes", "1"]) == 0
    seen = check_self_contained(out.read_text())
    assert "<b>x.jsonl" in seen.text
    assert "300 rows, 300 usable, 300 distinct prompts" in seen.text
    assert seen.tags.count("figure") == 2  # chosen and rejected lengths
    assert "length-shortcut" in seen.text
    assert "the model learns length instead of quality" in seen.text


def test_the_page_is_whole_without_network_or_script(tmp_path: Path) -> None:
    html = run_page(fake_run(tmp_path / "run", 12, EVIL))
    seen = check_self_contained(html)
    assert html.count("<article") == 12
    assert "window.ran = 1" in seen.text
    assert "\x1b" not in html


def test_a_secret_is_left_out_and_scripts_that_hold_the_same_characters_are_as_their_hashes_say(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", 8, "0123456789abcdef function")
    remember({"api_key": "0123456789abcdef", "password": "function"})
    for html in (write_report(run).read_text(), write_judged(run.path / "eval/judge").read_text()):
        seen = check_self_contained(html)
        assert "says [secret] [secret] figure" in seen.text
        assert "0123456789abcdef" not in seen.text + str(seen.attributes)


def test_a_page_without_charts_carries_nothing_that_draws_them() -> None:
    html = page("t", "<p>x</p>")
    check_self_contained(html)
    assert len(html) < 20_000


def test_hostile_words_in_every_field(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", 8, EVIL + ESCAPES)
    other = fake_run(tmp_path / "other", 8, ESCAPES)
    for html in (
        run_page(run),
        comparison_page([run, other], differences=[EVIL + ESCAPES]),
        write_judged(run.path / "eval/judge").read_text(),
    ):
        seen = check_self_contained(html)
        assert seen.tags.count("svg") == 0
        assert "{{ 7 * 7 }}" in seen.text
        assert "window.ran = 5" in seen.text


def test_every_kind_of_run_has_a_page(tmp_path: Path) -> None:
    sft = RunDirectory.create(tmp_path / "sft")
    sft.write_config({"model": "m"}, ["sft", "--data", "x"])
    sft.write_data(
        {"source": "x", "rows": 7, "dropped": {"no response": {"count": 2}}, "encoding": {"encoded": 5, "dropped": {}, "cut": {"end": 1}}}
    )
    for step in range(1, 5):
        sft.append_metrics({"step": step, "loss": 4 / step})
    assert "nothing was held out" in run_page(sft)
    sft.append_metrics({"step": 2, "eval_loss": 2.5})
    sft.append_metrics({"step": 4, "eval_loss": 1.25})
    text = Seen(run_page(sft)).text
    assert "Held-out loss 1.25 nats/token at step 4, from 2.5 at step 2" in text
    assert "truncated: end" in text
    reward = RunDirectory.create(tmp_path / "reward")
    reward.write_config({"model": "m"}, ["reward"])
    interval = {"estimate": 0.75, "low": 0.7, "high": 0.8, "count": 40}
    quality = {
        "accuracy": interval,
        "shorter_chosen": None,
        "longer_chosen": interval,
        "length_correlation": 0.1,
        "calibration_error": 0.05,
    }
    write_json(
        reward.evaluation("reward") / "summary.json",
        {"reward_model": quality | {"by_gap": [], "reliability": [[0.2, 0.3, 9], [0.8, 0.7, 9]]}},
    )
    text = Seen(run_page(reward)).text
    assert "Held-out accuracy 75.0 % [70.0, 80.0], n = 40" in text
    assert "Calibration of the reward model" in text
    assert rows_of(CHARTS["calibration"](reward))[0] == {"predicted, %": 20.0, "found, %": 30.0, "n": 9}
    empty = RunDirectory.create(tmp_path / "empty")
    empty.write_config({"model": "m"}, ["dpo"])
    assert "Not judged yet" in run_page(empty)


def evaluation(name: str, **summary: Any) -> EvaluationFiles:
    interval = {"estimate": 0.1, "low": 0.0, "high": 0.2, "count": 9}
    signs = [
        {"name": n, "about": "", "base": 0.1, "tuned": v, "change": interval, "broken": False} for n, v in summary.pop("signs").items()
    ]
    return EvaluationFiles(name, {"sentence": "S", "judge": name, "degeneration": signs, **summary})


def test_numbers_stand_once() -> None:
    found = [evaluation("a", signs={"loop": 0.2, "words": 3.0}), evaluation("b", signs={"loop": 0.2, "words": 4.0})]
    [table] = number_tables(found)
    assert [row[0] for row in table.rows] == ["loop", "words (a)", "words (b)"]
    assert [row[2] for row in table.rows] == ["0.2", "3", "4"]


def test_a_name_that_a_person_chose_is_what_an_evaluation_is_called() -> None:
    assert evaluation("brevity", signs={}, judge="gpt").label == "brevity, judge gpt"
    assert evaluation("gpt", signs={}, judge="gpt").label == "judge gpt"


def test_comparison_of_runs(tmp_path: Path) -> None:
    runs = [fake_run(tmp_path / name, 8) for name in ("one", "two")]
    runs[1].write_config({"model": "base/model", "beta": 0.5}, ["dpo"])
    seen = check_self_contained(comparison_page(runs, differences=["two against one: nothing shown"]))
    assert "two against one: nothing shown" in seen.text
    assert seen.tags.count("article") == 8
    labels = [v for k, v in seen.attributes if k == "aria-label"]
    assert any("one: 50 % [45, 55]" in (v or "") and "two: 50 %" in (v or "") for v in labels)
    assert any("Loss" in (v or "") or "loss" in (v or "") for v in labels)


def test_differences_are_marked_and_escaped() -> None:
    assert marked("a <b> c", "a <b> d") == ("a &lt;b&gt; <mark>c</mark>", "a &lt;b&gt; <mark>d</mark>")
    row = {"key": "0", "prompt": "p", "base": "word " * 400, "tuned": "word " * 400 + "<b>"}
    assert "<mark>" not in responses_section("t", join([row], []), ("a", "b"))  # too long to look for differences


def test_style_and_charts_have_the_same_colours() -> None:
    style = page("t", "").partition("<style>")[2].partition("@media")[0]
    assert {k: v for k, v in re.findall(r"--(\w+): (#\w+);", style)} == COLOURS


# ---- charts


def test_charts_import_no_torch_and_nothing_slow() -> None:
    code = (
        "import sys, prefine.report.run_page, prefine.report.comparison as c; print({'torch', 'altair', 'vl_convert'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_histogram_by_hand() -> None:
    drawn = histogram("x", {"x": ([1, 2, 4, 8], [2, 0, 4])}, "tokens", log=True)
    assert rows_of(drawn) == [  # type: ignore[arg-type]
        {"series": "x", "from": 1, "to": 2, "count": 2},
        {"series": "x", "from": 2, "to": 4, "count": 0},
        {"series": "x", "from": 4, "to": 8, "count": 4},
    ]
    assert "n = 6, from 1 to 8" in str(drawn.description)  # type: ignore[union-attr]
    assert histogram("x", {"x": ([1, 2], [0])}, "tokens") is None
    assert binned({"a": [1, 2, 2], "b": [4]})["a"] == ([1, 2, 3, 4, 5], [1, 2, 0, 0])
    assert binned({"a": [float("nan")]}) == {}


def test_a_chart_says_in_words_what_it_shows() -> None:
    drawn = figure(lines("loss", {"loss": [(1, 0.5), (2, 0.25)], "eval": [(2, float("nan"))]}, "nats"))
    assert drawn is not None
    assert drawn.about == "loss: loss from 0.5 to 0.25"
    assert (drawn.table.head, drawn.table.rows) == (["step", "nats"], [["1", "0.5"], ["2", "0.25"]])
    assert lines("loss", {"loss": [(1, float("nan"))]}, "nats") is None


def test_long_curves_keep_their_spikes() -> None:
    points = [(float(i), 100.0 if i == 7777 else 0.0) for i in range(20_000)]
    kept = thinned(points)
    assert len(kept) <= 250
    assert (7777.0, 100.0) in kept
    assert kept[0][0] == 0
    assert kept[-1][0] == 19_999


def test_picture_says_its_points() -> None:
    drawn = frontier(
        "t", [Series("<one>", [(0.0, 0.5), (2.0, 0.9)], ["a", "b"], [(0.1, 0.5)]), Series("two", [])], "KL", "score", level=("base", 0.55)
    )
    assert "<one>: (0, 0.5), (2, 0.9)" in str(drawn.description)  # type: ignore[union-attr]
    assert "base: 0.55" in str(drawn.description)  # type: ignore[union-attr]
    assert len(rows_of(drawn)) == 3  # type: ignore[arg-type]
    assert frontier("t", [], "x", "y") is None
    logarithmic = frontier("t", [Series("s", [(0.0, 0.5), (0.09, 0.6), (45.0, 0.2)])], "KL", "score", log_x=True)
    assert [r["KL"] for r in rows_of(logarithmic)] == [0.09, 0.09, 45.0]  # type: ignore[arg-type]


def test_rates_with_intervals() -> None:
    interval = {"estimate": 0.625, "low": 0.5, "high": 0.75, "count": 40}
    drawn = intervals("win rate", [Estimate("j\x1b", interval, "inconclusive")])
    [row] = rows_of(drawn)
    assert (row["win rate, %"], row["low"], row["high"], row["n"], row["outcome"]) == (62.5, 50.0, 75.0, 40, "inconclusive")
    assert row["evaluation"] == "j?"


def test_numbers_that_are_not_finite_can_be_shown() -> None:
    broken = {"estimate": float("nan"), "low": float("-inf"), "high": float("inf"), "count": 1}
    drawn = spec_of(intervals("i", [Estimate("a", broken), Estimate("b", {"estimate": 0.5, "low": 0.4, "high": 0.6})]))
    assert "NaN" not in json.dumps(drawn)


def test_equal_points_are_one_that_is_larger() -> None:
    drawn = scatter("s", [(1, 2), (1, 2), (3, 1), (4, 4)], "base score", "tuned score")
    assert "n = 4; 2 above the diagonal, 1 below, 1 on it" in str(drawn.description)  # type: ignore[union-attr]
    assert rows_of(drawn)[0] == {"base score": 1.0, "tuned score": 2.0, "n": 2}  # type: ignore[arg-type]


def test_every_chart_is_a_file_of_its_own(tmp_path: Path) -> None:
    drawn = {
        "lines": lines("l", {"chosen": [(1, 2), (2, 3)], "chosen, eval": [(2, 2)]}, "nats"),
        "intervals": intervals("i", [Estimate("a", {"estimate": 0.5, "low": 0.4, "high": 0.6})]),
        "shares": shares("s", [("loop", 0.1, 0.2)]),
        "calibration": calibration("c", [(0.1, 0.2, 4), (0.8, 0.9, 4)], 0.1),
    }
    for name, chart in drawn.items():
        assert chart is not None
        chart.save(tmp_path / f"{name}.svg")
        text = "".join(ElementTree.parse(tmp_path / f"{name}.svg").getroot().itertext())
        assert str(chart.title) in text
        assert "var(--" not in (tmp_path / f"{name}.svg").read_text()
        assert "var(--" in json.dumps(spec_of(chart))


def test_charts_of_a_run_by_name(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", 12)
    for name in ("loss", "logps", "rewards", "length", "scores", "calibration", "win-rate", "margin-distribution"):
        assert rows_of(CHARTS[name](run))
    with pytest.raises(DataError, match="objective/kl"):
        CHARTS["kl"](run)


def test_templates_refuse_what_they_are_not_given() -> None:
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        render("findings.html", name="x")
