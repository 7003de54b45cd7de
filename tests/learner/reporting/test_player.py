"""The page that plays an episode: whole, small, and harmless whatever the game says."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from onibus.learner.reporting.episode_players import player_of
from onibus.learner.reporting.player import player_page
from onibus.learner.reporting.recorded_episodes import ending
from onibus.learner.reporting.run_judge import Judgement, not_judged
from onibus.producers.nethack.playback import Frame, frames
from onibus.schemas.records import EpisodeFinished
from tests.producers.nethack.playing import Memory, environment, play


@pytest.fixture(scope="module")
def recorded() -> EpisodeFinished:
    """A game of 3,000 steps with random actions."""
    memory = Memory()
    env = environment("nle-gold", memory, max_episode_steps=3_000, run="a-run", seed=7)
    while not memory.episodes or memory.episodes[-1].steps < 3_000:
        play(env)
    env.close()
    return memory.episodes[-1]


def halves(caption: str | None, count: int) -> Judgement:
    return Judgement("helpful", 0.5 / count) if caption else Judgement("", 0.0)


def held(page: str) -> dict[str, Any]:
    """What the page holds of the episode."""
    found = re.search(r'<script id="episode" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    episode: dict[str, Any] = json.loads(found[1])
    return episode


def screens(episode: dict[str, Any]) -> list[str]:
    """The screen after each frame, put together as the page does it."""
    screen, made = [" "] * 1920, []
    for changes in episode["frames"]:
        for place, _colour, text in zip(*[iter(changes)] * 3, strict=True):
            screen[place : place + len(text)] = text
        made.append("".join(screen))
    return made


def test_the_page_holds_every_screen_caption_and_reward(recorded: EpisodeFinished) -> None:
    page = player_of(recorded, halves)
    episode, played = held(page), list(frames(recorded))
    assert screens(episode) == [frame.characters.tobytes().decode("latin-1") for frame in played]
    said = [(f.step, f.caption, f.count, round(0.5 / f.count, 6)) for f in played if f.caption is not None]
    assert said
    assert [(s, episode["texts"][t][0], n, r) for s, t, n, r in episode["said"]] == said
    assert {verdict for _, verdict in episode["texts"]} == {"helpful"}
    assert sum(amount for _, amount in episode["paid"]) == pytest.approx(recorded.extrinsic_return, abs=1e-3)


def test_an_episode_that_reached_the_step_limit_says_so(recorded: EpisodeFinished) -> None:
    page = player_of(recorded, halves)
    assert recorded.end == "aborted", "as NLE calls it"
    assert "ended by <b>step limit</b>" in page
    assert "aborted" not in page
    assert ending(replace(recorded, end="task_successful")) == "task successful"


def test_each_key_of_the_page_is_explained(recorded: EpisodeFinished) -> None:
    keys = re.search(r'<p id="keys">(.*?)</p>', player_of(recorded, halves), re.DOTALL)
    assert keys is not None
    assert keys[1].endswith("<kbd>Home</kbd> <kbd>End</kbd> the first and the last step.")


def test_3000_steps_take_less_than_2_mb_and_nothing_from_anywhere(recorded: EpisodeFinished) -> None:
    page = player_of(recorded, halves)
    assert recorded.steps == 3_000
    assert len(page.encode()) < 2_000_000
    assert not re.findall(r"""(?:src|href)=["']|https?://""", page)


def test_what_the_game_says_is_text_and_nothing_else() -> None:
    evil = "</script><script>alert(1)</script><!-- \u2028 & ]]>"
    blank = np.full((24, 80), 32, np.uint8)
    frame = Frame(0, blank, np.zeros((24, 80), np.int8), 0.0, evil, 1)
    page = player_page("<b>a-run</b>", [("ended by", "<i>a newt</i>")], [frame], not_judged)
    assert held(page)["texts"] == [[evil, ""]]
    assert page.count("<script") == 2
    assert "<b>a-run" not in page
    assert "<i>a newt" not in page


def test_colours_are_kept_and_what_is_not_printable_is_blank() -> None:
    characters = np.full((24, 80), 32, np.uint8)
    characters[1, :4] = (ord("a"), 0, ord("b"), ord("@"))
    colours = np.zeros((24, 80), np.int8)
    colours[1, :4] = (1, 5, 1, 0)
    frame = Frame(0, characters, colours, 0.0, None, 0)
    first, second = held(player_page("", [], [frame, frame], not_judged))["frames"]
    assert first == [80, 1, "a", 82, 1, "b", 83, 4, "@"], "NetHack's black is shown as blue"
    assert second == []
