"""What a learner sees of NetHack's games: of one game, and of many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from nle import nethack
from numpy.typing import NDArray

CROP = 9
"""Side of the square of glyphs around the player."""

Observation = dict[str, NDArray[Any]]

_HALF = CROP // 2
_ROWS, _COLUMNS = nethack.DUNGEON_SHAPE
_WIDTH = _COLUMNS + 2 * _HALF
_INT64 = np.iinfo(np.int64)

BLSTATS_SCALE: dict[str, float] = {
    "X": 1 / 79, "Y": 1 / 21, "STR25": 0.1, "STR125": 0.1, "DEX": 0.1, "CON": 0.1, "INT": 0.1,
    "WIS": 0.1, "CHA": 0.1, "SCORE": 1e-4, "HP": 0.02, "HPMAX": 0.02, "DEPTH": 0.1, "GOLD": 0.001,
    "ENE": 0.02, "ENEMAX": 0.02, "AC": 0.1, "HD": 0.1, "XP": 0.1, "EXP": 0.001, "TIME": 1e-4,
    "HUNGER": 1.0, "CAP": 1.0, "DNUM": 1.0, "DLEVEL": 0.1, "CONDITION": 0.0, "ALIGN": 0.1,
}  # fmt: skip
"""Factor for each of NLE's bottom-line statistics that brings its usual range near [-1, 1]."""


def observation_space(glyphs: bool, message: bool, captions: bool) -> gym.spaces.Dict:
    """The space of :class:`~onibus.producers.nethack.environment.NetHackEnvironment`'s observations.

    Args:
        glyphs: whether they hold the whole map.
        message: whether they hold the last message.
        captions: whether they hold captions.
    """
    boxes: dict[str, gym.Space[Any]] = {
        "blstats": gym.spaces.Box(-5.0, 5.0, nethack.BLSTATS_SHAPE, np.float32),
        "crop": gym.spaces.Box(0, nethack.MAX_GLYPH, (CROP, CROP), np.int16),
    }
    if glyphs:
        boxes["glyphs"] = gym.spaces.Box(0, nethack.MAX_GLYPH, nethack.DUNGEON_SHAPE, np.int16)
    if message:
        boxes["message"] = gym.spaces.Box(0, 255, nethack.MESSAGE_SHAPE, np.uint8)
    if captions:
        boxes["caption"] = gym.spaces.Box(_INT64.min, _INT64.max, (2,), np.int64)
    return gym.spaces.Dict(boxes)


class Observer:
    """Makes the observations of one game."""

    def __init__(self, space: gym.spaces.Dict) -> None:
        self._arrays: list[tuple[str, Any, Any]] = [
            (name, space.shape, space.dtype) for name, space in space.items()
        ]
        self._padded = _padded()

    def observe(self, raw: Mapping[str, NDArray[Any]], caption: tuple[int, int]) -> Observation:
        """Fresh arrays for the space.

        Args:
            raw: NLE's arrays by name.
            caption: look-up id and count.
        """
        observation = {name: np.empty(shape, dtype) for name, shape, dtype in self._arrays}
        blstats, glyphs = raw["blstats"], raw["glyphs"]
        observation["blstats"][:] = blstats
        _scale_statistics(observation["blstats"])
        observation["crop"][:] = self._crop(glyphs, blstats.item(0), blstats.item(1))
        if "glyphs" in observation:
            observation["glyphs"][:] = glyphs
        if "message" in observation:
            observation["message"][:] = raw["message"]
        if "caption" in observation:
            observation["caption"][:] = caption
        return observation

    def _crop(self, glyphs: NDArray[np.int16], x: int, y: int) -> NDArray[np.int16]:
        """A view of the square around (x, y)."""
        if _HALF <= x < _COLUMNS - _HALF and _HALF <= y < _ROWS - _HALF:
            return glyphs[y - _HALF : y + _HALF + 1, x - _HALF : x + _HALF + 1]
        self._padded[_HALF:-_HALF, _HALF:-_HALF] = glyphs
        return self._padded[y : y + CROP, x : x + CROP]


class JointObserver:
    """Makes the observations of N games at once, as :class:`Observer` makes those of one.

    Attributes:
        maps: (N, 21, 79) int16, the maps of the last observations.
    """

    def __init__(self, games: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        """Args:
        games: each game's own arrays by NLE's names, which hold its newest observation.
        """
        count = len(games)
        self.maps = np.zeros((count, _ROWS, _COLUMNS), np.int16)
        self._of_games = {
            name: [game[name].reshape(-1, copy=False) for game in games]
            for name in ("blstats", "glyphs", "message")
        }
        self._statistics = np.zeros((count, *nethack.BLSTATS_SHAPE), np.int64)
        self._padded = _padded(count)
        self._first = np.arange(count) * self._padded[0].size
        rows = np.arange(CROP)[:, None] * _WIDTH
        self._square = (rows + np.arange(CROP)).reshape(-1)
        self._places = np.zeros((count, CROP * CROP), np.int64)

    def observe(self, into: Observation, captions: Sequence[tuple[int, int]]) -> None:
        """Write the observations of all games.

        Args:
            into: arrays of N rows each, by the names of the space.
            captions: look-up id and count of each game's.
        """
        self._gather("blstats", self._statistics)
        into["blstats"][:] = self._statistics
        _scale_statistics(into["blstats"])
        self._gather("glyphs", self.maps)
        self._padded[:, _HALF:-_HALF, _HALF:-_HALF] = self.maps
        x, y = self._statistics[:, nethack.NLE_BL_X], self._statistics[:, nethack.NLE_BL_Y]
        corners = self._first + y * _WIDTH + x
        np.add(corners[:, None], self._square, out=self._places)
        crops = into["crop"].reshape(self._places.shape, copy=False)
        np.take(self._padded.reshape(-1), self._places, out=crops, mode="clip")  # "raise" takes a copy
        if "glyphs" in into:
            into["glyphs"][:] = self.maps
        if "message" in into:
            self._gather("message", into["message"])
        if "caption" in into:
            into["caption"][:] = captions

    def _gather(self, name: str, rows: NDArray[Any]) -> None:
        np.concatenate(self._of_games[name], out=rows.reshape(-1, copy=False))


def _padded(*games: int) -> NDArray[np.int16]:
    """Room for maps with a margin of what is outside them."""
    return np.full((*games, _ROWS + 2 * _HALF, _WIDTH), nethack.MAX_GLYPH, np.int16)


def _scale_statistics(blstats: NDArray[np.float32]) -> None:
    """Scale and clip bottom-line statistics, float32 (27,) or (N, 27), in place."""
    blstats *= _SCALE
    np.minimum(blstats, _HIGHEST, blstats)  # np.clip takes six times as long on 27 numbers
    np.maximum(blstats, _LOWEST, blstats)


def _scale() -> NDArray[np.float32]:
    scale = np.zeros(nethack.BLSTATS_SHAPE, np.float32)
    for name, factor in BLSTATS_SCALE.items():
        scale[getattr(nethack, f"NLE_BL_{name}")] = factor
    return scale


_SCALE = _scale()
_LOWEST, _HIGHEST = np.full_like(_SCALE, -5.0), np.full_like(_SCALE, 5.0)
