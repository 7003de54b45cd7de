"""The player in a real browser: with keys, mouse and scrubber, on a desk and on a telephone."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from onibus.learner.reporting.episode_players import player_of
from onibus.learner.reporting.run_judge import Judgement
from onibus.producers.nethack.playback import frames
from onibus.schemas.records import EpisodeFinished
from tests.browser import faultless_page, overflow
from tests.producers.nethack.playing import Memory, environment, play


@pytest.fixture(scope="module")
def recorded() -> EpisodeFinished:
    memory = Memory()
    env = environment("keyroom-s5", memory, max_episode_steps=450, run="a-run")
    while not memory.episodes or memory.episodes[-1].steps < 450:
        play(env)
    env.close()
    return memory.episodes[-1]


def judge(caption: str | None, count: int) -> Judgement:
    if caption is None:
        return Judgement("", 0.0)
    return Judgement("helpful", 0.5) if count == 1 else Judgement("unhelpful", 0.0)


@pytest.fixture(scope="module")
def player(recorded: EpisodeFinished, tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("player") / "best.html"
    path.write_text(player_of(recorded, judge))
    return path.as_uri()


def screen(map_: Locator) -> str:
    return "\n".join(line.rstrip() for line in map_.locator("div").all_text_contents())


def expected(recorded: EpisodeFinished, step: int) -> str:
    for frame in frames(recorded):
        if frame.step == step:
            shown = frame.characters.tolist()
            break
    return "\n".join("".join(map(chr, row)).rstrip() for row in shown)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 400])
def test_the_player_fits_the_window(browser: Browser, player: str, width: int, scheme: str) -> None:
    with faultless_page(browser, width) as page:
        page.emulate_media(color_scheme=scheme)
        page.goto(player)
        assert overflow(page) <= 0
        line = page.locator("#map div").first
        box, map_ = line.bounding_box(), page.locator("#map").bounding_box()
        assert box is not None
        assert map_ is not None
        assert map_["x"] + map_["width"] <= width
        assert line.evaluate("one => one.scrollWidth") <= map_["width"], "80 columns are seen"
        expect(page.locator(".strip")).to_have_count(3)


def test_keys_buttons_and_scrubber_go_to_a_step(
    browser: Browser, player: str, recorded: EpisodeFinished
) -> None:
    with faultless_page(browser) as page:
        page.goto(player)
        place, map_ = page.locator("#place"), page.locator("#map")
        expect(place).to_have_text(f"step 0 of {recorded.steps}")
        for key, step in (("ArrowRight", 1), ("Shift+ArrowRight", 26), ("ArrowLeft", 25), ("End", 450)):
            page.keyboard.press(key)
            expect(place).to_have_text(f"step {step} of {recorded.steps}")
        for step in (410, 7, 333):  # forward and back, over the copies of the screen
            page.locator("#scrubber").fill(str(step))
            expect(place).to_have_text(f"step {step} of {recorded.steps}")
            assert screen(map_) == expected(recorded, step)
        page.keyboard.press("Home")
        page.keyboard.press("n")
        first = next(frame for frame in frames(recorded) if frame.caption is not None)
        expect(place).to_have_text(f"step {first.step} of {recorded.steps}")
        now = page.locator("#captions li.now")
        expect(now).to_contain_text(first.caption or "")
        expect(now).to_contain_text("✓")
        expect(now).to_contain_text("+0.50")
        page.locator("#captions li").nth(5).click()
        expect(place).not_to_have_text(f"step {first.step} of {recorded.steps}")
        page.locator(".track").first.click(position={"x": 0, "y": 10})
        expect(place).to_have_text(f"step 0 of {recorded.steps}")


def test_it_plays_to_the_end_and_no_further(browser: Browser, player: str, recorded: EpisodeFinished) -> None:
    with faultless_page(browser) as page:
        page.goto(f"{player}#400")
        expect(page.locator("#place")).to_have_text(f"step 400 of {recorded.steps}")
        page.locator("#speed").select_option("200")
        page.keyboard.press("Escape")
        page.locator("h1").click()
        page.keyboard.press(" ")
        expect(page.locator("#place")).to_have_text(f"step {recorded.steps} of {recorded.steps}")
        expect(page.locator("#play")).to_have_text("play")
        intrinsic = page.locator(".strip").nth(1).locator("b")
        total = sum(judge(frame.caption, frame.count).reward for frame in frames(recorded))
        expect(intrinsic).to_have_text(f"{total:.3f}")
