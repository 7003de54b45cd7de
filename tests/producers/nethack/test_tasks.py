"""Tasks are found by name, are the published ones, and end when their step limit says so."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from nle import nethack
from nle.env import tasks as nle_tasks

from onibus.infra.errors import OnibusError
from onibus.producers.nethack.hearing_game import HearingGame
from onibus.producers.nethack.staircase_by_depth import StaircaseByDepth
from onibus.producers.nethack.tasks import _minihack_ids, check_played, check_task, is_minihack, make_task
from tests.producers.nethack.playing import environment, play

SPARSE_TASKS = ["staircase", "staircase-level-3", "staircase-level-4", "oracle", "oracle-sober"]
NETHACK_TASKS = ["score", *SPARSE_TASKS, *[f"{name}-continual" for name in SPARSE_TASKS], "gold", "scout"]
NLE_TASKS = [
    f"nle-{name}"
    for name in ("score", "oracle", "staircase", "staircase-level-3", "staircase-level-4", "gold", "scout")
]
MINIHACK_TASKS = ["keyroom-s5", "keyroom-fixed-s5", "room-random-5x5", "river-narrow", "lockeddoor"]


@pytest.mark.parametrize("name", NETHACK_TASKS + NLE_TASKS + MINIHACK_TASKS)
def test_every_task_plays_to_its_end(name: str) -> None:
    env = environment(name, max_episode_steps=30)
    last = play(env)
    assert last.step <= 30
    env.close()


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("nle-score", nle_tasks.NetHackScore),
        ("nle-oracle", nle_tasks.NetHackOracle),
        ("nle-staircase", nle_tasks.NetHackStaircase),
        ("nle-gold", nle_tasks.NetHackGold),
        ("nle-scout", nle_tasks.NetHackScout),
    ],
)
def test_nle_tasks_are_nles_own_classes(name: str, published: type) -> None:
    task = make_task(name)
    assert type(task.unwrapped).__mro__[1:3] == (HearingGame, published)
    assert task.unwrapped._max_episode_steps == 5000  # type: ignore[attr-defined]
    assert task.unwrapped.actions == nle_tasks.TASK_ACTIONS  # type: ignore[attr-defined]
    task.close()


@pytest.mark.parametrize("name", NETHACK_TASKS)
def test_published_tasks_have_28_actions_a_monk_and_5000_steps(name: str) -> None:
    game: Any = make_task(name).unwrapped
    assert (game.action_space.n, game.character) == (28, "mon-hum-neu-mal")
    assert game._max_episode_steps == 5000
    game.close()


def test_minihacks_tasks_have_levels_of_their_own() -> None:
    with pytest.raises(
        OnibusError, match=r"^--dungeons: keyroom-s5 is a task of MiniHack's.*leave --dungeons out"
    ):
        check_played("keyroom-s5", None, None, dungeons="1-3")


@pytest.mark.parametrize("flag", ["actions", "character"])
def test_minihacks_tasks_have_actions_and_characters_of_their_own(flag: str) -> None:
    given: Any = {"actions": "nle", "character": "val-dwa-law-fem"}
    with pytest.raises(
        OnibusError, match=f"^--{flag}: keyroom-s5 is a task of MiniHack's.*leave --{flag} out"
    ):
        make_task("keyroom-s5", **{flag: given[flag]})


def test_an_unknown_set_of_actions_is_refused() -> None:
    with pytest.raises(OnibusError, match="there are no actions 'all'; give oni or nle"):
        make_task("score", actions="all")  # type: ignore[arg-type]


def test_minihack_tasks_keep_their_published_settings() -> None:
    ours = make_task("keyroom-s5")
    published = gym.make("MiniHack-KeyRoom-S5-v0", observation_keys=("blstats",), disable_env_checker=True)
    for name in ("_max_episode_steps", "actions", "character", "reward_win", "reward_lose", "penalty_step"):
        assert getattr(ours.unwrapped, name) == getattr(published.unwrapped, name)
    ours.close()
    published.close()


@pytest.mark.parametrize("name", ["keyroom-s5", "KeyRoom-S5", "MiniHack-KeyRoom-S5-v0", "sokoban1a"])
def test_minihack_is_found_by_short_and_by_full_name(name: str) -> None:
    check_task(name)
    assert is_minihack(name)


def test_every_registered_minihack_environment_has_a_name_of_its_own() -> None:
    import minihack  # noqa: F401

    registered = [name for name in gym.registry if name.startswith("MiniHack-")]
    assert sorted(_minihack_ids().values()) == sorted(registered)
    assert len(registered) > 100


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [("scor", "score"), ("staircase-level-5", "staircase-level-4"), ("keyroom5", "keyroom-s5")],
)
def test_an_unknown_task_is_told_with_close_matches(wrong: str, hint: str) -> None:
    with pytest.raises(OnibusError, match=rf"unknown task '{wrong}'; did you mean .*{hint}") as caught:
        make_task(wrong)
    assert "\n" not in str(caught.value)


def test_a_task_that_needs_a_missing_package_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minigrid", None)
    with pytest.raises(OnibusError, match=r"multiroom-n2 cannot start: .*grid"):
        make_task("multiroom-n2")


@pytest.mark.parametrize("name", ["score", "keyroom-s5", "room-15x15"])
@pytest.mark.parametrize("limit", [1, 37])
def test_step_limits_bind(name: str, limit: int) -> None:
    env = environment(name, max_episode_steps=limit)
    lengths = []
    for episode in range(3):
        last = play(env, seed=episode)
        lengths.append(last.step)
        assert last.truncated == (last.step == limit)
    assert max(lengths) == limit
    env.close()


def test_a_step_limit_below_one_is_refused() -> None:
    with pytest.raises(OnibusError, match="max episode steps is 0; give 1 or more"):
        make_task("score", max_episode_steps=0)


def test_minihacks_packaging_warnings_stay_off_the_screen_and_others_do_not() -> None:
    program = (
        "import warnings; warnings.simplefilter('always')\n"
        "from onibus.producers.nethack.tasks import make_task\n"
        "make_task('keyroom-s5').close()\n"
        "warnings.warn('one of our own')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pkg_resources" not in done.stderr
    assert "one of our own" in done.stderr
    assert done.stdout == ""


def test_loading_minihack_leaves_the_warning_filters_as_they_were() -> None:
    before = list(warnings.filters)
    check_task("keyroom-s5")
    assert list(warnings.filters) == before


@pytest.mark.parametrize(
    ("path", "ends"),
    [
        # (depth, stands on stairs down) after each step
        pytest.param([(1, True), (2, False), (2, True), (3, False)], True, id="down two staircases"),
        pytest.param([(1, False), (3, False)], False, id="through a hole"),
        pytest.param([(1, True), (2, False), (3, False)], False, id="through a trap door to the level"),
        pytest.param([(2, True), (3, False)], True, id="the second staircase alone"),
        pytest.param([(3, True), (3, True)], False, id="being there is not coming there"),
        pytest.param([(3, True), (4, False)], True, id="deeper by stairs"),
        pytest.param([(3, True), (2, False)], False, id="up"),
    ],
)
def test_nle_staircases_to_a_level_count_depth_and_stairs_alone(
    path: list[tuple[int, bool]], ends: bool
) -> None:
    task = make_task("nle-staircase-level-3").unwrapped
    assert isinstance(task, StaircaseByDepth)
    statuses = [task._is_episode_end(_observation(task, *place)).name for place in path]
    assert statuses[:-1] == ["RUNNING"] * (len(path) - 1)
    assert (statuses[-1] == "TASK_SUCCESSFUL") is ends
    task.close()


def _observation(task: StaircaseByDepth, depth: int, on_stairs_down: bool) -> list[np.ndarray]:
    observation = [np.zeros(30, np.int64) for _ in task._observation_keys]
    observation[task._blstats_index][nethack.NLE_BL_DEPTH] = depth
    observation[task._internal_index][4] = on_stairs_down
    return observation
