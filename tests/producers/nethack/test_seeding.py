"""Seeds really seed: same seeds, same game; and nothing of one episode reaches the next."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nle import nethack

from onibus.producers.nethack.seeding import Seeds, episode_seeds, reset_with_seeds
from onibus.producers.nethack.tasks import make_task
from tests.producers.nethack.playing import environment, moments, play

TASKS = ["score", "keyroom-s5"]
_WALLS = range(nethack.GLYPH_CMAP_OFF + 1, nethack.GLYPH_CMAP_OFF + 12)
places = st.tuples(
    st.integers(0, 2**63 - 1), st.integers(0, 4000), st.integers(0, 4000), st.integers(0, 10**9)
)


@given(places, places)
def test_episodes_get_the_same_seeds_exactly_if_their_places_are_the_same(
    one: tuple[int, int, int, int], other: tuple[int, int, int, int]
) -> None:
    assert (episode_seeds(*one) == episode_seeds(*other)) is (one == other)
    assert all(0 <= seed < 2**63 for seed in episode_seeds(*one))


def first_map(task: str, **options: int | None) -> bytes:
    env = environment(task, observation="full", **options)
    observation, _info = env.reset()
    env.close()
    return bytes(observation["glyphs"].tobytes())


@pytest.mark.parametrize("task", TASKS)
def test_the_game_is_the_same_for_the_same_place_and_another_for_every_other(task: str) -> None:
    here = first_map(task, seed=5, worker=1, environment=2)
    assert first_map(task, seed=5, worker=1, environment=2) == here
    for elsewhere in ({"seed": 6}, {"worker": 2}, {"environment": 3}):
        assert first_map(task, **({"seed": 5, "worker": 1, "environment": 2} | elsewhere)) != here


def test_without_a_base_seed_each_environment_plays_another_game() -> None:
    assert first_map("score", seed=None) != first_map("score", seed=None)


def test_the_first_resets_seed_is_taken_where_no_base_seed_was_given() -> None:
    maps = []
    for base, given_at_reset in ((None, 9), (9, None), (9, 4)):
        env = environment("score", seed=base, observation="full")
        maps.append(env.reset(seed=given_at_reset)[0]["glyphs"].tobytes())
        env.close()
    assert maps[0] == maps[1] == maps[2]


@pytest.mark.parametrize("task", TASKS)
def test_an_episode_is_the_same_however_many_were_played_before_in_the_process(task: str) -> None:
    fresh, used = environment(task, max_episode_steps=150), environment(task, max_episode_steps=150)
    for earlier in range(5):
        play(used, seed=earlier)
    used.episode = fresh.episode
    fresh.reset()
    used.reset()
    for ours, theirs in zip(moments(fresh), moments(used), strict=True):
        assert all(np.array_equal(ours.observation[key], theirs.observation[key]) for key in ours.observation)
        assert ours.reward == theirs.reward
    fresh.close()
    used.close()


def test_nethack_gets_the_seeds_and_no_fresh_randomness_later() -> None:
    task = make_task("score")
    reset_with_seeds(task, Seeds(11, 12, 13))
    core, disp, reseed, level_generator = task.unwrapped.nethack.get_current_seeds()  # type: ignore[attr-defined]
    assert (core, disp, reseed, level_generator) == (11, 12, False, None)
    task.close()


def test_games_of_one_dungeon_have_the_same_levels_and_those_of_another_have_not() -> None:
    task = make_task("score")

    def first_level(core: int, dungeon: int) -> bytes:
        glyphs = reset_with_seeds(task, Seeds(core, core + 1, 0, dungeon))[0]["glyphs"]
        walls = np.isin(glyphs, _WALLS)  # the pet, whose place follows from the core seed, hides no wall
        return walls.tobytes()

    one = {first_level(core, 7) for core in range(4)}
    assert len(one) == 1
    assert one.isdisjoint(first_level(core, 8) for core in range(4))
    assert len({first_level(core, 0) for core in range(4)}) == 4
    task.close()


def test_past_players_do_not_haunt_the_next_episode() -> None:
    task = make_task("score")
    scores = task.unwrapped.nethack._vardir + "/record"  # type: ignore[attr-defined]
    with open(scores, "w") as file:
        file.write("3.6.7 90 0 1 2 0 14 1 20261120 20261120 0 Mon Hum Mal Neu Agent,killed by a jackal\n")
    reset_with_seeds(task, Seeds(1, 2, 3))
    with open(scores) as file:
        assert file.read() == ""
    task.close()


def test_pythons_own_generator_is_left_as_it_was() -> None:
    task = make_task("keyroom-s5")
    random.seed(1)
    expected = random.Random(1).random()
    reset_with_seeds(task, Seeds(1, 2, 3))
    assert random.random() == expected
    task.close()
