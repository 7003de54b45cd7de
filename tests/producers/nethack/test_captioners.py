"""Captioners of NetHack's tasks: the message, the message and what changed, and the user's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nle import nethack

from onibus.infra.errors import OnibusError
from onibus.producers.nethack import episodes
from onibus.producers.nethack.captioners import game_captioner, message_and_changes
from onibus.producers.publishing.caption_texts import Transition
from onibus.schemas.ids import caption_id
from onibus.schemas.records import EpisodeFinished
from tests.producers.nethack.playing import Memory, environment, moments

CHANGES = "message-and-changes"


def step(before: dict[str, int], after: dict[str, int], message: str | None = None) -> Transition:
    usual = {"XP": 1, "HUNGER": 1, "DEPTH": 1, "HP": 14, "HPMAX": 14}
    status = []
    for changed in (before, after):
        numbers = np.zeros(27, np.int64)
        for name, value in (usual | changed).items():
            numbers[getattr(nethack, f"NLE_BL_{name}")] = value
        status.append({"blstats": numbers})
    info = {} if message is None else {"caption": message}
    return Transition(status[0], 0, status[1], 0.0, False, False, info, None)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, {}, None),
        ({}, {"HP": 13}, None),
        ({}, {"XP": 2}, "You are now at experience level 2."),
        ({"XP": 3}, {"XP": 2}, "You are now at experience level 2."),
        ({}, {"HUNGER": 2}, "You are hungry."),
        ({"HUNGER": 2}, {"HUNGER": 1}, "You are not hungry."),
        ({}, {"DEPTH": 2}, "You have gone down to depth 2."),
        ({"DEPTH": 4}, {"DEPTH": 3}, "You have gone up to depth 3."),
        ({"HP": 6}, {"HP": 5}, "Your hit points are low."),
        ({"HP": 4}, {"HP": 3}, None),
        ({"HP": 5}, {"HP": 6}, "Your hit points are no longer low."),
        ({"HP": 20, "HPMAX": 70}, {"HP": 10, "HPMAX": 70}, "Your hit points are low."),
        ({"HP": 20, "HPMAX": 70}, {"HP": 11, "HPMAX": 70}, None),
        ({}, {"DEPTH": 2, "HP": 2}, "You have gone down to depth 2. / Your hit points are low."),
    ],
)
def test_changes_of_the_status_lines_are_said(
    before: dict[str, int], after: dict[str, int], said: str | None
) -> None:
    assert message_and_changes(step(before, after)) == said
    with_message = "You fall.  Ouch!" if said is None else f"You fall.  Ouch! / {said}"
    assert message_and_changes(step(before, after, "You fall.  Ouch!")) == with_message


def test_the_end_of_an_episode_has_its_message_alone() -> None:
    last = step({"DEPTH": 3}, {"DEPTH": 0, "HP": 0}, "You die...")._replace(terminated=True)
    assert message_and_changes(last) == "You die..."


def played(captioner: str, games: int = 3, **options: Any) -> Memory:
    memory = Memory()
    env = environment("score", memory, max_episode_steps=1_500, captioner=captioner, **options)
    for seed in range(games):
        env.reset()
        for _ in moments(env, seed):
            pass
    env.close()
    return memory


def texts(memory: Memory) -> list[tuple[int, int, str]]:
    return [(episode, step, caption.text) for caption, _, _, episode, step, _ in memory.captions]


def test_messages_are_the_same_and_changes_are_joined_to_them() -> None:
    plain, changes = played("message"), played(CHANGES)
    messages = {(episode, step): text for episode, step, text in texts(plain)}
    told = {(episode, step): text for episode, step, text in texts(changes)}
    assert {caption.captioner for caption, *_ in plain.captions} == {"message"}
    assert {caption.captioner for caption, *_ in changes.captions} == {CHANGES}
    assert messages.keys() <= told.keys()
    for place, text in told.items():
        message = messages.get(place)
        assert message is None or text == message or text.startswith(f"{message} / ")
    different = {text for place, text in told.items() if text != messages.get(place)}
    assert any("Your hit points are low." in text for text in different)
    for caption, *_ in changes.captions:
        assert caption.id == caption_id(caption.text), "the same text is the same caption"
    assert [r.checksum for r in plain.episodes] == [r.checksum for r in changes.episodes]
    assert [r.kills for r in plain.episodes] == [r.kills for r in changes.episodes]


def _low_in(memory: Memory) -> int:
    """The first episode in which hit points became low."""
    return next(episode for episode, _, text in texts(memory) if "Your hit points are low." in text)


@pytest.mark.parametrize("captioner", ["message", CHANGES])
def test_episodes_are_played_again_with_their_captioner(captioner: str) -> None:
    memory = played(captioner)
    for number, record in enumerate(memory.episodes):
        assert record.captioner == captioner
        again = [
            (number, step, moment.caption.text)
            for step, moment in enumerate(episodes.play_again(record))
            if moment.caption is not None
        ]
        assert again == [found for found in texts(memory) if found[0] == number]
    other = {"message": CHANGES, CHANGES: "message"}[captioner]
    with_changes = memory.episodes[_low_in(played(CHANGES))]
    with pytest.raises(OnibusError, match=r"\(captions differ\)"):
        episodes.verify(replace(with_changes, captioner=other))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    module = tmp_path / "own_words.py"
    module.write_text(
        "__version__ = '1.0'\n"
        "def say(step):\n"
        "    moved = (step.before['blstats'][:2] != step.after['blstats'][:2]).any()\n"
        "    message = step.info.get('caption')\n"
        "    return message or ('You move.' if moved and not step.terminated else None)\n"
        "def fail(step):\n"
        "    return 1 / 0\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    game_captioner.cache_clear()
    yield module
    sys.modules.pop("own_words", None)
    game_captioner.cache_clear()


def test_a_captioner_of_the_users_own_plays_nethack(own: Path) -> None:
    memory = played("own_words:say", games=1)
    (record,) = memory.episodes
    assert record.captioner == "own_words:say 1.0"
    assert {caption.captioner for caption, *_ in memory.captions} == {"own_words:say 1.0"}
    assert "You move." in {text for *_, text in texts(memory)}
    episodes.verify(record)

    old: EpisodeFinished = replace(record, captioner="own_words:say 0.9", caption_checksum=1)
    reason = "recorded with the captioner own_words:say 0.9, played again with own_words:say 1.0"
    with pytest.raises(OnibusError, match=reason):
        episodes.verify(old)


def test_what_is_wrong_with_a_captioner_is_said_in_one_line(own: Path) -> None:
    with pytest.raises(OnibusError, match=r"captioner own_words:fail 1.0 failed: .*\(own_words.py, line 7\)"):
        played("own_words:fail", games=1)
    with pytest.raises(OnibusError, match="there is no captioner 'mesage'; give message"):
        environment("score", captioner="mesage")
    with pytest.raises(OnibusError, match="own_words has no tell"):
        environment("score", captioner="own_words:tell")
    with pytest.raises(OnibusError, match=r"own_words:__version__: this is a str; name a function"):
        environment("score", captioner="own_words:__version__")


def test_what_stands_on_the_bus_has_no_module_imported(own: Path) -> None:
    record = replace(played("message", games=1).episodes[0], captioner="own_words:say 1.0")
    with pytest.raises(OnibusError, match=r"those of own_words:say 1\.0; add --import own_words to play"):
        episodes.verify(record)
    assert "own_words" not in sys.modules
