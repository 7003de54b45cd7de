"""A Gymnasium environment whose events are captions: counted, published, recorded."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from onibus.infra.errors import OnibusError
from onibus.infra.observability import metrics
from onibus.infra.plugins import failure_of
from onibus.producers.environments.recording import TERMINATED, TRUNCATED, TaskRecorder
from onibus.producers.environments.seeding import episode_seed
from onibus.producers.environments.spaces import CAPTION, action_arrays, observation_arrays
from onibus.producers.environments.tasks import RegisteredTask
from onibus.producers.publishing.caption import Caption, make_room
from onibus.producers.publishing.caption_publisher import RolloutBus
from onibus.producers.publishing.caption_texts import (
    Captioner,
    CaptionTexts,
    Transition,
    caption_in_info,
    recorded_name,
)
from onibus.producers.publishing.shared_bus import SharedBus

STATISTICS = "episode_statistics"
"""What the last step's ``info`` calls an episode's statistics: numbers by name."""
STATISTIC_PREFIX = "episode/"
"""Begins their names in a run's history. ``success`` stands there without it, as NetHack's does."""
MOST_STATISTICS = 64

_NO_CAPTION = (0, 0)
_texts = cache(CaptionTexts)
"""One per captioner for the whole process: what a caption's ids are depends on its text alone."""


class CaptionWrapper(gym.Wrapper[Any, Any, Any, Any]):
    """A Gymnasium environment as a policy of onibus plays it.

    Observations are arrays by name, fresh ones or, where :attr:`into` is set, those. An environment's single
    observation is called ``obs``, those of a Dict keep their names. uint8 and bool arrays are uint8, all
    others float32; Discrete ones are one-hot; of texts there are the first 256 UTF-8 bytes, uint8. With
    ``captions`` there is one more:

    ======= ===== ===== ==========================================================================
    caption int64 (2,)  lookup id of the caption that the last action brought about and how often this
                        episode had it, from 1; ``[0, 0]`` if there was none
    ======= ===== ===== ==========================================================================

    The caption of the action that ended an episode stands in the terminal observation and again in the
    next reset's, because learners (Sample Factory) throw terminal observations away.

    Actions: Discrete ones count from 0; Box ones are float32 (n,), from -1 to 1 where the environment's have
    bounds, to which they are clipped and stretched.

    Statistics: where the last step's ``info`` has ``episode_statistics``, numbers by name, they stand in the
    run's history and in the episode's record; ``success`` is whether the task was done.

    Args:
        env: the environment.
        captioner: says what a step brought about; None takes ``info["caption"]``.
        task: the task that this is, for published records; None where nothing is published.
        captions: whether to do any of the caption work, publishing included.
        max_episode_steps: step limit; None leaves it to the environment.
        run: name of the run, for published records.
        worker: index of the rollout worker process.
        environment: index of the environment within the worker.
        seed: base seed; episode e of environment m of worker w begins with the same ``reset(seed=…)``
            whenever these four are. None takes the first ``reset(seed=…)``'s or, without one, a random seed.
        bus: gives the process's bus, or None to publish nothing; called at the first reset, which learners do
            after they have forked or spawned.

    Raises:
        OnibusError: a policy cannot take its observations or actions. Also from ``reset`` and ``step``, where
            the environment or the captioner raised; it names which.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        captioner: Captioner | None = None,
        *,
        task: RegisteredTask | None = None,
        captions: bool = True,
        max_episode_steps: int | None = None,
        run: str = "",
        worker: int = 0,
        environment: int = 0,
        seed: int | None = None,
        bus: Callable[[], RolloutBus | None] = lambda: None,
    ) -> None:
        super().__init__(env)
        self.task = env.spec.id if task is None and env.spec else task.name if task else type(env).__name__
        self.run, self.worker, self.environment = run, worker, environment
        self.policy_version = -1
        """Version of the policy that acts; set it from outside, -1 where it is not known."""
        self.episode = -1
        """Number of the current episode, from 0; -1 before the first reset."""
        self.into: dict[str, NDArray[Any]] | None = None
        """Where the next observation is written: an array for each name; None for fresh ones."""

        self._observations = observation_arrays(env.observation_space, captions=captions)
        self._actions = action_arrays(env.action_space)
        self.observation_space = self._observations.space
        self.action_space = self._actions.space
        self._captioner = captioner or caption_in_info
        self._captioner_name = recorded_name(captioner)
        self._texts = _texts(self._captioner_name)
        self._captions = captions
        self._plugin = "" if task is None else task.plugin
        self._limit = max_episode_steps
        self._base_seed = seed
        self._shared_bus = SharedBus(bus)
        self._bus: RolloutBus | None = None
        self._recorder: TaskRecorder | None = None
        self._counts: dict[int, int] = {}
        self._carried = _NO_CAPTION
        self._raw: Any = None
        self._step = 0
        self._arrays: list[tuple[str, Any, Any]] = [
            (name, space.shape, space.dtype) for name, space in self._observations.space.items()
        ]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Begin the next episode with a seed of its own; see the class for what ``seed`` does."""
        if self._base_seed is None:
            self._base_seed = secrets.randbits(63) if seed is None else seed
        self._bus = self._shared_bus.join()
        self.episode += 1
        own = episode_seed(self._base_seed, self.worker, self.environment, self.episode)
        return self.begin(own, options)

    def begin(
        self, own: int, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Begin the episode that the environment's ``reset(seed=own)`` begins."""
        try:
            self._raw, info = self.env.reset(seed=own, options=options)
            observation = self._observe()
        except Exception as error:
            raise failure_of(f"the environment of task {self.task}, at its reset,", error) from error
        self._step = 0
        self._counts = {}
        self._recorder = None if self._bus is None else TaskRecorder(own, self._actions, observation)
        if self._captions:
            observation[CAPTION][:] = self._carried
            self._carried = _NO_CAPTION
        return observation, info

    def step(self, action: Any) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """One action; see the class for the observation and the last step's ``info``."""
        before = self._raw
        try:
            native = self._actions.native(action)
            self._raw, given, terminated, truncated, info = self.env.step(native)
            observation = self._observe()
            reward = float(given)
            if not math.isfinite(reward):
                raise OnibusError(f"the reward is {reward}; give a finite number")
        except Exception as error:
            raise failure_of(f"the environment of task {self.task}, at a step,", error) from error
        self._step += 1
        terminated = bool(terminated)
        truncated = bool(truncated) or (not terminated and self._step == self._limit)
        if self._recorder is not None:
            self._recorder.record(action, reward, observation)
        caption = _NO_CAPTION
        if self._captions:
            step = Transition(
                before, native, self._raw, reward, terminated, truncated, info, self.env.unwrapped
            )
            observation[CAPTION][:] = caption = self._caption(step)
        if terminated or truncated:
            self._carried = caption
            self._finish(info, TERMINATED if terminated else TRUNCATED)
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        """Close the environment; the process's last one also waits for its records to be delivered."""
        self._shared_bus.leave()
        self._bus = None
        super().close()  # type: ignore[no-untyped-call]

    def _observe(self) -> dict[str, NDArray[Any]]:
        observation = self.into
        if observation is None:
            observation = {name: np.empty(shape, dtype) for name, shape, dtype in self._arrays}
        self._observations.write(self._raw, observation)
        return observation

    def _caption(self, step: Transition) -> tuple[int, int]:
        """Id and count of what a step brought about; publishes it where it is new."""
        try:
            text = self._captioner(step)
            caption = None if text is None else self._texts.caption(text)
        except Exception as error:
            raise failure_of(f"the captioner of task {self.task}", error) from error
        if caption is None:
            return _NO_CAPTION
        if self._recorder is not None:
            self._recorder.hear(self._step, caption.id)
        if self._bus is not None:
            self._bus.observe(
                caption, self.worker, self.environment, self.episode, self._step, self.policy_version
            )
        return caption.lookup, self._counted(caption)

    def _counted(self, caption: Caption) -> int:
        """How often this episode had it; of an episode with too many captions the oldest are forgotten."""
        counts = self._counts
        if caption.lookup not in counts:
            make_room(counts)
        count = counts[caption.lookup] = counts.get(caption.lookup, 0) + 1
        return count

    def _finish(self, info: dict[str, Any], end: str) -> None:
        try:
            statistics = _numbers(info.get(STATISTICS, {}))
        except (OnibusError, TypeError, ValueError, AttributeError) as error:
            raise failure_of(
                f"the environment of task {self.task}, with info[{STATISTICS!r}],", error
            ) from error
        info["episode_extra_stats"] = {
            name if name == "success" else STATISTIC_PREFIX + name: number
            for name, number in statistics.items()
        }
        if self._recorder is None or self._bus is None:
            return
        record = self._recorder.finish(
            run=self.run,
            worker=self.worker,
            environment=self.environment,
            episode=self.episode,
            task=self.task,
            plugin=self._plugin,
            max_episode_steps=self._limit or 0,
            steps=self._step,
            end=end,
            captions=self._captions,
            statistics=statistics,
            policy_version=self.policy_version,
            captioner=self._captioner_name,
        )
        self._recorder = None
        if record is None:
            metrics.EPISODES_DROPPED.inc()
        else:
            self._bus.episode_finished(record)


def _numbers(statistics: Any) -> dict[str, float]:
    if len(statistics) > MOST_STATISTICS:
        raise ValueError(f"{len(statistics)} statistics of an episode; give at most {MOST_STATISTICS}")
    wrong = [name for name, number in statistics.items() if not _is_number(number)]
    if wrong:
        raise OnibusError(f"{wrong[0]} is {statistics[wrong[0]]!r}; give numbers")
    return {str(name): float(number) for name, number in statistics.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float | np.bool_ | np.number)
