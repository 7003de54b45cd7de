"""The web page in a real browser, served by the real command over a real broker."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.consumers.labels.live_index import LabelBoard
from onibus.consumers.labels.web import PageOptions, label_site
from onibus.consumers.specs.known_specs import KnownSpecs
from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings, load_settings
from onibus.infra.web.serving import listening, serve_until
from onibus.schemas import codec
from onibus.schemas.records import Annotation, Label, Origin, Verdict
from tests.browser import faultless_page, overflow
from tests.consumers.replay.running import served_labels
from tests.consumers.reward_models.annotation_logs import (
    SPEC,
    SPEC_ID,
    TEXTS,
    annotation,
    publish_annotations,
)

pytestmark = pytest.mark.slow

MARKUP = """<img src="x" onerror="document.title = 'run'; alert(1)"><script>document.title = 'run'</script>"""
REASON = "<b>It opens</b> the way."


def logged(settings: Settings) -> list[tuple[Origin, str, Verdict | None]]:
    """Who said what, in the order of the log, of the captions that a test corrects."""
    topic = TopicNames(settings.topic_prefix).annotations
    batches = clients.read_all(settings, topic)
    found = [codec.decode(Annotation, record.value) for batch in batches for record in batch]
    return [(one.origin, one.annotator, one.verdict) for one in found if one.origin is not Origin.RULES]


def labels_in_force(settings: Settings) -> list[Verdict | None]:
    """What came on the label topic, None for a withdrawal."""
    batches = clients.read_all(settings, TopicNames(settings.topic_prefix).labels)
    values = [record.value for batch in batches for record in batch]
    return [None if value is None else codec.decode(Label, value).verdict for value in values]


def publish(settings: Settings, count: int) -> None:
    """Rules' annotations of so many captions, each with a reason; the first caption is the newest."""
    said = [annotation(text, at=count - number) for number, text in enumerate(TEXTS[:count])]
    publish_annotations(settings, [replace(one, reason=REASON) for one in said])


def rows(page: Page) -> Locator:
    return page.locator("#rows tr[tabindex]")


def choose(page: Page, text: str) -> Locator:
    """The row of a caption, focused."""
    row = rows(page).filter(has_text=text)
    row.focus()
    return row


def test_rows_show_verdict_words_and_reason_and_fit_a_filter(browser: Browser, settings: Settings) -> None:
    publish(settings, 6)
    with served_labels(settings) as address, faultless_page(browser) as page:
        page.goto(address)
        expect(rows(page)).to_have_count(6)
        first = rows(page).first
        expect(first.locator(".verdict")).to_have_text("helpful")
        expect(first.locator(".caption")).to_have_text(TEXTS[0])
        expect(first.locator(".reason")).to_have_text(REASON)
        expect(page.locator("#counts")).to_have_text("6 labels · 3 unhelpful · 3 helpful")

        page.get_by_label("text in the caption").fill("GOLD")
        expect(rows(page)).to_have_count(2)
        expect(page.locator("#counts")).to_have_text("2 labels · 2 unhelpful")
        page.get_by_label("verdict", exact=True).select_option("helpful")
        expect(rows(page)).to_have_count(0)
        expect(page.locator("#place")).to_have_text("no labels match")
        page.get_by_label("text in the caption").fill("")
        expect(rows(page)).to_have_count(3)
        expect(page.locator("#rows .verdict")).to_have_text(["helpful"] * 3)


def test_what_the_model_was_least_certain_of_comes_first_if_asked_for(
    browser: Browser, settings: Settings
) -> None:
    said = [replace(annotation(text), probability=p) for text, p in zip(TEXTS, (0.9, 0.55), strict=False)]
    publish_annotations(settings, said)
    with served_labels(settings) as address, faultless_page(browser) as page:
        page.goto(address)
        expect(rows(page)).to_have_count(2)
        page.get_by_label("order").select_option("least-certain")
        expect(page.locator("#rows .verdict small")).to_have_text(["0.55", "0.90"])
        expect(page.locator("#rows .caption")).to_have_text([TEXTS[1], TEXTS[0]])


def test_older_labels_are_on_the_next_page(browser: Browser, settings: Settings) -> None:
    publish_annotations(settings, [annotation(f"You see here {n} coins.", at=n + 1) for n in range(60)])
    with served_labels(settings) as address, faultless_page(browser) as page:
        page.goto(address)
        expect(page.locator("#place")).to_have_text("1 to 50 of 60")
        expect(page.locator("#newer")).to_be_disabled()
        page.locator("#older").click()
        expect(page.locator("#place")).to_have_text("51 to 60 of 60")
        expect(rows(page)).to_have_count(10)
        expect(page.locator("#older")).to_be_disabled()
        page.locator("#newer").click()
        expect(rows(page)).to_have_count(50)


def test_the_keyboard_moves_and_shows_the_history(browser: Browser, settings: Settings) -> None:
    publish(settings, 3)
    with served_labels(settings) as address, faultless_page(browser) as page:
        page.goto(address)
        expect(rows(page)).to_have_count(3)
        for key, focused in [("j", 0), ("j", 1), ("j", 2), ("j", 2), ("k", 1)]:
            page.keyboard.press(key)
            expect(rows(page).nth(focused)).to_be_focused()

        page.keyboard.press("Enter")
        history = page.locator("#rows tr:nth-child(2) + .history")
        expect(history.locator("li")).to_have_count(1)
        expect(history.locator("li")).to_contain_text(f"unhelpful by test (rules), keys-and-doors: {REASON}")
        history.locator("summary").click()
        expect(history.locator("pre")).to_contain_text('"prompt_hash"')

        choose(page, TEXTS[1])
        page.keyboard.press("j")
        expect(rows(page).nth(2), "the history is not a row").to_be_focused()
        page.keyboard.press("k")
        page.keyboard.press("Enter")
        expect(history).to_have_count(0)

        page.get_by_label("text in the caption").press_sequentially("jk")
        expect(page.get_by_label("text in the caption"), "letters are letters there").to_have_value("jk")


def test_one_key_corrects_a_label_on_the_page_and_on_the_bus(browser: Browser, settings: Settings) -> None:
    publish(settings, 4)
    said = {"h": Verdict.HELPFUL, "u": Verdict.UNHELPFUL, "s": Verdict.UNSURE, "w": None}
    with (
        served_labels(settings, "--allow-edit", "--person", "ada") as address,
        faultless_page(browser) as page,
    ):
        page.goto(address)
        agreement = page.locator("#agreement")
        expect(agreement).to_have_text("People and annotators have judged nothing in common yet.")
        page.keyboard.press("h")
        expect(page.locator("#status")).to_have_text("Select a row first.")
        row = choose(page, TEXTS[1])
        for key, agreed in [("h", "0.000 of 1"), ("u", "1.000 of 1"), ("s", "0.000 of 1"), ("w", "nothing")]:
            page.keyboard.press(key)
            verdict = said[key].value if said[key] else "withdrawn"
            expect(page.locator("#status")).to_have_text(f"{verdict}: {TEXTS[1]}")
            expect(row.locator(".verdict")).to_have_text(verdict)
            expect(row.locator(".by")).to_contain_text("ada")
            expect(row, "the next key must find it").to_be_focused()
            expect(agreement).to_contain_text(agreed)

        page.keyboard.press("1")
        expect(row.locator(".verdict"), "one caption is not the first of two").to_have_text("withdrawn")
        other = choose(page, TEXTS[2])
        for key in "uhshu":  # faster than the cluster answers
            page.keyboard.press(key)
        expect(other.locator(".answers")).to_have_text("6")
        expect(other.locator(".verdict")).to_have_text("unhelpful")
        page.keyboard.press("Enter")
        verdicts = ["helpful", "unhelpful", "helpful", "unsure", "helpful", "unhelpful"]
        expect(page.locator(".history .verdict")).to_have_text(verdicts)
    by_hand = logged(settings)
    assert len(by_hand) == 9
    assert {annotator for _, annotator, _ in by_hand} == {"ada"}
    for verdict in said.values():
        assert (Origin.HUMAN if verdict else Origin.WITHDRAWAL, "ada", verdict) in by_hand
    assert None in labels_in_force(settings)
    assert Verdict.UNSURE in labels_in_force(settings)


def test_on_a_phone_one_tap_selects_and_another_corrects(browser: Browser, settings: Settings) -> None:
    publish(settings, 30)
    with (
        served_labels(settings, "--allow-edit", "--person", "ada") as address,
        faultless_page(browser, 400, is_phone=True) as page,
    ):
        page.goto(address)
        expect(page.locator("#keys"), "there are none").to_be_hidden()
        answers = page.get_by_role("toolbar").get_by_role("button")
        expect(answers).to_have_count(0)
        row = rows(page).filter(has_text=TEXTS[29])
        row.tap()
        expect(answers).to_have_text(["helpful", "unhelpful", "unsure", "withdraw", "undo", "history"])
        for verdict in ("unhelpful", "helpful", "withdrawn"):
            answers.get_by_text(verdict.removesuffix("n"), exact=True).tap()
            expect(row.locator(".verdict")).to_have_text(verdict)
            expect(row).to_be_focused()
        answers.get_by_text("history").tap()
        expect(page.locator(".history li")).to_have_count(4)
        assert overflow(page) <= 0
        page.get_by_label("text in the caption").fill("GOLD")
        expect(rows(page).first).to_be_visible()
        expect(answers, "nothing is chosen any more").to_have_count(0)
    said = [(Origin.HUMAN, Verdict.UNHELPFUL), (Origin.HUMAN, Verdict.HELPFUL), (Origin.WITHDRAWAL, None)]
    assert [(origin, verdict) for origin, _, verdict in logged(settings)] == said


def test_nothing_can_be_corrected_unless_editing_is_allowed(browser: Browser, settings: Settings) -> None:
    publish(settings, 2)
    asked: list[str] = []
    with served_labels(settings) as address, faultless_page(browser) as page:
        page.on("request", lambda request: asked.append(request.method))
        page.goto(address)
        row = choose(page, TEXTS[1])
        for key in "husw123":
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        expect(page.locator(".history li")).to_have_count(1)
        expect(row.locator(".verdict")).to_have_text("unhelpful")
        expect(page.get_by_text("Read-only")).to_be_visible()
        expect(page.get_by_role("toolbar").get_by_role("button")).to_have_text(["history"])
    assert set(asked) == {"GET"}
    assert not logged(settings)


def test_markup_in_captions_and_reasons_is_shown_and_runs_nothing(
    browser: Browser, settings: Settings
) -> None:
    publish_annotations(settings, [replace(annotation(MARKUP), reason=MARKUP, raw_answer=MARKUP)])
    with (
        served_labels(settings, "--allow-edit", "--person", MARKUP) as address,
        faultless_page(browser) as page,
    ):
        page.goto(address)
        expect(page.locator("#rows .caption")).to_have_text(MARKUP)
        expect(page.locator("#rows .reason")).to_have_text(MARKUP)
        choose(page, MARKUP)
        page.keyboard.press("h")
        expect(page.locator("#rows .by")).to_have_text(f"{MARKUP} (human)")
        expect(page.locator("#status")).to_have_text(f"helpful: {MARKUP}")
        page.keyboard.press("Enter")
        expect(page.locator(".history li")).to_have_count(2)
        page.locator("summary").click()
        expect(page.locator("img, #rows script")).to_have_count(0)
        assert page.title() == "onibus: labels"


def test_the_policy_stops_what_the_page_would_let_through(browser: Browser, settings: Settings) -> None:
    """Were a caption ever taken for markup, it still could not run: scripts need the nonce of the answer."""
    publish(settings, 1)

    def taken_for_markup() -> None:
        with faultless_page(browser) as page:
            page.goto(address)
            expect(rows(page)).to_have_count(1)
            with page.expect_console_message(lambda said: "script-src-attr forbids" in said.text):
                page.evaluate("markup => { document.body.innerHTML = markup; }", MARKUP)
            assert page.title() == "onibus: labels"

    with (
        served_labels(settings) as address,
        pytest.raises(AssertionError, match="script-src-attr forbids inline"),
    ):
        taken_for_markup()


def test_on_other_addresses_a_link_with_the_token_gives_access(browser: Browser, settings: Settings) -> None:
    publish(settings, 1)
    with (
        served_labels(settings, "--host", "0.0.0.0", "--allow-edit", "--person", "ada") as printed,
        faultless_page(browser) as page,
        faultless_page(browser) as stranger,
    ):
        address = printed.replace("0.0.0.0", "127.0.0.1")
        page.set_content(f'<a href="{address}">labels</a>')  # on a page of some other site
        page.get_by_role("link").click()
        expect(rows(page)).to_have_count(1)
        assert "token" not in page.url, "it would stay in the browser's history"
        row = choose(page, TEXTS[0])
        page.keyboard.press("u")
        expect(row.locator(".verdict")).to_have_text("unhelpful")
        answer = stranger.request.get(address.partition("?")[0])
        assert answer.status == 403


@pytest.mark.parametrize("width", [1200, 1125, 400])
def test_the_page_fits_its_window(browser: Browser, settings: Settings, width: int) -> None:
    publish_annotations(
        settings, [annotation(text) for text in (*TEXTS[:3], "x" * 300, "Many words in a row. " * 20)]
    )
    with served_labels(settings, "--allow-edit") as address, faultless_page(browser, width) as page:
        page.goto(address)
        expect(rows(page)).to_have_count(5)
        choose(page, "x" * 300)
        page.keyboard.press("Enter")
        page.locator("summary").click()
        assert overflow(page) <= 0


def test_a_page_that_is_opened_while_the_log_is_read_fills_itself(browser: Browser) -> None:
    board = LabelBoard()
    site = label_site(load_settings(), board, KnownSpecs({SPEC_ID: SPEC}), PageOptions())
    stopping = threading.Event()
    at = listening("127.0.0.1", 0)
    server = threading.Thread(target=serve_until, args=(site, at, stopping))
    server.start()
    try:
        with faultless_page(browser) as page:
            page.goto(f"http://127.0.0.1:{at.getsockname()[1]}/")
            expect(page.locator("#place")).to_have_text("reading the annotation log …")
            board.apply([LoggedAnnotation(0, 0, 0, annotation(TEXTS[0]))])
            expect(page.locator("#counts")).to_contain_text("1 label so far")
            choose(page, TEXTS[0])
            board.apply([LoggedAnnotation(0, 1, 0, annotation(TEXTS[1]))])
            board.is_complete = True
            with page.expect_response("**/labels?*"):  # of a refresh, which leaves a selected row alone
                pass
            expect(page.locator("#rows tr:focus")).to_contain_text(TEXTS[0])
            page.reload()
            expect(page.locator("#counts b")).to_have_text("2 labels")
    finally:
        stopping.set()
        server.join()
