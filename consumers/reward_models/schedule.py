"""When a version of a reward model is trained, and for how many gradient steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

STEPS_PER_VERSION = 32
LATE_STEPS_PER_VERSION = 256
"""Of the published schedule after :data:`MANY` annotations: a version each second would be of no use."""

MANY = 25_000
"""Annotations after which ONI takes a step per batch of the learner; our own one waits for more of them."""
BATCHES_PER_SECOND = 25.0
"""Of ONI's learner: 26,000 environment steps/s with this reward, in batches of 1,024 (arXiv 2410.23022)."""

MOST_IDLE = 8
"""Versions that are made one after the other with no new annotation."""

_FIRST_CUT, _FULL_CUT = 4, 512
_CUT_OF_MANY = 32 * 256
_PUBLISHED_CUT = 100

Name = Literal["own", "published"]


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Where a training stands.

    Attributes:
        before: annotations that the newest version has seen.
        new: annotations since.
        versions: made so far.
        idle: how many of the newest versions came without a new annotation.
        seconds: since the newest version was begun, by the caller's clock.
        quiet: whether nothing more is to come for now.
    """

    before: int
    new: int
    versions: int
    idle: int
    seconds: float
    quiet: bool


class Schedule(Protocol):
    """Decides when a version is due."""

    name: Name

    def is_due(self, at: TrainingProgress) -> bool:
        """Whether a version is due, provided that there is something to tell apart."""

    def may_go_on(self, at: TrainingProgress) -> bool:
        """Whether one is due without a new annotation if the model is not fitted yet."""

    def steps(self, seen: int) -> int:
        """Gradient steps of a version that has seen so many annotations."""


class Own:
    """A version is 32 steps, for ever more annotations, up to 512 and beyond 25,000 for 32 times 256.

    It waits for an eighth of what is there: a small game has a hundred captions, and the policy needs the
    first ones soon. When nothing more comes, anything new is enough; and then training goes on until the
    model says what its labels say, for at most :data:`MOST_IDLE` versions: of a judge that wavers it never
    learns all.
    """

    name: Name = "own"

    def is_due(self, at: TrainingProgress) -> bool:
        return at.new >= (1 if at.quiet else annotations_per_version(at.before))

    def may_go_on(self, at: TrainingProgress) -> bool:
        return at.quiet and bool(at.versions) and at.idle < MOST_IDLE

    def steps(self, seen: int) -> int:
        del seen
        return STEPS_PER_VERSION


class Published:
    """ONI's: 32 steps for each 100 answers until there are 25,000, then one for each batch of the learner.

    The trainer does not see the learner's batches: it takes ``rate`` steps a second. Where that is more than
    it can do, it takes as many as it can. Fewer than 100 answers are enough once no more come.
    """

    name: Name = "published"

    def __init__(self, rate: float = BATCHES_PER_SECOND) -> None:
        self._rate = rate

    def is_due(self, at: TrainingProgress) -> bool:
        if at.before + at.new >= MANY:
            return at.seconds * self._rate >= LATE_STEPS_PER_VERSION
        return at.new >= (1 if at.quiet else _PUBLISHED_CUT)

    def may_go_on(self, at: TrainingProgress) -> bool:
        del at
        return False

    def steps(self, seen: int) -> int:
        return STEPS_PER_VERSION if seen < MANY else LATE_STEPS_PER_VERSION


OWN = Own()


def schedule_named(name: Name, rate: float) -> Schedule:
    """The schedule of that name; ``rate``: steps a second of the published one after 25,000 annotations."""
    return OWN if name == "own" else Published(rate)


def annotations_per_version(seen: int) -> int:
    """How many annotations the next version of :class:`Own` waits for, ``seen`` having come before."""
    return _CUT_OF_MANY if seen >= MANY else min(_FULL_CUT, max(_FIRST_CUT, seen // 8))
