"""Our steps beside NLE's own: same game, same actions, same results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nle.env import base

from onibus.producers.nethack.hearing_game import HearingGame
from onibus.producers.nethack.seeding import Seeds, reset_with_seeds
from onibus.producers.nethack.task_names import ACTION_SETS, NLE_TASKS, PUBLISHED_TASKS
from onibus.producers.nethack.tasks import make_task


@pytest.mark.parametrize("actions", ACTION_SETS)
@pytest.mark.parametrize("name", [*PUBLISHED_TASKS, *NLE_TASKS])
def test_a_step_is_nles(name: str, actions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """To an end by the step limit, and beyond a death where one comes."""
    ours = played(name, actions)
    for method in ("step", "_get_end_status", "_get_observation"):
        monkeypatch.setattr(HearingGame, method, getattr(base.NLE, method))
    assert played(name, actions) == ours


def played(name: str, actions: Any) -> list[Any]:
    """What reset and steps of three games returned, in a form that can be compared."""
    env = make_task(name, actions=actions, max_episode_steps=250)
    seen: list[Any] = []
    for game in range(3):
        first, information = reset_with_seeds(env, Seeds(game, 1, 0))
        seen.append((comparable(first), information))
        draws = np.random.default_rng(game)
        ended = False
        while not ended:
            action = int(draws.integers(env.action_space.n))  # type: ignore[attr-defined]
            observation, reward, ended, truncated, information = env.step(action)
            assert type(reward) is float
            seen.append((comparable(observation), reward, bool(ended), truncated, information))
    env.close()
    return seen


def comparable(observation: dict[str, Any]) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in observation.items()}


def test_an_observation_that_was_returned_stays_another_dictionary() -> None:
    env = make_task("score")
    first, _ = env.reset()
    second, *_ = env.step(0)
    assert first is not second
    first.clear()
    assert set(second) == set(env.observation_space.spaces)  # type: ignore[attr-defined]
    env.close()


def test_a_reward_that_compares_other_observations_fails() -> None:
    class ComparesMaps(HearingGame):
        def _reward_fn(self, last_observation: Any, *_: Any) -> float:
            return float((last_observation[self._glyph_index] > 0).sum())

    env = ComparesMaps()
    env.reset()
    with pytest.raises(TypeError):
        env.step(0)
    env.close()
