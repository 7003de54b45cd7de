"""The pass of a small network in NumPy, for a few games at a time.

PyTorch takes longer to begin its operations than to do them, since between two passes the games have had the
processor's caches. For 32 games and the small network, on one core of an AMD EPYC, NumPy then takes 7.5 us
per game and PyTorch 13.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from nle.nethack import DUNGEON_SHAPE
from numpy.typing import NDArray
from sample_factory.model.core import ModelCoreIdentity
from torch import nn

from onibus.learner.map_squares import COLUMNS, KINDS, ROWS, MapSquares
from onibus.learner.networks import MediumEncoder, SmallEncoder, the_linear
from onibus.producers.nethack.observations import Observation

Floats = NDArray[np.float32]


class NumpyPass:
    """A policy of one of our small encoders, without recurrent states, for N games.

    Its weights are views of the network's own.
    """

    def __init__(self, network: Any, count: int) -> None:
        """Args:
        network: Sample Factory's, one that :func:`has_numpy_pass`.
        count: N.
        """
        encoder = network.encoder
        self._features = (_Medium if isinstance(encoder, MediumEncoder) else _Small)(encoder, count)
        self._logits = _Layer(network.action_parameterization.distribution_linear)
        self._values = _Layer(network.critic_linear)

    def take_weights(self) -> None:
        """Use the network's weights from where they are now; call it once there are others."""
        for layer in (*self._features.layers, self._logits, self._values):
            layer.take_weights()

    def __call__(self, observation: Observation, states: Floats) -> tuple[Floats, Floats, Floats]:
        """Logits (N, A), values (N, 1) and the states as they are, for arrays (N, …) by name."""
        features = self._features(observation)
        return self._logits(features), self._values(features), states


def has_numpy_pass(network: Any) -> bool:
    """Whether :class:`NumpyPass` can stand for it."""
    parameters = list(network.parameters())
    return (
        type(getattr(network, "encoder", None)) in (SmallEncoder, MediumEncoder)
        and isinstance(network.core, ModelCoreIdentity)
        and isinstance(network.decoder.mlp, nn.Identity)
        and all(one.device.type == "cpu" and one.dtype == torch.float32 for one in parameters)
    )


class _Layer:
    """A linear layer, or an embedding's rows."""

    def __init__(self, module: nn.Linear | nn.Embedding) -> None:
        self._module = module
        self.take_weights()

    def take_weights(self) -> None:
        self.weights: Floats = self._module.weight.detach().numpy()
        if isinstance(self._module, nn.Linear):
            self._bias: Floats = self._module.bias.detach().numpy()

    def __call__(self, rows: Floats, into: Floats | None = None) -> Floats:
        """(N, I) to (N, O)."""
        product: Floats = np.matmul(rows, self.weights.T, out=into)
        product += self._bias
        return product


def _relu(values: Floats) -> Floats:
    return np.maximum(values, 0.0, out=values)


class _Small:
    """:class:`SmallEncoder`'s features."""

    def __init__(self, encoder: SmallEncoder, count: int) -> None:
        self._glyph = _Layer(encoder.glyph)
        self._status = [_Layer(layer) for layer in encoder.status if isinstance(layer, nn.Linear)]
        self._crop, self._mix = _Layer(the_linear(encoder.crop)), _Layer(the_linear(encoder.mix))
        self.layers = [self._glyph, *self._status, self._crop, self._mix]
        self._parts = np.zeros((count, self._mix.weights.shape[1]), np.float32)
        status, crop = (len(layer.weights) for layer in (self._status[-1], self._crop))
        self._of_status, self._of_crop = self._parts[:, :status], self._parts[:, status : status + crop]
        self._embedded = np.zeros((count, self._crop.weights.shape[1]), np.float32)
        self._by_glyph = self._embedded.reshape(-1, self._glyph.weights.shape[1])

    def __call__(self, observation: Observation) -> Floats:
        self._note_parts(observation)
        return _relu(self._mix(_relu(self._parts)))

    def _note_parts(self, observation: Observation) -> None:
        first, second = self._status
        second(_relu(first(observation["blstats"])), self._of_status)
        # With "raise", its default, NumPy takes a copy first.
        np.take(self._glyph.weights, observation["crop"].reshape(-1), 0, self._by_glyph, mode="clip")
        self._crop(self._embedded, self._of_crop)


class _Medium(_Small):
    """:class:`MediumEncoder`'s features."""

    def __init__(self, encoder: MediumEncoder, count: int) -> None:
        super().__init__(encoder, count)
        self._map = _Layer(the_linear(encoder.map))
        self.layers.append(self._map)
        self._squares = _Squares(encoder.squares, count)
        self._of_map = self._parts[:, -len(self._map.weights) :]

    def _note_parts(self, observation: Observation) -> None:
        super()._note_parts(observation)
        self._map(self._squares(observation["glyphs"]), self._of_map)


class _Squares:
    """What :class:`MapSquares` stand for."""

    def __init__(self, squares: MapSquares, count: int) -> None:
        self._bits, self._numbers = squares.bits.numpy(), squares.numbers.numpy()
        rows, columns = DUNGEON_SHAPE
        self._fields = np.zeros((count, ROWS, rows // ROWS, -(-columns // COLUMNS) * COLUMNS), np.int16)
        self._map = self._fields.reshape(count, rows, -1)[:, :, :columns]
        self._of_squares = np.zeros((count * ROWS * COLUMNS, len(KINDS)), np.float32)

    def __call__(self, glyphs: NDArray[np.int16]) -> Floats:
        """(N, 21, 79) to (N, :attr:`MapSquares.size`)."""
        self._map[:] = self._bits.take(glyphs)
        rows = _any(self._fields, 2)
        squares = _any(rows.reshape(*rows.shape[:2], COLUMNS, -1), 3)
        np.take(self._numbers, squares.reshape(-1), 0, self._of_squares, mode="clip")
        return self._of_squares.reshape(len(glyphs), -1)


def _any(bits: NDArray[np.int16], axis: int) -> NDArray[np.int16]:
    """Bits that are set anywhere along an axis; NumPy's own reduction takes longer along a short one."""
    first, *others = np.moveaxis(bits, axis, 0)
    found: NDArray[np.int16] = first.copy()
    for other in others:
        found |= other
    return found
