"""The table of rewards: what each needs to run, and what its scores mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onibus.infra.errors import OnibusError
from onibus.infra.plugins import is_plugin

P_HELPFUL_THRESHOLD = 0.5
"""Probability above which a classification model's judgement counts as helpful, unless another is given."""


@dataclass(frozen=True, slots=True)
class RewardKind:
    """One value of ``--reward``.

    Attributes:
        annotators: whether annotators run, to label what the policy comes upon.
        trainer: whether a reward model is trained meanwhile.
        scores: whether judges' scores of captions reward; else their labels, or nothing.
        compares: whether the judge learns from comparisons of two captions.
        threshold: score above which it rewards, unless another is given. A ranking rewards what is better
            than the average of the captions compared. ONI's -0.5 was one of raw scores, whose zero means
            nothing.
        judge: who judges, in words; empty: whoever annotates.
    """

    annotators: bool = False
    trainer: bool = False
    scores: bool = False
    compares: bool = False
    threshold: float = 0.0
    judge: str = ""

    @property
    def is_frozen(self) -> bool:
        """Whether its scores come from something that does not change during the run."""
        return self.scores and not self.trainer


REWARD_KINDS: Mapping[str, RewardKind] = {
    "retrieval": RewardKind(annotators=True),
    "classification": RewardKind(annotators=True, trainer=True, scores=True, threshold=P_HELPFUL_THRESHOLD),
    "ranking": RewardKind(annotators=True, trainer=True, scores=True, compares=True),
    "motif": RewardKind(scores=True, compares=True, judge="a frozen model"),
    "similarity": RewardKind(scores=True, judge="likeness to the goal"),
    "none": RewardKind(judge="no one"),
}


def reward_kind(name: str) -> RewardKind:
    """The reward of this name; of one of the user's own, ``module:Class``, what it is made from.

    Raises:
        OnibusError: there is no such reward.
    """
    if is_plugin(name):
        return RewardKind(annotators=True)
    if name not in REWARD_KINDS:
        known = ", ".join(REWARD_KINDS)
        raise OnibusError(
            f"--reward {name}: there is no such reward; give one of: {known}; or module:Class for one of "
            "your own"
        )
    return REWARD_KINDS[name]
