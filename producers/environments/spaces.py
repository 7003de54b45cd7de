"""Observations and actions of any Gymnasium environment as arrays that a policy takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from onibus.infra.errors import OnibusError

CAPTION = "caption"
"""Name of the observation that holds a caption's id and count."""
ONLY = "obs"
"""Name of the observation of an environment that has only one."""

MOST_TEXT_BYTES = 256
"""Bytes of a text that a policy sees; what is longer is cut off."""

_INT64 = np.iinfo(np.int64)

Convert = Callable[[Any], Any]


class TextBytes(gym.spaces.Box):
    """A text as a policy takes it: uint8 (length,), its UTF-8 bytes and zeros after them."""

    def __init__(self, length: int) -> None:
        super().__init__(0, 255, (length,), np.uint8)
        self._length = length

    def bytes_of(self, text: object) -> NDArray[np.uint8]:
        """The bytes of a text, cut off at the length.

        Raises:
            TypeError: it is not a text.
        """
        if not isinstance(text, str):
            raise TypeError(f"not a str but {type(text).__name__}")
        data = text.encode(errors="replace")[: self._length]
        return np.frombuffer(data.ljust(self._length, b"\0"), np.uint8)


@dataclass(frozen=True, slots=True)
class ObservationArrays:
    """How an environment's observations become arrays.

    Attributes:
        space: what the policy sees: arrays by name, uint8 where the environment has uint8 or bool, else
            float32; Discrete values are one-hot, texts are :class:`TextBytes`.
    """

    space: gym.spaces.Dict
    _converts: Mapping[str, Convert]
    _is_dict: bool

    def write(self, raw: Any, into: Mapping[str, NDArray[Any]]) -> None:
        """Write an observation into arrays of :attr:`space`'s shapes.

        Raises:
            OnibusError: it is not of the space that the environment names, or holds a NaN or an infinity,
                which would ruin the policy.
        """
        for name, convert in self._converts.items():
            array = into[name]
            try:
                array[...] = convert(raw[name] if self._is_dict else raw)
            except (ValueError, TypeError, KeyError, IndexError) as error:
                given = _shape_of(raw, name, self._is_dict)
                raise OnibusError(
                    f"the observation {name!r} is {given}, where observation_space says {array.dtype} of "
                    f"shape {array.shape}; correct one of them"
                ) from error
            if array.dtype == np.float32 and not np.isfinite(array).all():
                raise OnibusError(f"the observation {name!r} holds a NaN or an infinity; give finite numbers")


def observation_arrays(space: gym.Space[Any], *, captions: bool) -> ObservationArrays:
    """The arrays for an observation space.

    Args:
        space: Box, Discrete, MultiBinary, MultiDiscrete or one of texts, or a Dict of these.
        captions: whether there is the observation :data:`CAPTION`, int64 (2,).

    Raises:
        OnibusError: a part of it is of another kind, such as a graph.
    """
    is_dict = isinstance(space, gym.spaces.Dict)
    parts: Mapping[str, gym.Space[Any]] = (
        space.spaces if isinstance(space, gym.spaces.Dict) else {ONLY: space}
    )
    if CAPTION in parts:
        raise OnibusError(
            f"the environment has an observation named {CAPTION!r}, which onibus adds itself; rename it"
        )
    made = {name: _array_of(name, part) for name, part in parts.items()}
    boxes: dict[str, gym.Space[Any]] = {name: box for name, (box, _) in made.items()}
    if captions:
        boxes[CAPTION] = gym.spaces.Box(_INT64.min, _INT64.max, (2,), np.int64)
    return ObservationArrays(
        gym.spaces.Dict(boxes), {name: convert for name, (_, convert) in made.items()}, is_dict
    )


def _array_of(name: str, space: gym.Space[Any]) -> tuple[gym.spaces.Box, Convert]:
    if isinstance(space, gym.spaces.Box):
        kind = np.uint8 if space.dtype in (np.uint8, np.bool_) else np.float32
        shape = space.shape or (1,)
        low, high = (np.broadcast_to(bound, shape).astype(kind) for bound in (space.low, space.high))
        return gym.spaces.Box(low, high, shape, kind), _same
    if isinstance(space, gym.spaces.Discrete):
        rows = np.eye(int(space.n), dtype=np.float32)
        start = int(space.start)
        return gym.spaces.Box(0, 1, (int(space.n),), np.float32), lambda value: rows[int(value) - start]
    if isinstance(space, gym.spaces.MultiBinary):
        return gym.spaces.Box(0, 1, space.shape, np.uint8), _same
    if isinstance(space, gym.spaces.MultiDiscrete):
        return gym.spaces.Box(0, space.nvec.astype(np.float32) - 1, space.shape, np.float32), _same
    if space.dtype is not None and space.dtype.kind == "U":  # Text, and spaces like MiniGrid's missions
        box = TextBytes(_most_bytes(space))
        return box, box.bytes_of
    what = "the environment's observation" if name == ONLY else f"the environment's observation {name!r}"
    raise OnibusError(
        f"{what} is a {type(space).__name__}, which the policy cannot take: give it as numbers, or leave it "
        "out with gymnasium.wrappers.FilterObservation (what it says can be a caption)"
    )


def _most_bytes(space: gym.Space[Any]) -> int:
    """Bytes of the longest text of a space, :data:`MOST_TEXT_BYTES` at most."""
    if not isinstance(space, gym.spaces.Text):
        return MOST_TEXT_BYTES
    widest = max((len(character.encode(errors="replace")) for character in space.character_set), default=1)
    return max(1, min(space.max_length * widest, MOST_TEXT_BYTES))


def _shape_of(raw: Any, name: str, is_dict: bool) -> str:
    if is_dict and not (isinstance(raw, Mapping) and name in raw):
        return "missing"
    value = raw[name] if is_dict else raw
    return f"of shape {np.shape(value)}" if isinstance(value, np.ndarray | list | tuple) else repr(value)[:40]


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class ActionArrays:
    """How a policy's actions become the environment's.

    Attributes:
        space: what the policy chooses from: Discrete from 0, or Box of one dimension, float32. Where the
            environment's Box has bounds, the policy's is from -1 to 1, clipped and stretched to them.
        native: the environment's action for the policy's.
        format: how episodes are recorded: empty for one byte an action, else NumPy's name of the numbers and
            how many there are per action, as in ``<f4:3``.
    """

    space: gym.spaces.Discrete | gym.spaces.Box
    native: Convert
    format: str

    def recorded(self, action: Any) -> bytes:
        """The policy's action as an episode's record has it."""
        if not self.format:
            return bytes((int(action),))
        return np.asarray(action).astype(self.format.partition(":")[0]).tobytes()

    def read(self, data: bytes) -> list[Any]:
        """The policy's actions of a recorded episode."""
        if not self.format:
            return list(data)
        kind, _, size = self.format.partition(":")
        numbers = np.frombuffer(data, kind)
        return numbers.tolist() if self.is_discrete else list(numbers.reshape(-1, int(size)))

    @property
    def is_discrete(self) -> bool:
        """Whether an action is one of a fixed number."""
        return isinstance(self.space, gym.spaces.Discrete)


def action_arrays(space: gym.Space[Any]) -> ActionArrays:
    """The arrays for an action space.

    Raises:
        OnibusError: it is neither Discrete nor Box.
    """
    if isinstance(space, gym.spaces.Discrete):
        count, start = int(space.n), int(space.start)
        form = "" if count <= 256 else "<i4:1"
        return ActionArrays(gym.spaces.Discrete(count), lambda action: int(action) + start, form)
    if not isinstance(space, gym.spaces.Box):
        raise OnibusError(
            f"the environment's actions are a {type(space).__name__}: a policy takes Discrete or Box; "
            "wrap the environment so that it has one of them"
        )
    shape, kind, size = space.shape, space.dtype, int(np.prod(space.shape, dtype=np.int64))
    form = f"<f4:{size}"
    if space.is_bounded():
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)

        def stretched(action: Any) -> Any:
            share = (np.clip(np.asarray(action, np.float64).reshape(shape), -1.0, 1.0) + 1.0) / 2.0
            return (low + share * (high - low)).astype(kind)

        return ActionArrays(gym.spaces.Box(-1.0, 1.0, (size,), np.float32), stretched, form)

    def clipped(action: Any) -> Any:
        return np.clip(np.asarray(action).reshape(shape), space.low, space.high).astype(kind)

    flat = (space.low.reshape(-1), space.high.reshape(-1))
    return ActionArrays(gym.spaces.Box(*flat, dtype=np.float32), clipped, form)


def random_actions(
    space: gym.Space[Any], generator: np.random.Generator, count: int
) -> NDArray[np.int64] | NDArray[np.float32]:
    """``count`` uniform actions of a policy's space: int64 (count,), or float32 (count, n) from -1 to 1."""
    if isinstance(space, gym.spaces.Discrete):
        return generator.integers(int(space.n), size=count)
    return generator.uniform(-1.0, 1.0, (count, *(space.shape or ()))).astype(np.float32)
