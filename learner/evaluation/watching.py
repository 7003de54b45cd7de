"""Games of a run's policy to look at: each played to its end, then shown from its record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from onibus.infra.errors import OnibusError
from onibus.learner.checkpoint_policy import load_policy
from onibus.learner.evaluation.checkpoints import chosen_checkpoints
from onibus.learner.evaluation.episodes import play
from onibus.schemas.records import EpisodeFinished


def newest_games(
    runs_dir: Path,
    place: str,
    *,
    seed: int,
    greedy: bool,
    most_steps: int | None,
    begin: Callable[[Path, int], None],
) -> Iterator[EpisodeFinished]:
    """Endless games, each with the newest checkpoint of ``place`` there is when it begins.

    Game i is episode i of an evaluation with the same seed.

    Args:
        runs_dir: where runs lie that are given by name.
        place: a run's name, its folder, or a checkpoint file.
        seed: base seed of the games.
        greedy: take the likeliest action instead of sampling.
        most_steps: after which a game is cut off; None for the task's own limit.
        begin: called before each game with the checkpoint and the number of the game.

    Raises:
        OnibusError: there is no checkpoint, or it cannot be read or does not fit, or its task has no screen.
    """
    index = 0
    while True:
        (checkpoint,) = chosen_checkpoints(runs_dir, place, "newest")
        begin(checkpoint, index)
        policy = load_policy(checkpoint)
        if policy.options.registered is not None:
            raise OnibusError(
                f"{policy.options.task} has no screen of NetHack's to watch; use onibus evaluate, or "
                "onibus replay episode for what was recorded"
            )
        if most_steps is not None:
            policy.options = policy.options.model_copy(update={"max_episode_steps": most_steps})
        (game,) = play(policy, [index], environments=1, seed=seed, greedy=greedy, device="cpu", record=True)
        if game.record is not None:  # it is not for a game that is too long to be recorded
            yield game.record
        index += 1
