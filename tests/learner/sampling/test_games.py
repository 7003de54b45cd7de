"""Games that step together, beside the same games stepped one by one."""

from __future__ import annotations

import numpy as np
import pytest

from onibus.learner.sampling.games import Games, Observations
from onibus.producers.nethack.environment import NetHackEnvironment
from onibus.producers.nethack.observations import Observation

COUNT, STEPS = 3, 700


def games(task: str, observation: str) -> list[NetHackEnvironment]:
    return [
        NetHackEnvironment(
            task=task, environment=number, seed=4, max_episode_steps=150, observation=observation
        )  # type: ignore[arg-type]
        for number in range(COUNT)
    ]


def are_equal(of_one: Observation, rows: Observation, game: int) -> None:
    assert set(of_one) == set(rows)
    for name, array in of_one.items():
        np.testing.assert_array_equal(array, rows[name][game], err_msg=name)


@pytest.mark.parametrize("observation", ["small", "medium", "full"])
@pytest.mark.parametrize("task", ["score", "keyroom-s5"])
def test_they_observe_and_report_what_they_do_by_themselves(task: str, observation: str) -> None:
    """Squares seen among it, which are added up for all games at once; the first steps are random there."""
    together, apart = games(task, observation), games(task, observation)
    spaces = together[0].observation_space
    assert spaces is not None
    rows = {name: np.zeros((COUNT, *space.shape), space.dtype) for name, space in spaces.items()}  # type: ignore[attr-defined]
    into, all_games = Observations(rows), Games(together)
    all_games.reset(range(COUNT), [0] * COUNT, into)
    for game, one in enumerate(apart):
        are_equal(one.reset()[0], rows, game)
    actions = np.random.default_rng(1).integers(together[0].action_space.n, size=(STEPS, COUNT))  # type: ignore[attr-defined]
    reported = []
    for step in actions.tolist():
        finished = {one.game: one.statistics for one in all_games.step(step, into)}
        for game, one in enumerate(apart):
            seen, reward, terminated, truncated, information = one.step(step[game])
            assert (reward, truncated) == (all_games.rewards[game], all_games.cut_off[game])
            assert (terminated or truncated) == (game in finished)
            if game in finished:
                assert finished[game] == information["episode_extra_stats"]
                reported.append(finished[game]["scout"])
                seen, _ = one.reset()
            are_equal(seen, rows, game)
    assert len(reported) >= COUNT * STEPS // 150 - COUNT
    assert len(set(reported)) > 3 or task != "score"
    for one in apart:
        one.close()
    all_games.close()
