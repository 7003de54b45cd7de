"""Games that step together, beside the same games stepped one by one."""

from __future__ import annotations

import numpy as np
import pytest

from onibus.learner.sampling.games import Games, Observations
from onibus.producers.nethack.environment import NetHackEnvironment

COUNT, STEPS = 3, 700


def games(observation: str) -> list[NetHackEnvironment]:
    return [
        NetHackEnvironment(
            task="score", environment=number, seed=4, max_episode_steps=150, observation=observation
        )  # type: ignore[arg-type]
        for number in range(COUNT)
    ]


@pytest.mark.parametrize("observation", ["small", "medium"])
def test_what_episodes_report_is_what_they_report_by_themselves(observation: str) -> None:
    """Squares seen among it, which are added up for all games at once; the first steps are random there."""
    together, apart = games(observation), games(observation)
    spaces = together[0].observation_space
    assert spaces is not None
    rows = {name: np.zeros((COUNT, *space.shape), space.dtype) for name, space in spaces.items()}  # type: ignore[attr-defined]
    into, all_games = Observations(rows), Games(together)
    all_games.reset(range(COUNT), [0] * COUNT, into)
    for one in apart:
        one.reset()
    actions = np.random.default_rng(1).integers(together[0].action_space.n, size=(STEPS, COUNT))  # type: ignore[attr-defined]
    reported = []
    for step in actions.tolist():
        finished = {one.game: one.statistics for one in all_games.step(step, into)}
        for game, one in enumerate(apart):
            _, _, terminated, truncated, information = one.step(step[game])
            assert (terminated or truncated) == (game in finished)
            if game in finished:
                assert finished[game] == information["episode_extra_stats"]
                reported.append(finished[game]["scout"])
                one.reset()
    assert len(reported) >= COUNT * STEPS // 150 - COUNT
    assert len(set(reported)) > 3
    for one in apart:
        one.close()
    all_games.close()
