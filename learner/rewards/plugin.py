"""``--reward module:Class``: a reward of the user's own, made from labels and counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.labels.table import HELPFUL, UNHELPFUL
from onibus.infra.errors import OnibusError
from onibus.infra.plugins import failure_of, load_plugin
from onibus.learner.rewards.count_decay import RewardedBatch
from onibus.learner.rewards.formulas import SpecReward, VerdictLookup
from onibus.schemas.ids import NO_CAPTION


@dataclass(frozen=True, slots=True)
class RewardBatch:
    """What a reward is made from: E episodes' parts of T steps each, under S specs. Nothing may be changed.

    Attributes:
        ids: int64 (E, T), the caption that each step brought about, the same for the same; 0 for none.
        counts: int64 (E, T), which time in its episode the caption came up, from 1; 0 without a caption.
        helpful: bool (S, E, T), where the caption's label is helpful.
        unhelpful: bool (S, E, T), where it is unhelpful. Where neither is true there is no label yet, or the
            judge was unsure.
        coefficients: float32 (S,), the specs' coefficients, as ``--spec NAME=0.4`` gives them.
        count_beta: ``--count-beta``.
    """

    ids: NDArray[np.int64]
    counts: NDArray[np.int64]
    helpful: NDArray[np.bool_]
    unhelpful: NDArray[np.bool_]
    coefficients: NDArray[np.float32]
    count_beta: float


Reward = Callable[[RewardBatch], NDArray[np.float32]]
"""What the class's objects are: given a batch, they return float32 (E, T), finite, the intrinsic reward of
each step, coefficients included. One object serves a run; it is called for every batch, by the learner's own
thread, so it must be fast, and keep nothing that grows. Before a spec is announced, S is 0."""


def load_reward(reference: str) -> Reward:
    """An object of the class that ``module:Class`` names.

    Raises:
        OnibusError: it cannot be found, or made.
    """
    made_by = load_plugin("--reward", reference)
    try:
        reward: Reward = made_by()
    except Exception as error:
        raise failure_of(f"--reward {reference}", error) from error
    if not callable(reward):
        raise OnibusError(f"--reward {reference}: its objects need __call__(self, batch)")
    return reward


class PluginReward:
    """The user's reward, as the learner calls its own.

    Args:
        reference: ``module:Class``.
        table: the labels.
        count_beta: exponent of a caption's count, for the user's use.

    Raises:
        OnibusError: as :func:`load_reward`.
    """

    def __init__(self, reference: str, table: VerdictLookup, count_beta: float) -> None:
        self._reference, self._table, self._beta = reference, table, count_beta
        self._reward = load_reward(reference)
        self.specs: Sequence[SpecReward] = ()

    def __call__(self, ids: NDArray[np.int64], counts: NDArray[np.int64]) -> RewardedBatch:
        """Rewards of a batch; arguments as for :class:`~onibus.learner.rewards.formulas.RetrievalReward`.

        Raises:
            OnibusError: the user's reward failed, or gave something else than rewards.
        """
        specs = tuple(self.specs)
        verdicts = np.zeros((len(specs), *ids.shape), np.int8)
        for row, spec in zip(verdicts, specs, strict=True):
            row[:] = self._table.verdicts(spec.spec_id, ids)
        coefficients = np.array([spec.coefficient for spec in specs], np.float32)
        batch = RewardBatch(ids, counts, verdicts == HELPFUL, verdicts == UNHELPFUL, coefficients, self._beta)
        try:
            rewards = np.array(self._reward(batch), np.float32)  # a copy: it is kept for a while
        except Exception as error:
            raise failure_of(f"--reward {self._reference}", error) from error
        if rewards.shape != ids.shape or not np.isfinite(rewards).all():
            raise OnibusError(
                f"--reward {self._reference} must return finite numbers of the shape of batch.ids, "
                f"{ids.shape}; it returned {rewards.shape}"
                + ("" if np.isfinite(rewards).all() else ", some of them infinite or not a number")
            )
        captioned = np.count_nonzero(ids != NO_CAPTION)
        judged = np.count_nonzero((verdicts != 0).any(axis=0))
        return RewardedBatch(rewards, judged / captioned if captioned else float("nan"))
