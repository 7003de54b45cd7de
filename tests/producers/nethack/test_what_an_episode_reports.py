"""Scout, kills, success and progression: what is counted on the way equals a second count over the replay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nle import nethack

from onibus.producers.nethack.episodes import Moment, play_again, verify
from onibus.producers.nethack.explored import Explored, add_shown
from onibus.producers.nethack.messages import kills
from onibus.producers.nethack.progression import BY_DEPTH, BY_EXPERIENCE_LEVEL, progression
from onibus.schemas import codec
from onibus.schemas.records import EpisodeFinished
from tests.producers.nethack.playing import Memory, environment, play

PLAYED = Path(__file__).parent / "played_games"


def recorded_games() -> list[EpisodeFinished]:
    """A long game over several levels with fifty kills, games that end in death, and games of MiniHack."""
    files = sorted(PLAYED.iterdir())
    records = [codec.decode(EpisodeFinished, file.read_bytes()) for file in files]
    memory = Memory()
    for task, games, steps in (("score", 4, 2500), ("room-monster-15x15", 2, 200), ("keyroom-s5", 2, 200)):
        env = environment(task, memory, max_episode_steps=steps)
        for seed in range(games):
            play(env, seed)
        env.close()
    return records + memory.episodes


def observations(record: EpisodeFinished) -> Iterator[Moment]:
    """Moments of a game with every observation that the game gave; a death leaves none."""
    last = len(record.actions)
    going_on = replace(record, max_episode_steps=last + 1)
    for step, moment in enumerate(play_again(going_on)):
        if moment.observation["blstats"][nethack.NLE_BL_DEPTH]:  # 0 once the game is over
            yield moment
        else:
            yield moment._replace(observation={})
        if step == last:
            return


def test_scout_kills_and_progression_equal_a_second_count_over_recorded_games() -> None:
    records = recorded_games()
    assert {record.end for record in records} >= {"death", "aborted"}
    assert max(record.kills or 0 for record in records) >= 50
    for record in records:
        seen: set[tuple[int, int, int, int]] = set()
        killed = depth = experience = 0
        for moment in observations(record):
            if moment.caption is not None:
                for message in moment.caption.text.split(" / "):
                    for sentence in message.split("  "):
                        killed += sentence.startswith(("You kill ", "You destroy ")) and "!" in sentence
            if not moment.observation:
                continue
            glyphs, blstats = moment.observation["glyphs"], moment.observation["blstats"].tolist()
            level = (blstats[nethack.NLE_BL_DNUM], blstats[nethack.NLE_BL_DLEVEL])
            seen |= {(*level, int(y), int(x)) for y, x in np.argwhere(glyphs != nethack.GLYPH_CMAP_OFF)}
            depth = max(depth, blstats[nethack.NLE_BL_DEPTH])
            experience = max(experience, blstats[nethack.NLE_BL_XP])
        assert (record.scout, record.kills) == (len(seen), killed)
        expected = max(BY_DEPTH[depth - 1], BY_EXPERIENCE_LEVEL[experience - 1])
        assert record.progression == (None if record.action_set == "" else expected)
        verify(record)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("You kill the newt!", 1),
        ("You kill it!", 1),
        ("You kill poor Slasher!", 1),
        ("You destroy the kobold zombie!", 1),
        ("You hit it!  You kill the newt!  You kill the newt!", 2),
        ("You hear the shrieks.  You destroy it!  Welcome to experience level 2.", 1),
        ("CRASH!  You destroy the throne.", 0),
        ("The little dog kills the newt.", 0),
        ("You killed by a newt", 0),
        ('You read: "You kill time!"', 0),
        ("Really attack the peaceful gnome?", 0),
        ("", 0),
    ],
)
def test_what_counts_as_a_kill(message: str, expected: int) -> None:
    assert kills(message) == expected


def test_squares_once_seen_stay_seen_and_levels_are_apart() -> None:
    explored, blank = Explored(), np.full(nethack.DUNGEON_SHAPE, nethack.GLYPH_CMAP_OFF, np.int16)

    def look(level: int, *squares: tuple[int, int], dungeon: int = 0, experience: int = 1) -> None:
        glyphs, blstats = blank.copy(), np.zeros(27, np.int64)
        for square in squares:
            glyphs[square] = nethack.GLYPH_CMAP_OFF + 19
        blstats[nethack.NLE_BL_DNUM], blstats[nethack.NLE_BL_DLEVEL] = dungeon, level
        blstats[nethack.NLE_BL_DEPTH], blstats[nethack.NLE_BL_XP] = level + dungeon, experience
        explored.look(glyphs, blstats.tobytes())

    explored.begin()
    look(1, (3, 3), (3, 4))
    look(1)  # blind, or swallowed
    look(2, (3, 3), experience=5)
    look(2, (3, 3), dungeon=2, experience=4)
    look(1, (3, 4), (3, 5), experience=3)
    assert explored.scout() == 3 + 1 + 1
    assert (explored.depth, explored.experience_level) == (4, 5)
    explored.begin()
    assert (explored.scout(), explored.depth, explored.experience_level) == (0, 0, 0)


@pytest.mark.parametrize(
    ("depth", "experience_level", "published"),
    [
        # of BALROG's achievements.json
        (1, 1, 0.0),
        (2, 1, 0.015392269075361172),
        (2, 2, 0.01847840456172601),
        (10, 8, 0.12558597019922987),
        (5, 14, 0.49403949403949404),
        (50, 30, 0.8067964442444019),
        (1, 30, 0.7804561949196475),
        (53, 1, 0.8067964442444019),
        (-5, 1, 0.0),
    ],
)
def test_progression_is_balrogs(depth: int, experience_level: int, published: float) -> None:
    assert progression(depth, experience_level) == pytest.approx(published, abs=1e-6)


def test_progression_never_falls_with_a_level() -> None:
    assert (len(BY_DEPTH), len(BY_EXPERIENCE_LEVEL)) == (50, 30)
    assert sorted(BY_DEPTH) == list(BY_DEPTH)
    assert sorted(BY_EXPERIENCE_LEVEL) == list(BY_EXPERIENCE_LEVEL)


@pytest.mark.parametrize(
    ("task", "knows"), [("score", False), ("gold", False), ("staircase", True), ("room-5x5", True)]
)
def test_success_is_reported_where_a_task_has_one(task: str, knows: bool) -> None:
    memory = Memory()
    env = environment(task, memory, max_episode_steps=20)
    extra = play(env).info["episode_extra_stats"]
    assert ("success" in extra) is knows
    assert (memory.episodes[0].success is not None) is knows
    env.close()


def test_without_captions_no_kills_are_reported() -> None:
    memory = Memory()
    env = environment("score", memory, captions=False, max_episode_steps=20)
    extra: dict[str, Any] = play(env).info["episode_extra_stats"]
    assert "kills" not in extra
    assert memory.episodes[0].kills is None
    env.close()


def test_what_was_seen_is_the_same_where_others_add_it_up() -> None:
    """Of levels that are left and come back to, with squares that are no longer shown."""
    draws, row = np.random.default_rng(0), np.ones(nethack.DUNGEON_SHAPE, np.bool_)
    alone, shared, room = Explored(), Explored(), np.empty_like(row)
    for episode in range(3):
        for explored in (alone, shared):
            explored.begin()
        for step in range(60):
            glyphs = np.full(nethack.DUNGEON_SHAPE, nethack.GLYPH_CMAP_OFF, np.int16)
            glyphs[draws.integers(21, size=5), draws.integers(79, size=5)] = nethack.GLYPH_CMAP_OFF + 19
            blstats = np.zeros(27, np.int64)
            blstats[nethack.NLE_BL_DLEVEL] = draws.integers(1, 5)
            alone.look(glyphs, blstats.tobytes())
            if (episode, step) == (0, 0):
                shared.look(glyphs, blstats.tobytes())
                shared.share(row)
            elif step in (0, 59):  # of a reset, and before a quit
                shared.look(glyphs, blstats.tobytes())
            else:
                shared.note(blstats.tobytes())
                add_shown(glyphs, row, room)
            assert shared.scout() == alone.scout()
        assert (shared.depth, shared.experience_level) == (alone.depth, alone.experience_level)
