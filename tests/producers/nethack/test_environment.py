"""What a learner gets from an environment: observations, captions in them, endings."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from nle import nethack
from numpy.typing import NDArray

from onibus.producers.nethack.environment import NetHackEnvironment
from onibus.producers.nethack.observations import (
    BLSTATS_SCALE,
    CROP,
    JointObserver,
    Observer,
    observation_space,
)
from onibus.schemas.ids import caption_id, lookup_id
from tests.producers.nethack.playing import Memory, environment, moments, play

TASKS = ["score", "keyroom-s5"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("size", ["small", "medium", "full"])
@pytest.mark.parametrize("captions", [True, False])
def test_observations_are_those_of_the_space(
    task: str, size: Literal["small", "medium", "full"], captions: bool
) -> None:
    env = environment(task, observation=size, captions=captions, max_episode_steps=60)
    keys = {"blstats", "crop"} | {"medium": {"glyphs"}, "full": {"glyphs", "message"}}.get(size, set())
    assert set(env.observation_space.keys()) == keys | ({"caption"} if captions else set())  # type: ignore[attr-defined]
    assert env.observation_space.contains(env.reset()[0])
    for moment in moments(env):
        assert env.observation_space.contains(moment.observation)
    assert env.observation_space.contains(env.reset()[0])
    env.close()


def test_observations_are_copies_that_later_steps_leave_alone() -> None:
    env = environment("score", observation="full", max_episode_steps=80)
    kept = [env.reset()[0]]
    copies = [{key: value.copy() for key, value in kept[0].items()}]
    for moment in moments(env):
        kept.append(moment.observation)
        copies.append({key: value.copy() for key, value in moment.observation.items()})
    env.reset()
    for ours, copied in zip(kept, copies, strict=True):
        assert all(np.array_equal(ours[key], copied[key]) for key in copied)
    env.close()


PLACES = [(0, 0), (78, 20), (3, 16), (4, 4), (74, 16), (40, 10), (75, 17), (2, 19), (40, 17), (40, 20)]


def raw_at(place: tuple[int, int]) -> dict[str, NDArray[Any]]:
    raw = {
        "glyphs": np.arange(21 * 79, dtype=np.int16).reshape(21, 79) + place[0],
        "message": np.zeros(256, np.uint8),
        "blstats": np.arange(27, dtype=np.int64) * 10,
    }
    raw["blstats"][:2] = place
    return raw


def test_the_crop_is_the_glyphs_around_the_player() -> None:
    """Of one game, and of many at once."""
    space = observation_space(glyphs=False, message=False, captions=False)
    raws = [raw_at(place) for place in PLACES]
    rows = {
        "blstats": np.zeros((len(PLACES), 27), np.float32),
        "crop": np.zeros((len(PLACES), 9, 9), np.int16),
    }
    JointObserver(raws).observe(rows, [(0, 0)] * len(PLACES))
    for (x, y), raw, joint in zip(PLACES, raws, rows["crop"], strict=True):
        around = np.pad(raw["glyphs"], CROP // 2, constant_values=nethack.MAX_GLYPH)
        crop = Observer(space).observe(raw, (0, 0))["crop"]
        assert np.array_equal(crop, around[y : y + CROP, x : x + CROP])
        assert crop[CROP // 2, CROP // 2] == raw["glyphs"][y, x]
        assert np.array_equal(crop, joint)


def test_statistics_are_scaled_and_clipped() -> None:
    raw = raw_at((40, 10))
    raw["blstats"][nethack.NLE_BL_GOLD], raw["blstats"][nethack.NLE_BL_ALIGN] = 10**6, -(10**6)
    space = observation_space(glyphs=True, message=True, captions=True)
    scaled = Observer(space).observe(raw, (0, 0))["blstats"]
    assert scaled[nethack.NLE_BL_GOLD] == 5.0
    assert scaled[nethack.NLE_BL_ALIGN] == -5.0
    assert scaled[nethack.NLE_BL_HP] == pytest.approx(100 * BLSTATS_SCALE["HP"])
    assert scaled[nethack.NLE_BL_X] == pytest.approx(40 / 79)
    assert len(BLSTATS_SCALE) == nethack.NLE_BLSTATS_SIZE


@pytest.mark.parametrize("task", TASKS)
def test_captions_count_from_one_within_each_episode_and_say_what_was_said(task: str) -> None:
    memory = Memory()
    env = environment(task, memory, max_episode_steps=200, worker=3, environment=4)
    env.policy_version = 17
    for episode in range(3):
        seen: dict[int, int] = {}
        memory.captions.clear()
        env.reset()
        told = iter(memory.captions)
        for moment in moments(env, seed=episode):
            lookup, count = moment.observation["caption"].tolist()
            if lookup == 0:
                assert count == 0
                continue
            seen[lookup] = seen.get(lookup, 0) + 1
            assert count == seen[lookup]
            caption, *place = next(told)
            assert place == [3, 4, episode, moment.step, 17]
            assert caption.lookup == lookup == lookup_id(caption_id(caption.text))
        assert next(told, None) is None
        assert seen
    env.close()


def dying(env: NetHackEnvironment, memory: Memory) -> np.ndarray:
    """Play until the game says that the player dies; the caption of the last step."""
    for seed in range(40):
        last = play(env, seed)
        if memory.episodes[-1].end == "death" and "You die" in memory.captions[-1][0].text:
            return last.observation["caption"]
    raise AssertionError("the game told of no death in forty games")


def test_the_caption_of_a_death_is_heard_published_and_carried_to_the_next_reset() -> None:
    memory = Memory()
    env = environment("score", memory, max_episode_steps=3000)
    terminal = dying(env, memory)
    caption = memory.captions[-1][0]
    assert " / You die" in caption.text, "and of what led to it"
    assert terminal.tolist() == [caption.lookup, 1]
    assert env.reset()[0]["caption"].tolist() == terminal.tolist()
    assert env.step(0)[0]["caption"].tolist() != terminal.tolist()
    env.reset()
    assert env.reset()[0]["caption"].tolist() == [0, 0], "a game that was left half way has no last word"
    env.close()


@pytest.mark.parametrize("task", TASKS)
def test_what_the_game_says_while_it_is_quit_is_nobodys_outcome(task: str) -> None:
    memory = Memory()
    env = environment(task, memory, max_episode_steps=5)
    for seed in range(20):
        play(env, seed)
    texts = {told[0].text for told in memory.captions}
    assert texts
    assert not any("Really quit" in text or "possessions" in text for text in texts)
    env.close()


def test_greetings_at_the_start_are_nobodys_outcome() -> None:
    memory = Memory()
    env = environment("score", memory)
    assert env.reset()[0]["caption"].tolist() == [0, 0]
    assert memory.captions == []
    env.step(0)
    assert not any("welcome to NetHack" in told[0].text for told in memory.captions)
    assert env._said is not None
    env._said.append(b"It is written in the Book of Thoth:".ljust(256, b"\0"))
    env.reset()
    env.step(0)
    assert not any("Thoth" in told[0].text for told in memory.captions)
    env.close()


def test_without_captions_nothing_listens_to_the_game() -> None:
    memory = Memory()
    env = environment("score", memory, captions=False, max_episode_steps=100)
    assert env.unwrapped.nethack.step.__name__ == "step"  # type: ignore[attr-defined]
    last = play(env)
    assert "caption" not in last.observation
    assert memory.captions == []
    env.close()


@pytest.mark.parametrize("task", TASKS)
def test_a_step_limit_truncates_and_the_statistics_are_those_before_nle_quit_the_game(task: str) -> None:
    env = environment(task, max_episode_steps=40)
    last = play(env)
    assert (last.terminated, last.truncated) == (False, True)
    extra = last.info["episode_extra_stats"]
    always = {"score", "depth", "experience_level", "gold", "turns", "scout", "kills", "died"}
    assert set(extra) == always | {"progression" if task == "score" else "success"}
    assert all(isinstance(value, float) for value in extra.values())
    assert extra["turns"] > 1
    assert extra["depth"] == 1.0
    assert extra["experience_level"] == 1.0
    env.close()


@pytest.mark.parametrize("task", TASKS)
def test_statistics_at_a_step_limit_are_those_of_the_last_step(task: str) -> None:
    """The witness is the same game with one more step to go: there the 40th observation is not lost."""
    longer = environment(task, max_episode_steps=41)
    longer.reset()
    for moment in moments(longer):
        if moment.step == 40:
            blstats = _raw_blstats(longer)
    env = environment(task, max_episode_steps=40)
    extra = play(env).info["episode_extra_stats"]
    assert extra["turns"] == blstats[nethack.NLE_BL_TIME]
    assert extra["gold"] == blstats[nethack.NLE_BL_GOLD]
    assert extra["score"] == blstats[nethack.NLE_BL_SCORE]
    env.close()
    longer.close()


def test_deaths_terminate_with_their_cause_and_other_ends_have_none() -> None:
    memory = Memory()
    env = environment("score", memory, max_episode_steps=700)
    for seed in range(40):
        env.reset()
        turns = 0
        for moment in moments(env, seed):
            turns_before, turns = turns, int(_raw_blstats(env)[nethack.NLE_BL_TIME])
            terminated = moment.terminated
        record = memory.episodes[-1]
        assert terminated is (record.end == "death")
        assert bool(record.cause_of_death) is (record.end == "death")
        assert record.depth >= 1
        if record.end == "death":
            assert record.turns == turns_before
        if {e.end for e in memory.episodes[:-1]} == {"death", "aborted"} and record.end == "death":
            break  # a death after both kinds
    else:
        raise AssertionError("forty games without a death after a step limit")
    env.close()


def _raw_blstats(env: NetHackEnvironment) -> np.ndarray:
    game = env.unwrapped
    return game.last_observation[game._blstats_index].copy()  # type: ignore[attr-defined,no-any-return]


def test_success_terminates() -> None:
    memory = Memory()
    env = environment("room-5x5", memory)
    for seed in range(20):
        last = play(env, seed)
        if memory.episodes[-1].end == "task_successful":
            assert (last.terminated, last.truncated, last.reward > 0) == (True, False, True)
            return
    raise AssertionError("nobody found the stairs of a 5x5 room in twenty games")


def test_a_game_that_ended_leaves_the_hang_up_of_the_terminal_to_the_process() -> None:
    env = environment("score", Memory(), max_episode_steps=20)
    play(env, 0)
    env.reset()
    assert not hang_ups_are_ignored()
    play(env, 0)
    env.close()
    assert not hang_ups_are_ignored()


def hang_ups_are_ignored() -> bool:
    """Asked of the kernel, for Python does not know what NetHack did."""
    ignored = re.search(r"SigIgn:\s*(\w+)", Path("/proc/self/status").read_text())
    assert ignored is not None
    return bool(int(ignored[1], 16) >> (signal.SIGHUP - 1) & 1)
