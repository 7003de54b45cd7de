"""An evaluation's games, in this process or shared out among several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from onibus.infra.errors import OnibusError
from onibus.infra.process.fork_server import how_it_died, start_worker, worker_context
from onibus.infra.process.parent_death import end_with_parent
from onibus.learner.checkpoint_policy import load_policy
from onibus.learner.evaluation.episodes import PlayedEpisode, play


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """Which games are played, and how.

    Attributes:
        episodes: how many. environments: played side by side, in each process.
        workers: number of processes. seed: base seed. greedy: whether the likeliest action is taken.
        device: torch's name of where the network runs.
        training_dungeons: whether they are played in the dungeons of a run's --dungeons, not in others.
    """

    episodes: int
    environments: int = 16
    workers: int = 1
    seed: int = 0
    greedy: bool = False
    device: str = "cpu"
    training_dungeons: bool = False


def played(checkpoint: Path, games: EvaluationPlan) -> Iterator[PlayedEpisode]:
    """The episodes, each when it has ended, in no particular order.

    Raises:
        OnibusError: the checkpoint cannot be read or does not fit, or a process died.
    """
    workers = min(games.workers, games.episodes)
    if workers == 1:
        yield from _share(checkpoint, games, 0, 1)
        return
    with _processes(checkpoint, games, workers) as running:
        while running:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                try:
                    message = connection.recv()
                except EOFError:
                    raise OnibusError(how_it_died(running[connection])) from None
                if isinstance(message, str):
                    raise OnibusError(message)
                if message is None:
                    running.pop(connection).join()
                else:
                    yield message


@contextmanager
def _processes(
    checkpoint: Path, games: EvaluationPlan, workers: int
) -> Iterator[dict[Connection, BaseProcess]]:
    """By connection the process that sends its episodes there; what is left at the end is killed."""
    context = worker_context()
    running: dict[Connection, BaseProcess] = {}
    try:
        for index in range(workers):
            ours, theirs = context.Pipe(duplex=False)
            given = checkpoint, games, index, workers, theirs
            running[ours] = start_worker(context, f"evaluate-{index}", _work, *given)
            theirs.close()
        yield running
    finally:
        for left in running.values():
            left.kill()
            left.join()


def _work(checkpoint: Path, games: EvaluationPlan, index: int, workers: int, out: Connection) -> None:
    """Main function of a process."""
    end_with_parent(0)
    try:
        for episode in _share(checkpoint, games, index, workers):
            out.send(episode)
        out.send(None)
    except OnibusError as error:
        out.send(str(error))
    finally:
        out.close()


def _share(checkpoint: Path, games: EvaluationPlan, index: int, workers: int) -> Iterator[PlayedEpisode]:
    policy = load_policy(checkpoint)
    if not games.training_dungeons:
        policy.options = policy.options.model_copy(update={"dungeons": None})
    return play(
        policy,
        range(index, games.episodes, workers),
        environments=games.environments,
        seed=games.seed,
        greedy=games.greedy,
        device=games.device,
    )
