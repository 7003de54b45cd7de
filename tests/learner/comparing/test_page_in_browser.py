"""The page of a comparison in a real browser: it fits a desk and a telephone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from onibus.learner.comparing.comparison import compare
from onibus.learner.comparing.groups import grouped, read_run
from onibus.learner.comparing.page import write_page
from tests.browser import faultless_page, overflow
from tests.learner.comparing.made_runs import three_groups


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_fits_the_window(browser: Browser, tmp_path: Path, width: int) -> None:
    path = tmp_path / "comparison.html"
    write_page(compare(grouped([read_run(folder) for folder in three_groups(tmp_path / "runs")])), path)
    with faultless_page(browser, width) as page:
        page.goto(path.as_uri())
        assert overflow(page) <= 0
        expect(page.locator("figure svg")).to_have_count(2)
        expect(page.get_by_role("heading", level=2)).to_have_text(
            [
                *("Curves", "Final values", "Probability of improvement", "Performance profiles"),
                *("Settings that differ", "Cost and speed"),
            ]
        )
