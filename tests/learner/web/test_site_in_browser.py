"""``onibus web`` in a real browser, served by the real command over a real broker."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from onibus.infra.settings import Settings
from tests.browser import faultless_page, overflow
from tests.consumers.replay.running import served
from tests.consumers.reward_models.annotation_logs import MODEL, SPEC_NAME
from tests.learner.web.system import RUN, make_system

pytestmark = pytest.mark.slow


def choose(page: Page, text: str) -> None:
    page.locator("#rows tr[tabindex]").filter(has_text=text).focus()


@pytest.mark.parametrize("width", [1200, 400])
def test_every_page_leads_to_the_next_and_fits_its_window(
    browser: Browser, settings: Settings, width: int
) -> None:
    make_system(settings)
    with served(settings, "web") as address, faultless_page(browser, width) as page:
        page.goto(address)
        expect(page.locator("#specs")).to_contain_text(SPEC_NAME)
        expect(page.locator("#models")).to_contain_text(MODEL)
        expect(page.locator("#models")).to_contain_text("version 7")
        expect(page.locator("[data-topic=captions]")).to_contain_text("1 on it")
        expect(page.locator("#groups")).to_have_text("no group reads captions")
        expect(page.locator("#problem")).to_be_empty()
        assert overflow(page) <= 0

        page.wait_for_load_state("networkidle")  # the look that is under way
        page.get_by_role("link", name="Runs").click()
        page.get_by_role("link", name=RUN).click()
        chart = page.get_by_role("img", name="Extrinsic return")
        page.wait_for_function(
            "image => image.complete && image.naturalWidth > 0", arg=chart.element_handle()
        )
        assert overflow(page) <= 0
        page.wait_for_load_state("networkidle")  # charts, which are drawn one by one

        page.get_by_role("link", name="its episodes").click()
        expect(page.locator("tbody tr")).to_have_count(1)
        assert overflow(page) <= 0
        page.get_by_label("text").fill("no such ending")
        page.get_by_label("text").press("Enter")
        expect(page.get_by_text("No recorded episode fits.")).to_be_visible()
        page.go_back()
        page.get_by_role("link", name=f"{RUN}/").click()
        expect(page.locator("#map")).to_contain_text("@")
        assert overflow(page) <= 0


def test_a_label_is_corrected_undone_and_its_episode_plays(browser: Browser, settings: Settings) -> None:
    judged = make_system(settings)
    flags = ("--allow-corrections", "--person", "ada")
    with served(settings, "web", *flags) as address, faultless_page(browser) as page:
        page.goto(f"{address}labels/")
        row = page.locator("#rows tr[tabindex]").filter(has_text=judged.text)
        verdict = row.locator(".verdict")
        before = verdict.text_content() or ""
        choose(page, judged.text)
        page.keyboard.press("s")
        expect(verdict).to_have_text("unsure")
        expect(row.locator(".by")).to_have_text("ada (human)")
        page.keyboard.press("z")
        expect(page.locator("#status")).to_have_text(f"undone, {before} again: {judged.text}")
        expect(row.locator(".by")).to_have_text("test (rules)")
        expect(page.locator("#agreement")).to_have_text(
            "People and annotators have judged nothing in common yet."
        )
        page.get_by_role("toolbar").get_by_role("button", name="undo").click()
        expect(verdict).to_have_text("unsure")
        page.keyboard.press("e")
        expect(page.locator("#place")).to_contain_text(str(judged.step))
        expect(page.locator("#captions")).to_contain_text(judged.text)
        page.get_by_role("link", name="Labels").click()
        expect(row).to_be_visible()


def test_on_other_addresses_every_page_needs_the_token(browser: Browser, settings: Settings) -> None:
    make_system(settings)
    with (
        served(settings, "web", "--host", "0.0.0.0") as printed,
        faultless_page(browser) as page,
        faultless_page(browser) as stranger,
    ):
        base, _, token = printed.partition("?token=")
        local = f"http://127.0.0.1:{base.rstrip('/').rpartition(':')[2]}/"
        for path in ("", "flow", "runs", f"runs/{RUN}", "labels/", "episodes", "episodes/0/0"):
            assert stranger.request.get(f"{local}{path}").status == 403
        odd = stranger.request.get(local, headers={"Cookie": "onibus-token=schlüssel"})
        assert odd.status == 403
        page.goto(f"{local}?token={token}")
        expect(page.locator("#specs")).to_contain_text(SPEC_NAME)
        assert "token" not in page.url
        page.goto(f"{local}episodes/0/0")
        page.get_by_role("link", name="Episodes").click()
        expect(page.locator("table")).to_contain_text(RUN)
