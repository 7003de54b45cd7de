"""Staircase and oracle: what is a success and what is not, in tables of observations and in real games."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from nle import nethack

from onibus.producers.nethack.sparse_tasks import ORACLE_GLYPH, SUCCESS_REWARD
from onibus.producers.nethack.tasks import make_task
from tests.producers.nethack.playing import Memory, environment, moments
from tests.producers.nethack.walking import take_the_stairs

STAIRS = "You descend the stairs."
BURDENED = "You fall down the stairs."
FLYING = "You fly down the stairs."
TRAP_DOOR = "A trap door opens up under you!"
MINES, DOOM = 2, 0
SPARSE = ["staircase", "staircase-level-3", "staircase-level-4", "oracle", "oracle-sober"]


class Shown(NamedTuple):
    """One observation: what the game says, and where the player is then."""

    message: str
    dungeon: int = DOOM
    level: int = 1
    depth: int = 1
    more: bool = False
    """Whether a ``--More--`` stands behind the message."""


class ScriptedGame:
    """Shows observations in turn, whatever key it is sent: a game whose course a test can choose."""

    def __init__(self, task: Any, script: list[list[np.ndarray]]) -> None:
        self._script = iter(script)
        self.keys: list[int] = []
        self._real = task.nethack
        self._arrays = task.last_observation

    def step(self, key: int) -> tuple[list[np.ndarray], bool]:
        self.keys.append(int(key))
        for array, shown in zip(self._arrays, next(self._script), strict=True):
            array[...] = shown
        return self._arrays, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def observation(task: Any, shown: Shown) -> list[np.ndarray]:
    arrays = [np.zeros_like(a) for a in task.last_observation]
    text = shown.message.encode("latin-1")
    arrays[task._message_index][: len(text)] = list(text)
    blstats = arrays[task._blstats_index]
    blstats[nethack.NLE_BL_DNUM], blstats[nethack.NLE_BL_DLEVEL] = shown.dungeon, shown.level
    blstats[nethack.NLE_BL_DEPTH] = shown.depth
    arrays[task._internal_index][3] = shown.more
    return arrays


def rewards(name: str, *steps: list[Shown]) -> list[float]:
    """Rewards of one action for each step, which is a list of what the game shows in it."""
    task: Any = make_task(name).unwrapped
    task.reset()
    script = [observation(task, shown) for step in steps for shown in step]
    real, task.nethack = task.nethack, ScriptedGame(task, script)
    task._quit_game = lambda *_: None
    try:
        return [task.step(0)[1] for _ in steps]
    finally:
        task.nethack = real
        task.close()


@pytest.mark.parametrize(
    ("name", "steps", "expected"),
    [
        pytest.param("staircase", [[Shown(STAIRS, level=2, depth=2)]], 50, id="stairs to level 2"),
        pytest.param("staircase", [[Shown(BURDENED, level=2, depth=2)]], 50, id="burdened"),
        pytest.param("staircase", [[Shown(FLYING, level=2, depth=2)]], 50, id="flying"),
        pytest.param("staircase", [[Shown(TRAP_DOOR, level=2, depth=2)]], 0, id="trap door"),
        pytest.param("staircase", [[Shown("", level=2, depth=2)]], 0, id="there without a word"),
        pytest.param("staircase", [[Shown(STAIRS, level=3, depth=3)]], 0, id="one level too deep"),
        pytest.param(
            "staircase",
            [[Shown(STAIRS, level=2, depth=2, more=True), Shown("You see here a rock.", level=2, depth=2)]],
            50,
            id="behind --More--",
        ),
        pytest.param(
            "staircase",
            [
                [
                    Shown("You hear a door open.", more=True),
                    Shown(f"{STAIRS}  You feel", level=2, depth=2, more=True),
                    Shown("", level=2, depth=2),
                ]
            ],
            50,
            id="between two --More--",
        ),
        pytest.param(
            "staircase",
            [[Shown(STAIRS, level=1)], [Shown("", level=2, depth=2)]],
            0,
            id="said in an earlier step",
        ),
        pytest.param("staircase-level-3", [[Shown(STAIRS, level=3, depth=3)]], 50, id="stairs to level 3"),
        pytest.param("staircase-level-3", [[Shown(STAIRS, MINES, 1, 3)]], 0, id="first level of the Mines"),
        pytest.param("staircase-level-3", [[Shown(STAIRS, MINES, 3, 5)]], 0, id="third level of the Mines"),
        pytest.param("staircase-level-3", [[Shown(STAIRS, level=2, depth=2)]], 0, id="not yet"),
        pytest.param("staircase-level-4", [[Shown(STAIRS, level=4, depth=4)]], 50, id="stairs to level 4"),
        pytest.param("staircase-level-4", [[Shown(STAIRS, MINES, 2, 4)]], 0, id="depth 4 in the Mines"),
    ],
)
def test_stairs_to_a_level(name: str, steps: list[list[Shown]], expected: float) -> None:
    assert rewards(name, *steps)[-1] == expected
    assert sum(rewards(f"{name}-continual", *steps)) == expected


def test_continual_pays_for_the_first_time_alone() -> None:
    there, back = [Shown(STAIRS, level=2, depth=2)], [Shown("You climb up the stairs.")]
    assert rewards("staircase-continual", there, back, there, back) == [50, 0, 0, 0]


@pytest.mark.parametrize(
    ("offset", "hallucinates", "success", "sober"),
    [
        ((0, 1), False, True, True),
        ((-1, -1), False, True, True),
        ((1, 0), False, True, True),
        ((0, 2), False, False, False),
        ((-2, 1), False, False, False),
        ((0, 1), True, True, False),
        ((1, 1), True, True, False),
    ],
)
@pytest.mark.parametrize("place", [(10, 40), (0, 0), (20, 78), (0, 78)])
def test_the_oracle_is_beside_the_player(
    place: tuple[int, int], offset: tuple[int, int], hallucinates: bool, success: bool, sober: bool
) -> None:
    y, x = place[0] + offset[0], place[1] + offset[1]
    inside = 0 <= y < 21 and 0 <= x < 79
    for name, expected in (("oracle", success), ("oracle-sober", sober)):
        task: Any = make_task(name).unwrapped
        task.reset()
        seen = observation(task, Shown(""))
        seen[task._glyph_index][:] = nethack.GLYPH_CMAP_OFF
        if inside:
            seen[task._glyph_index][y, x] = ORACLE_GLYPH
        seen[task._blstats_index][:2] = place[1], place[0]
        seen[task._blstats_index][nethack.NLE_BL_CONDITION] = nethack.BL_MASK_HALLU if hallucinates else 0
        status = task._get_end_status(seen, False).name
        assert (status == "TASK_SUCCESSFUL") is (expected and inside)
        assert task._reward_fn(seen, 0, seen, status) == (SUCCESS_REWARD if expected and inside else 0.0)
        task.close()


def test_the_glyph_is_the_oracles() -> None:
    assert nethack.permonst(nethack.glyph_to_mon(ORACLE_GLYPH)).mname == "Oracle"


@pytest.mark.parametrize("name", [*SPARSE, *[f"{name}-continual" for name in SPARSE]])
def test_an_episode_without_success_returns_exactly_nothing(name: str) -> None:
    memory = Memory()
    env = environment(name, memory, max_episode_steps=400)
    for seed in range(3):
        env.reset()
        assert {moment.reward for moment in moments(env, seed)} == {0.0}
    assert [(r.extrinsic_return, r.success) for r in memory.episodes] == [(0.0, False)] * 3
    env.close()


def test_stairs_in_a_real_game_pay_once_and_end_the_episode() -> None:
    memory = Memory()
    env = environment("staircase", memory)
    moment = take_the_stairs(env)
    assert (moment.reward, moment.terminated, moment.truncated) == (50.0, True, False)
    assert moment.info["episode_extra_stats"]["success"] == 1.0
    (record,) = memory.episodes[-1:]
    assert (record.end, record.success, record.extrinsic_return) == ("task_successful", True, 50.0)
    env.close()


def test_stairs_taken_at_the_step_limit_are_a_success() -> None:
    memory = Memory()
    env = environment("staircase", memory)
    steps, episode = take_the_stairs(env).step, env.episode
    shorter = environment("staircase", memory, max_episode_steps=steps)
    for _ in range(episode):
        shorter.reset()
    moment = take_the_stairs(shorter)
    assert (moment.step, moment.reward, moment.terminated) == (steps, 50.0, True)
    env.close()
    shorter.close()


def test_continual_stairs_in_a_real_game_leave_it_running() -> None:
    env = environment("staircase-continual", Memory())
    moment = take_the_stairs(env)
    assert (moment.reward, moment.last) == (50.0, False)
    env.close()
