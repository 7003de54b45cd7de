"""Intrinsic rewards: arrays of caption ids and counts in, arrays of rewards out. No text, no Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from onibus.consumers.labels.table import HELPFUL, UNHELPFUL
from onibus.learner.rewards.count_decay import RewardedBatch, decayed
from onibus.schemas.ids import NO_CAPTION

_TURNS = 2
"""Times that missing scores are completed: a version may be swapped in between that lacks them, too."""


def weigh_extrinsic(
    rewards: Tensor, coefficient: float, *, scale: float = 1.0, clip: float | None = None
) -> Tensor:
    """``c_ext * clip(scale * r_ext)``, in place: the task's own part of the reward.

    As in Sample Factory, from which ONI and Motif have it, the scale comes first, and the clip stands before
    the coefficient.
    """
    if scale != 1.0:
        rewards.mul_(scale)
    if clip is not None:
        rewards.clamp_(-clip, clip)
    return rewards.mul_(coefficient)


class VerdictLookup(Protocol):
    """The one thing a retrieval reward needs of a label table."""

    def verdicts(self, spec_id: bytes, ids: NDArray[np.int64]) -> NDArray[np.int8]:
        """Verdict codes of the ids, 0 where there is no label."""
        ...


class Rewards(Protocol):
    """The one thing a model's reward needs of its scores."""

    def rewards(self, spec_id: bytes, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """What captions are worth under a specification, NaN where there is no score."""
        ...

    def complete(self, ids: NDArray[np.int64]) -> None:
        """Have captions scored, ids (n,), whose words are to be had."""
        ...


@dataclass(frozen=True, slots=True)
class SpecReward:
    """One specification's part of the reward: its id, its coefficient, and how the run calls it."""

    spec_id: bytes
    coefficient: float
    name: str = ""


class RetrievalReward:
    """``sum of c_spec * [label is helpful] / N ** beta``, from labels alone; unknown and unsure are 0.

    ONI's retrieval reward (arXiv 2410.23022, section 4.1) with the count-based decay of its section 4.2.
    """

    def __init__(self, table: VerdictLookup, count_beta: float) -> None:
        self._table = table
        self._beta = count_beta
        self.specs: Sequence[SpecReward] = ()

    def __call__(self, ids: NDArray[np.int64], counts: NDArray[np.int64]) -> RewardedBatch:
        """Rewards of a batch.

        Args:
            ids: int64, any shape, the caption that each step brought about; 0 for none.
            counts: int64, the same shape, which time in its episode the caption came up, from 1.
        """
        total = np.zeros(ids.shape, dtype=np.float32)
        labelled = np.zeros(ids.shape, dtype=bool)
        parts: dict[str, NDArray[np.float32]] = {}
        for spec in self.specs:
            verdicts = self._table.verdicts(spec.spec_id, ids)
            labelled |= verdicts != 0
            parts[spec.name] = np.float32(spec.coefficient) * (verdicts == HELPFUL)
            total += parts[spec.name]
        return decayed(total, labelled, ids, counts, self._beta, parts)


class ModelReward:
    """``sum of c_spec * shape(score) / N ** beta``; what has no score is worth 0.

    Args:
        scores: what each caption is worth, by specification, made by
            :mod:`onibus.learner.rewards.score_to_reward`.
        count_beta: as for :class:`RetrievalReward`.
        labels: where a caption has the label helpful or unhelpful, that counts as 1 or 0, whatever the model
            says; unsure is no answer, so the model's counts. None: the model's counts always, as in ONI.
    """

    def __init__(self, scores: Rewards, count_beta: float, labels: VerdictLookup | None = None) -> None:
        self._scores, self._labels = scores, labels
        self._beta = count_beta
        self.specs: Sequence[SpecReward] = ()

    def __call__(self, ids: NDArray[np.int64], counts: NDArray[np.int64]) -> RewardedBatch:
        """Rewards of a batch; arguments as for :class:`RetrievalReward`."""
        total = np.zeros(ids.shape, dtype=np.float32)
        scored = np.zeros(ids.shape, dtype=bool)
        first = counts == 1
        unscored = 0
        parts: dict[str, NDArray[np.float32]] = {}
        for spec in self.specs:
            rewards = self._rewards(spec.spec_id, ids)
            there = ~np.isnan(rewards)
            scored |= there
            unscored = max(unscored, int(np.count_nonzero(first & ~there)))
            parts[spec.name] = np.float32(spec.coefficient) * np.where(there, rewards, np.float32(0))
            total += parts[spec.name]
        batch = decayed(total, scored, ids, counts, self._beta, parts)
        return replace(batch, first_sights=int(np.count_nonzero(first)), unscored=unscored)

    def _rewards(self, spec_id: bytes, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """What captions are worth under one specification; those without a score are scored first."""
        rewards = self._scores.rewards(spec_id, ids)
        for _ in range(_TURNS):
            missing = np.isnan(rewards) & (ids != NO_CAPTION)
            if not missing.any():
                break
            self._scores.complete(np.unique(ids[missing]))
            rewards = self._scores.rewards(spec_id, ids)
        if self._labels is not None:
            verdicts = self._labels.verdicts(spec_id, ids)
            rewards[verdicts == HELPFUL] = 1.0
            rewards[verdicts == UNHELPFUL] = 0.0
        return rewards


class NoReward:
    """Extrinsic reward only."""

    specs: Sequence[SpecReward] = ()

    def __call__(self, ids: NDArray[np.int64], counts: NDArray[np.int64]) -> RewardedBatch:
        """Zeros, float32, shaped like ``ids``."""
        del counts
        return RewardedBatch(np.zeros(ids.shape, dtype=np.float32), float("nan"))
