"""What is copied at each step of a game, and that the game is the same for it."""

from __future__ import annotations

import numpy as np
import pytest

from onibus.producers.nethack.seeding import Seeds, reset_with_seeds
from onibus.producers.nethack.tasks import make_task
from onibus.producers.nethack.uncopied import KEYS, leave_uncopied


@pytest.mark.parametrize("task", ["keyroom-s5", "sokoban1a", "exploremaze-easy", "score"])
def test_a_game_is_the_same_with_fewer_copies(task: str) -> None:
    games = [make_task(task) for _ in range(2)]
    leave_uncopied(games[1])
    try:
        for seed in range(2):
            for game in games:
                reset_with_seeds(game, Seeds(seed, 1, 2))
            draws = np.random.default_rng(seed)
            over = False
            for _ in range(60):
                action = int(draws.integers(games[0].action_space.n))
                plain, ours = (game.step(action) for game in games)
                for name, array in plain[0].items():
                    assert (ours[0][name] == array).all()
                assert ours[1:4] == plain[1:4]
                if over := plain[2] or plain[3]:
                    break
            assert over or games[0].unwrapped._steps == 60
    finally:
        for game in games:
            game.close()


def test_minihacks_descriptions_are_not_copied_and_its_statistics_are() -> None:
    game = make_task("keyroom-s5")
    leave_uncopied(game)
    try:
        reset_with_seeds(game, Seeds(1, 1, 1))
        game.step(0)
        bare = game.unwrapped
        for index, key in enumerate(bare._observation_keys):
            is_copied = bare._previous_obs[index] is not bare.last_observation[index]
            assert is_copied == (key not in KEYS)
    finally:
        game.close()
