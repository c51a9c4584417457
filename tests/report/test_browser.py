"""The report in a real browser: charts drawn, nothing fetched, nothing complained of, nothing wider than a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fathom.report.probe.page import write_report
from tests.report.material import evidence

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
# Where there is no GPU, WebGL is drawn in software.
ARGUMENTS = ["--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader", "--disable-dev-shm-usage"]
PATIENCE = 120_000
"""Milliseconds: a loaded machine takes its time over 5 MB of script."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(evidence(everything=True), tmp_path_factory.mktemp("report") / "report.html")


class Opened:
    """A page of the report and what the browser had to say about it."""

    def __init__(self, browser: Any, report: Path, width: int, height: int, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(report.as_uri(), timeout=PATIENCE)
        self.page.wait_for_selector("body[data-drawn]", timeout=PATIENCE)

    def foreign(self, report: Path) -> list[str]:
        """Requests beyond the file itself and what stands in it."""
        return [url for url in self.requests if url != report.as_uri() and not url.startswith(("data:", "blob:"))]


@pytest.mark.parametrize(("width", "height", "scheme"), [(1280, 900, "light"), (390, 844, "dark")])
def test_the_report_on_a_desk_and_on_a_phone(browser: Any, report: Path, width: int, height: int, scheme: str) -> None:
    opened = Opened(browser, report, width, height, scheme)
    page = opened.page
    assert opened.errors == []
    assert opened.foreign(report) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert int(page.evaluate("document.body.dataset.drawn")) == 10  # nine charts and the cloud
    marks = page.evaluate(
        """Object.fromEntries([...document.querySelectorAll('.chart[id^=chart]')].map((chart) => [chart.id,
        [chart.querySelectorAll('.point, .heatmaplayer image').length, chart.getBoundingClientRect().width,
         chart.querySelector('.main-svg').getBoundingClientRect().width]]))"""
    )
    assert len(marks) == 9
    for chart, (points, room, drawn) in marks.items():
        assert points > 0, chart
        assert 0.9 * room < drawn <= room + 1, chart
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    text, ground = (page.evaluate(f"getComputedStyle(document.querySelector({where!r})).{what}")
                    for where, what in ((".xtick text", "fill"), ("body", "backgroundColor")))  # fmt: skip
    dark = scheme == "dark"
    assert (_luminance(text) > 0.5) == dark and (_luminance(ground) < 0.5) == dark

    # The cloud: WebGL has drawn something, and the list of encoders changes what it shows.
    assert page.evaluate("document.querySelector('#cloud canvas') !== null")
    shown = "document.getElementById('cloud').data.map((trace) => [trace.visible, trace.x.length, trace.y.slice(0, 5)])"
    first = page.evaluate(shown)
    assert [trace[:2] for trace in first] == [[True, 24 * 32 - 4 * 5]] * 2
    page.select_option("select[name=encoder]", "1")
    page.select_option("select[name=show]", "prediction")
    second = page.evaluate(shown)
    assert second[0] == [False, *first[0][1:]]
    assert second[1][2] != first[1][2]
    page.select_option("select[name=frame]", "1")
    assert page.evaluate(shown)[1][1] == 24 * 32
    assert opened.errors == []
    page.close()


def test_on_paper_charts_fit_between_the_margins_and_are_dark_on_light(
    browser: Any, report: Path, tmp_path: Path
) -> None:
    opened = Opened(browser, report, 1280, 900, "dark")
    widths = """[...document.querySelectorAll('.main-svg')].map((drawing) => drawing.getBoundingClientRect().width)"""
    before = max(opened.page.evaluate(widths))
    opened.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert max(opened.page.evaluate(widths)) <= 680 < before
    ink = opened.page.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill")
    assert _luminance(ink) < 0.5
    opened.page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    opened.page.wait_for_function(f"Math.max(...{widths}) > 700", timeout=PATIENCE)
    opened.page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    assert (tmp_path / "report.pdf").stat().st_size > 50_000
    assert opened.errors == []
    opened.page.close()


def _luminance(colour: str) -> float:
    red, green, blue = (float(part) / 255 for part in colour.partition("(")[2].rstrip(")").split(",")[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
