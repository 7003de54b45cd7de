"""Stand-alone rollouts: worker processes that play, publish captions and episodes, and learn nothing."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from kafka.errors import KafkaError
from numpy.typing import NDArray

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.clients import explained
from onibus.infra.kafka.topic_admin import require_topics
from onibus.infra.process.fork_server import how_it_died, start_worker, worker_context
from onibus.infra.process.logs import set_up_logging
from onibus.infra.process.parent_death import end_with_parent
from onibus.infra.settings import Settings
from onibus.producers.environments.any_task import AnyEnvironment, check_task, make_environment
from onibus.producers.environments.spaces import random_actions
from onibus.producers.environments.tasks import import_tasks
from onibus.producers.publishing.caption_publisher import (
    CLOSE_SECONDS,
    FLUSH_SECONDS,
    RolloutBus,
    process_bus,
)
from onibus.producers.publishing.kafka_sender import STOP_GRACE_SECONDS
from onibus.producers.rollout_options import RolloutOptions, RolloutSummary

_log = logging.getLogger("onibus.rollout")

REPORT_SECONDS, PROGRESS_SECONDS = 0.5, 10.0
"""How often a worker tells how far it is, and how often that is logged."""
DELIVER_SECONDS = 30.0
"""How long a worker that has played its share waits for its last records to be delivered."""
STOP_SECONDS = FLUSH_SECONDS + CLOSE_SECONDS + STOP_GRACE_SECONDS + 1.0
"""How long workers may take to stop before they are killed."""


class Policy(Protocol):
    """What a checkpoint gives: actions for a fixed number of environments played side by side."""

    version: int
    observation: Literal["small", "medium", "full"]

    def bind(self, environment: Any) -> None:
        """Get ready for the spaces of ``environment``; called once."""

    def __call__(
        self, observations: dict[str, NDArray[Any]], started: NDArray[np.bool_]
    ) -> NDArray[np.int64] | NDArray[np.float32]:
        """Actions, int64 (N,) or float32 (N, n), for N observations; ``started`` (N,) marks first ones."""


def run(
    settings: Settings,
    options: RolloutOptions,
    stopping: threading.Event,
    load_policy: Callable[[Path], Policy] | None = None,
) -> RolloutSummary:
    """Play until a limit is reached or ``stopping`` is set.

    Args:
        load_policy: makes a policy of ``options.checkpoint`` in each worker; a module-level function.

    Raises:
        OnibusError: unknown task, actions or character, cluster out of reach, topics missing, a worker died.
    """
    check_task(
        options.task, options.actions, options.character, options.imports, options.captioner, options.dungeons
    )
    require_topics(settings, role="rollout")
    crew = _Crew(settings, options, load_policy)
    try:
        crew.wait_until_ready(stopping)
        _log.info(
            "ready: rollout of %s, run %s, %d workers of %d environments",
            *(options.task, options.run, options.workers, options.environments),
        )
        crew.watch(stopping)
    finally:
        crew.stop()
    return crew.summary()


@dataclass(slots=True)
class _Worker:
    """One worker process as its parent sees it."""

    process: BaseProcess
    reports: Connection
    summary: RolloutSummary = field(default_factory=RolloutSummary)
    ready: bool = False
    finished: bool = False


class _Crew:
    """The worker processes of one rollout."""

    def __init__(
        self,
        settings: Settings,
        options: RolloutOptions,
        load_policy: Callable[[Path], Policy] | None,
    ) -> None:
        context = worker_context()
        self._stop = context.Event()
        self._workers: list[_Worker] = []
        for index in range(options.workers):
            ours, theirs = context.Pipe(duplex=False)
            given = settings, options, index, load_policy, self._stop, theirs
            process = start_worker(context, f"rollout-{index}", _work, *given)
            theirs.close()
            self._workers.append(_Worker(process, ours))

    def wait_until_ready(self, stopping: threading.Event) -> None:
        """Return when every worker has its environments, or ``stopping`` is set."""
        while not stopping.is_set() and not all(w.ready for w in self._workers):
            self._receive(timeout=0.2)

    def watch(self, stopping: threading.Event) -> None:
        """Return when every worker is done, or ``stopping`` is set; log progress meanwhile."""
        began = logged = time.monotonic()
        while not stopping.is_set() and not all(w.finished for w in self._workers):
            self._receive(timeout=0.2)
            now = time.monotonic()
            if now - logged >= PROGRESS_SECONDS:
                logged = now
                total = self.summary()
                _log.info("%s; %.0f steps/s", total, total.steps / (now - began))

    def stop(self) -> None:
        """Ask every worker to stop, collect last reports, kill what does not end."""
        self._stop.set()
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline and not all(w.finished for w in self._workers):
            self._receive(timeout=0.2, strict=False)
        for worker in self._workers:
            worker.process.join(max(0.1, deadline - time.monotonic()))
            if worker.process.is_alive():
                _log.warning("%s does not stop; killing it", worker.process.name)
                worker.process.kill()
                worker.process.join()
            worker.reports.close()

    def summary(self) -> RolloutSummary:
        """The sum over all workers, as far as they have told."""
        return sum((w.summary for w in self._workers), RolloutSummary())

    def _receive(self, timeout: float, strict: bool = True) -> None:
        """Take what workers have sent; with ``strict`` a worker that died is an error."""
        by_connection = {w.reports: w for w in self._workers if not w.finished}
        for connection in wait(list(by_connection), timeout):
            worker = by_connection[connection]  # type: ignore[index]
            try:
                message = worker.reports.recv()
            except EOFError:
                worker.finished = True
                if strict:
                    raise OnibusError(how_it_died(worker.process)) from None
                continue
            if isinstance(message, str):
                raise OnibusError(message)
            if message is None:
                worker.finished = True
                continue
            worker.ready = True
            worker.summary = message


def _work(
    settings: Settings,
    options: RolloutOptions,
    index: int,
    load_policy: Callable[[Path], Policy] | None,
    stop: Event,
    reports: Connection,
) -> None:
    """Main function of a worker process."""
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    end_with_parent(STOP_SECONDS)
    set_up_logging()
    logging.getLogger().setLevel(logging.WARNING)
    try:
        worker = RolloutWorker(settings, options, index, load_policy)
        try:
            reports.send(worker.summary())
            worker.play(stop.is_set, reports.send)
            worker.deliver(stop.is_set)
        finally:
            worker.close()
        reports.send(worker.summary())
        reports.send(None)
    except OnibusError as error:
        reports.send(str(error))
    except KafkaError as error:
        reports.send(str(explained(settings, error)))
    except BrokenPipeError:
        pass  # the parent is gone, and with it everyone who wants to know
    finally:
        reports.close()


class RolloutWorker:
    """Plays the share of one worker: its environments side by side, one policy for all of them."""

    def __init__(
        self,
        settings: Settings,
        options: RolloutOptions,
        index: int,
        load_policy: Callable[[Path], Policy] | None = None,
    ) -> None:
        self._options = options
        import_tasks(options.imports)
        self._bus: RolloutBus = process_bus(settings, options.run, options.task)
        self._policy: Policy | None = None
        if options.checkpoint is not None:
            assert load_policy is not None
            self._policy = load_policy(options.checkpoint)
        self._environments = [self._environment(index, m) for m in range(options.environments)]
        if self._policy is not None:
            self._bind(self._policy)
        self._random = np.random.default_rng(None if options.seed is None else [options.seed, index])
        self._steps_left = _share(options.steps, options.workers, index)
        players = options.workers * options.environments
        self._episodes_left = [
            _share(options.episodes, players, index * options.environments + m)
            for m in range(options.environments)
        ]
        self._played = RolloutSummary()

    def play(self, stopping: Callable[[], bool], report: Callable[[RolloutSummary], None]) -> None:
        """Play until a limit or ``stopping()``; ``report`` gets a summary now and then."""
        began = reported = time.monotonic()
        count = len(self._environments)
        observations = [environment.reset()[0] for environment in self._environments]
        started = np.ones(count, np.bool_)
        returns = np.zeros(count)
        active = [m for m in range(count) if self._episodes_left[m] != 0]
        while active and self._steps_left != 0:
            actions = self._actions(observations, started).tolist()
            for m in active[: self._steps_left]:
                step = self._environments[m].step(actions[m])
                observations[m], reward, terminated, truncated, info = step
                returns[m] += reward
                started[m] = terminated or truncated
                if started[m]:
                    self._count_episode(m, returns[m], info)
                    returns[m] = 0.0
                    observations[m] = self._environments[m].reset()[0]
            self._count_steps(len(active[: self._steps_left]))
            active = [m for m in active if self._episodes_left[m] != 0]
            now = time.monotonic()
            if self._options.seconds is not None and now - began >= self._options.seconds:
                return
            if now - reported >= REPORT_SECONDS:
                reported = now
                report(self.summary())
                if stopping():
                    return

    def deliver(self, stopping: Callable[[], bool]) -> None:
        """Wait until everything is published or dropped, ``DELIVER_SECONDS`` at most, or ``stopping()``."""
        deadline = time.monotonic() + DELIVER_SECONDS
        while not stopping() and time.monotonic() < deadline and not self._bus.flush(timeout=0.2):
            pass

    def summary(self) -> RolloutSummary:
        """What this worker has played and published so far."""
        captions, episodes = self._bus.captions, self._bus.episodes
        return self._played + RolloutSummary(
            captions_published=captions.published,
            captions_dropped=captions.dropped,
            episodes_published=episodes.published,
            episodes_dropped=episodes.dropped,
        )

    def close(self) -> None:
        """Close environments and bus; what is on its way gets a few seconds."""
        for environment in self._environments:
            environment.close()
        self._bus.close()

    def _environment(self, worker: int, index: int) -> AnyEnvironment:
        options = self._options
        environment = make_environment(
            options.task,
            observation="small" if self._policy is None else self._policy.observation,
            max_episode_steps=options.max_episode_steps,
            actions=options.actions,
            character=options.character,
            captioner=options.captioner,
            dungeons=options.dungeons,
            run=options.run,
            worker=worker,
            environment=index,
            seed=options.seed,
            bus=lambda: self._bus,
        )
        environment.policy_version = -1 if self._policy is None else self._policy.version
        return environment

    def _bind(self, policy: Policy) -> None:
        try:
            policy.bind(self._environments[0])
        except RuntimeError as error:  # what torch raises for weights of another shape
            raise OnibusError(
                f"the policy in {self._options.checkpoint} does not fit task {self._options.task}; "
                f"give the task it was trained on ({str(error).splitlines()[0]})"
            ) from error

    def _actions(
        self, observations: list[dict[str, NDArray[Any]]], started: NDArray[np.bool_]
    ) -> NDArray[np.int64] | NDArray[np.float32]:
        if self._policy is None:
            return random_actions(self._environments[0].action_space, self._random, len(observations))
        stacked = {key: np.stack([o[key] for o in observations]) for key in observations[0]}
        return self._policy(stacked, started)

    def _count_steps(self, steps: int) -> None:
        self._played.steps += steps
        if self._steps_left is not None:
            self._steps_left -= steps

    def _count_episode(self, m: int, extrinsic_return: float, info: dict[str, Any]) -> None:
        self._played.episodes += 1
        self._played.return_sum += float(extrinsic_return)
        if (score := info["episode_extra_stats"].get("score")) is not None:
            self._played.scored_episodes += 1
            self._played.score_sum += score
        left = self._episodes_left[m]
        if left is not None:
            self._episodes_left[m] = left - 1


def _share(total: int | None, parts: int, index: int) -> int | None:
    """Part ``index`` of ``total`` cut into ``parts`` that differ by one at most."""
    return None if total is None else total // parts + (index < total % parts)
