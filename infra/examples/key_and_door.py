"""A task of one's own in one file: a room, a key, and a locked door, whose events are told in words.

Try it with ``onibus learn --import onibus.infra.examples.key_and_door --task key-and-door``, and beside it
``onibus annotate --spec infra/examples/key-and-door.toml``.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

import onibus

SIDE = 12
STEP_LIMIT = 100
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
TAKE, OPEN = 4, 5


class KeyAndDoor(gym.Env[NDArray[np.float32], np.int64]):
    """Find the key, take it, and open the door with it, which alone pays.

    Observation: float32 (5,), the ways to key and door, each down and right in parts of the room's side, and
    whether the key is held. Actions: up, down, left, right, take, open.
    """

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(-1, 1, (5,), np.float32)
        self.action_space = gym.spaces.Discrete(6)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin anew: player, key and door are anywhere."""
        super().reset(seed=seed, options=options)
        places = self.np_random.choice(SIDE * SIDE, 3, replace=False)
        self._player, self._key, self._door = (np.array(divmod(int(place), SIDE)) for place in places)
        self._held = False
        self._steps = 0
        return self._observation(), {}

    def step(self, action: np.int64) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """One action; ``info["caption"]`` says what came of it, if anything did."""
        self._steps += 1
        said, opened = "", False
        if action < TAKE:
            said = self._move(MOVES[action])
        elif action == TAKE:
            said = self._take()
        elif np.array_equal(self._player, self._door):
            opened = self._held
            said = "You unlock the door with the key. The door opens." if opened else "The door is locked."
        else:
            said = "There is no door here."
        info: dict[str, Any] = {"caption": said}
        over = self._steps == STEP_LIMIT
        if opened or over:
            info["episode_statistics"] = {"success": opened, "key_taken": self._held}
        return self._observation(), float(opened), opened, over and not opened, info

    def _move(self, move: tuple[int, int]) -> str:
        to = self._player + move
        if to.min() < 0 or to.max() >= SIDE:
            return "You bump into the wall."
        self._player = to
        if not self._held and np.array_equal(to, self._key):
            return "A small brass key lies here."
        return "You stand at a door." if np.array_equal(to, self._door) else ""

    def _take(self) -> str:
        if self._held or not np.array_equal(self._player, self._key):
            return "There is nothing to take here."
        self._held = True
        return "You pick up the small brass key."

    def _observation(self) -> NDArray[np.float32]:
        to_key = np.zeros(2) if self._held else (self._key - self._player) / SIDE
        to_door = (self._door - self._player) / SIDE
        return np.array([*to_key, *to_door, self._held], np.float32)


onibus.register_task("key-and-door", KeyAndDoor)
