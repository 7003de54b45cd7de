"""Small environments for tests, and tasks of them. Importing this registers the tasks."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

import onibus


class Counting(gym.Env[Any, Any]):
    """Counts up to its end, and says what the action was; observations and actions are what one asks for."""

    def __init__(
        self,
        observation: gym.Space[Any] | None = None,
        action: gym.Space[Any] | None = None,
        length: int = 5,
    ) -> None:
        self.observation_space = observation or gym.spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = action or gym.spaces.Discrete(3)
        self.length = length
        self.done: list[Any] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.observation_space.seed(int(self.np_random.integers(1 << 31)))
        self.done = []
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.done.append(action)
        ended = len(self.done) == self.length
        info: dict[str, Any] = {"caption": f"did {np.round(action, 2)}"}
        if ended:
            info["episode_statistics"] = {"success": True, "actions": len(self.done)}
        return self.observation_space.sample(), 0.5, ended, False, info


class Leaking(Counting):
    """Its observations do not follow from its seed."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, *rest = super().step(action)
        return observation + np.random.default_rng().random(2), *rest  # type: ignore[return-value]


def _said(step: onibus.Transition) -> str | None:
    """A captioner that fails at some steps."""
    if step.action == 2:
        raise KeyError("no words for 2")
    return f"{step.environment.__class__.__name__} took {step.action}"


def _box() -> Counting:
    return Counting(
        gym.spaces.Dict({
            "image": gym.spaces.Box(0, 255, (12, 12, 3), np.uint8),
            "place": gym.spaces.Box(-1, 1, (3,), np.float32),
            "room": gym.spaces.Discrete(4),
            "mission": gym.spaces.Text(30),
        }),
        gym.spaces.Box(np.array([0.0, -2.0], np.float32), np.array([1.0, 2.0], np.float32)),
    )  # fmt: skip


def _broken() -> Counting:
    raise FileNotFoundError("no map of it")


onibus.register_task("counting", Counting)
onibus.register_task("counting-broken", _broken)
onibus.register_task("counting-leaking", Leaking)
onibus.register_task("counting-in-words", Counting, captioner=_said)
onibus.register_task("counting-boxes", _box)
