"""What captions of an episode would have been worth, under labels or a model, a coefficient and a β."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from onibus.consumers.replay.judges import RewardModel
from onibus.infra.errors import OnibusError
from onibus.schemas.records import Kind


@dataclass(frozen=True, slots=True)
class CaptionReward:
    """``coefficient * [the caption is helpful] / N ** beta`` for the N-th time that an episode has a caption.

    Attributes:
        helpful: captions that are; any other is worth nothing.
    """

    helpful: frozenset[str]
    coefficient: float
    beta: float

    def __call__(self, caption: str | None, count: int) -> float:
        """The reward of one step."""
        return self.coefficient / count**self.beta if caption in self.helpful else 0.0

    def total(self, steps: Iterable[tuple[str | None, int]]) -> float:
        """The intrinsic return of an episode of (caption, count) steps."""
        return sum(self(caption, count) for caption, count in steps)


def helpful_by_model(model: RewardModel, captions: Iterable[str], threshold: float) -> frozenset[str]:
    """Those of ``captions`` that a model rewards, as with ``--reward classification``.

    Raises:
        OnibusError: the model compares captions: it gives scores, not verdicts.
    """
    if model.kind is not Kind.JUDGE_ONE:
        raise OnibusError(
            f"model {model.name} ranks captions: it gives scores, not verdicts; give a classification model"
        )
    different = sorted(set(captions))
    probability = model.probability((text,) for text in different)
    return frozenset(text for text, p in zip(different, probability, strict=True) if p > threshold)
