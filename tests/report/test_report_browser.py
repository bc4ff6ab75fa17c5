"""Pages in Chromium, where there is one: charts are drawn under the policy, fit a phone, speak to the keyboard; no words of a model run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prefine.report.audit_section import audit_page
from prefine.report.comparison import comparison_page
from prefine.report.page import page
from prefine.report.run_page import run_page
from report_pages import ESCAPES, EVIL, fake_run


@contextmanager
def opened(browser: Any, path: Path, **settings: Any) -> Iterator[Any]:
    """A page once its charts are drawn; that nothing went wrong, was fetched or ran is checked at the end."""
    found = browser.new_page(**settings)
    wrong: list[str] = []
    fetched: list[str] = []
    found.on("console", lambda m: wrong.append(m.text))
    found.on("pageerror", lambda e: wrong.append(str(e)))
    found.on("request", lambda r: fetched.append(r.url))
    found.goto(f"file://{path}")
    found.wait_for_function("document.documentElement.dataset.drawn === 'true'")
    yield found
    assert found.evaluate("window.ran") is None
    assert (wrong, fetched) == ([], [f"file://{path}"])
    found.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind, hostile words in all of them."""
    folder = tmp_path_factory.mktemp("pages")
    runs = [fake_run(folder / name, 40, EVIL + ESCAPES) for name in ("one", "two")]
    audit = {"source": ESCAPES, "rows": 3, "records": 3, "distinct_prompts": 3, "grade": "look", "smallest_max_length": {"99 %": 9}}
    audit |= {"findings": [{"grade": "look", "check": "loop", "detail": ESCAPES, "count": 1}], "languages": {ESCAPES: 1.0}}
    audit |= {"lengths": {ESCAPES: {"mean": 3.0, "most": 4.0}}, "words": {"chosen": [EVIL]}}
    audit |= {"histograms": {f"chosen {ESCAPES}": {"edges": [1, 2, 4], "counts": [3, 1]}}}
    written = {"run": run_page(runs[0]), "comparison": comparison_page(runs), "audit": audit_page(audit, {"loop": (EVIL, ESCAPES)})}
    for name, html in written.items():
        (folder / f"{name}.html").write_text(html)
    return {name: folder / f"{name}.html" for name in written}


def test_in_a_browser_the_filter_works_and_no_words_of_a_model_run(browser: Any, pages: dict[str, Path]) -> None:
    from playwright.sync_api import expect

    path = pages["run"]
    with opened(browser, path) as found:
        shown = found.locator("article.response:visible")
        assert shown.count() == 10
        found.click("text=Show all 40 responses")
        assert shown.count() == 40
        found.select_option("select[name=verdict]", "tie")
        expect(found.locator("article.response:not([hidden])")).to_have_count(10)
        assert found.locator("output").inner_text() == "10 of 40 responses"
        found.select_option("select[name=category]", index=2)  # ties are 2, 6, 10, ...; of kind 1 are 10, 22, 34
        expect(found.locator("article.response:not([hidden])")).to_have_count(3)
        found.fill("input[name=text]", "QUESTION 22 ")
        expect(found.locator("article.response:not([hidden])")).to_have_count(1)
        expect(shown.first).to_contain_text("question 22")
        found.keyboard.press("Enter")  # must not submit and leave the page
        assert found.url == f"file://{path}"
    quiet = browser.new_context(java_script_enabled=False)
    found = quiet.new_page()
    found.goto(f"file://{path}")
    assert found.locator("article.response").count() == 40
    assert not found.locator("form.filter").is_visible()
    quiet.close()


@pytest.mark.parametrize("kind", ["run", "comparison", "audit"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(browser: Any, pages: dict[str, Path], kind: str, scheme: str) -> None:
    settings = {"viewport": {"width": 375, "height": 800}, "color_scheme": scheme}
    with opened(browser, pages[kind], **settings) as found:
        assert found.evaluate("document.documentElement.scrollWidth") <= 375
        assert all(chart.locator("svg").count() == 1 for chart in found.locator(".chart:visible").all())
        for box in found.evaluate("[...document.querySelectorAll('.chart svg')].map(s => s.getBoundingClientRect().right)"):
            assert box <= 375


@pytest.mark.parametrize("kind", ["run", "comparison", "audit"])
def test_charts_have_a_name_and_a_table(browser: Any, pages: dict[str, Path], kind: str) -> None:
    with opened(browser, pages[kind]) as found:
        for chart in found.locator("figure.chart-figure").all():
            assert len(chart.locator(".chart").get_attribute("aria-label")) > 10
            assert chart.locator("details.numbers tbody tr").count() > 0


def test_values_on_hover_and_by_the_keyboard(browser: Any, pages: dict[str, Path]) -> None:
    with opened(browser, pages["run"]) as found:
        chart = found.locator("#training .chart").first
        chart.scroll_into_view_if_needed()
        found.keyboard.press("Tab")  # so that focus counts as the keyboard's
        chart.focus()
        value = found.locator("#value.shown")
        assert value.inner_text() in ("step: 1\nseries: training\nloss: 1", "step: 1\nseries: eval\nloss: 2")
        found.keyboard.press("End")
        assert "step: 29" in value.inner_text()
        found.keyboard.press("Escape")
        assert value.count() == 0
        mark = chart.locator("path[aria-label*='29']").last
        box = mark.bounding_box()
        found.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        value.wait_for()
        assert "step: 29" in value.inner_text()


def test_charts_in_what_is_closed_are_drawn_when_it_is_opened(browser: Any, tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", 4)
    for step in range(30, 35):
        run.append_metrics({"step": step, "loss": 0.1, "learning_rate": 1e-4})
    path = tmp_path / "report.html"
    path.write_text(run_page(run))
    with opened(browser, path) as found:
        chart = found.locator("#training details .chart svg").first
        assert not chart.is_visible()
        found.click("text=how training ran")
        chart.wait_for()
        assert chart.bounding_box()["width"] > 200


def test_the_policy_holds(browser: Any, tmp_path: Path) -> None:
    """Were a text ever written as markup, its scripts, styles and pictures would do nothing."""
    evil = "<script>window.ran = 1</script><img src='http://127.0.0.1:9/x' onerror='window.ran = 2'><p id=x style='color: red'>x</p>"
    path = tmp_path / "page.html"
    path.write_text(page("t", evil))
    found = browser.new_page()
    found.goto(f"file://{path}")
    assert found.evaluate("window.ran") is None
    assert found.evaluate("getComputedStyle(document.getElementById('x')).color") != "rgb(255, 0, 0)"
    assert "rgb" in found.evaluate("getComputedStyle(document.body).backgroundColor")
    found.close()


def test_a_page_of_many_answers_is_drawn_and_filtered(browser: Any, tmp_path: Path) -> None:
    from playwright.sync_api import expect

    run = fake_run(tmp_path / "run", 5000)
    path = tmp_path / "report.html"
    start = time.perf_counter()
    path.write_text(run_page(run))
    print(f"drawn in {time.perf_counter() - start:.1f} s, {path.stat().st_size / 1e6:.1f} MB")
    found = browser.new_page()
    start = time.perf_counter()
    found.goto(f"file://{path}")
    print(f"opened in {time.perf_counter() - start:.1f} s")
    start = time.perf_counter()
    found.fill("input[name=text]", "question 4321")
    expect(found.locator("article.response:not([hidden])")).to_have_count(1)
    print(f"filtered in {time.perf_counter() - start:.1f} s")
    found.close()
