"""The report of a run in a real browser: what people see of it, on a desk and on a telephone."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from playwright.sync_api import Browser, expect

from onibus.learner.reporting.report import write_report
from onibus.learner.run_files.judged_captions import JudgedCaption
from tests.browser import faultless_page, overflow
from tests.learner.recorded_run import recorded_run
from tests.learner.reporting.test_report import JUDGING

MARKUP = """<img src="x" onerror="document.title = 'run'"><script>document.title = 'run'</script>"""

CAPTIONS = [
    JudgedCaption("g - a key", "helpful", "a key opens the door " * 5, 120, 50.0),
    JudgedCaption("x" * 300, "helpful", "", 12_345, 25.0),
    JudgedCaption(MARKUP, "unhelpful", MARKUP, 99, 0.0),
]


@pytest.fixture
def report(tmp_path: Path) -> str:
    """Address of a report with every chart and a model of its own."""
    folder = recorded_run(tmp_path / ("a-run-with-a-long-name-" * 4))
    system = [{"seconds": float(n), "latency_p50": 0.1 + n, "consumer_lag": 200_000.0 - n} for n in range(9)]
    (folder / "system.jsonl").write_text("\n".join(map(json.dumps, system)))
    versions = [{"version": n, "held_out_accuracy": 0.9 + n / 100, "held_out_brier": 0.1} for n in (1, 2, 3)]
    (folder / "versions.json").write_text(json.dumps(versions))
    return write_report(folder, CAPTIONS, judging=[JUDGING]).as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 400])
def test_charts_and_captions_fit_the_window(browser: Browser, report: str, width: int, scheme: str) -> None:
    with faultless_page(browser, width) as page:
        page.emulate_media(color_scheme=scheme)
        page.goto(report)
        assert overflow(page) <= 0
        charts = page.locator("figure svg")
        assert charts.count() >= 6
        for chart in charts.all():
            box = chart.bounding_box()
            assert box is not None
            assert 300 < box["width"] < width
            assert box["height"] > 120
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
        assert (sum(ground) > 600) == (scheme == "light")


@pytest.mark.parametrize("width", [1200, 400])
def test_a_captions_reward_is_a_bar(browser: Browser, report: str, width: int) -> None:
    with faultless_page(browser, width) as page:
        page.goto(report)
        most, least = page.locator("table.captions").all()
        expect(most.locator("td.caption")).to_have_text(["g - a key", "x" * 300])
        expect(least.locator("td.caption")).to_have_text([MARKUP])
        expect(page.locator("td.reward")).to_have_text(["50.0", "25.0", "0.0"])
        boxes = [bar.bounding_box() for bar in page.locator(".bar i").all()]
        whole, half, nothing = (box["width"] if box else 0 for box in boxes)
        assert whole > 60
        assert half == pytest.approx(whole / 2, rel=0.02)
        assert nothing == 0
        assert page.title().startswith("onibus: a-run")


@pytest.mark.parametrize("width", [1200, 800, 400])
def test_figures_fill_their_rows(browser: Browser, report: str, width: int) -> None:
    with faultless_page(browser, width) as page:
        page.goto(report)
        assert overflow(page) <= 0
        boxes = [box for card in page.locator(".card").all() if (box := card.bounding_box()) is not None]
        last = [box for box in boxes if box["y"] == boxes[-1]["y"]]
        whole = page.locator(".cards").bounding_box()
        assert whole is not None
        assert len(last) > 1 or last[0]["width"] == pytest.approx(whole["width"], abs=1)


def test_a_chart_is_saved_as_an_svg_file(browser: Browser, report: str, tmp_path: Path) -> None:
    with faultless_page(browser) as page:
        page.goto(report)
        with page.expect_download() as download:
            page.locator("figure", has_text="Extrinsic return").locator("a.save").click()
        assert download.value.suggested_filename.endswith("-extrinsic-return.svg")
        saved = tmp_path / "chart.svg"
        download.value.save_as(saved)
    drawing = ElementTree.parse(saved).getroot()
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(list(drawing.iter("{http://www.w3.org/2000/svg}path"))) > 5
