"""A judge against captions that people have judged: how often it is right, how sure, and at what cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onibus.consumers.annotator.cost import Cost
from onibus.consumers.labels.agreement import BinaryFigures, binary_figures
from onibus.consumers.language_models.base import Answer
from onibus.consumers.replay.trying_specs import Trial
from onibus.consumers.specs.answer_format import AnswerFormat
from onibus.consumers.specs.reference_set import Reference
from onibus.infra.errors import OnibusError
from onibus.schemas.records import Verdict

_SAID = {Verdict.HELPFUL: 1.0, Verdict.UNHELPFUL: 0.0}
_UNSURE = 0.5
_ROUNDS = 100
_SMALLEST_STEP = 1e-9


@dataclass(frozen=True, slots=True)
class Mistake:
    """A caption that was judged otherwise than by people, and why they judged so."""

    caption: str
    is_helpful: bool
    probability: float
    reason: str


@dataclass(frozen=True, slots=True)
class SpecEvaluation:
    """Figures of one judge.

    Attributes:
        figures: with a verdict in words as probability 0 or 1, ``unsure`` as a half, which is no yes.
        balanced_accuracy: mean of the shares of helpful and of unhelpful captions that are judged right.
        unsure: captions to which it said unsure, or nothing readable.
        left_out: captions of which people are unsure.
        scale, offset: calibration that fits these labels on top of the spec's own; None without any.
        mistakes: the worst first.
    """

    figures: BinaryFigures
    balanced_accuracy: float | None
    unsure: int
    left_out: int
    scale: float | None
    offset: float | None
    cost: Cost
    seconds: float
    mistakes: tuple[Mistake, ...]


def require_both_kinds(references: Sequence[Reference], known: Sequence[Reference] = ()) -> None:
    """Before anything is asked.

    Args:
        known: those that these were chosen from.

    Raises:
        OnibusError: they are all helpful, or all unhelpful, so no judge can be told from another by them.
    """
    if _are_of_both_kinds(references):
        return
    if _are_of_both_kinds(known):
        raise OnibusError("captions of one kind, helpful or unhelpful, are not in this half; give --half all")
    raise OnibusError("no captions are helpful, or none unhelpful; give both kinds to evaluate with")


def _are_of_both_kinds(references: Sequence[Reference]) -> bool:
    return {Verdict.HELPFUL, Verdict.UNHELPFUL} <= {one.verdict for one in references}


def decided(references: Sequence[Reference]) -> list[Reference]:
    """Those that people are not unsure of: what a judge is asked about."""
    return [one for one in references if one.verdict is not Verdict.UNSURE]


def evaluate_trial(trial: Trial, references: Sequence[Reference], most_mistakes: int) -> SpecEvaluation:
    """Hold answers against what people say of the same captions.

    Args:
        trial: answers about :func:`decided` captions, in their order.

    Raises:
        OnibusError: nothing is left to compare.
    """
    require_both_kinds(references)
    known, answers = decided(references), trial.answers
    true = np.array([one.verdict is Verdict.HELPFUL for one in known], np.bool_)
    probability = np.array([_probability(answer) for answer in answers])
    said = np.array([answer.verdict is Verdict.HELPFUL for answer in answers])
    denied = np.array([answer.verdict is Verdict.UNHELPFUL for answer in answers])
    read = AnswerFormat.model_validate_json(trial.spec.parser).reads_probabilities
    how = None if trial.is_of_panel else read
    scale, offset = fitted(probability, true) if how is not None else (None, None)
    wrong = np.abs(probability - true)
    order = [i for i in np.argsort(-wrong, kind="stable") if said[i] != true[i]][:most_mistakes]
    return SpecEvaluation(
        figures=binary_figures(probability, true, how.threshold if how is not None else _UNSURE),
        balanced_accuracy=float((said[true].mean() + denied[~true].mean()) / 2),
        unsure=int(np.count_nonzero(~said & ~denied)),
        left_out=len(references) - len(known),
        scale=scale,
        offset=offset,
        cost=trial.cost,
        seconds=trial.seconds,
        mistakes=tuple(_mistake(known[i], float(probability[i])) for i in order),
    )


def fitted(probability: NDArray[np.float64], true: NDArray[np.bool_]) -> tuple[float, float]:
    """Scale and offset of log-odds that fit labels best, both classes weighing the same.

    Newton's method on the log-likelihood of a logistic regression with one variable (Platt 1999), with a
    little ridge so that classes that are told apart wholly do not lead to infinity.

    Args:
        probability: float64 (n,).
        true: bool (n,), both kinds in it.
    """
    odds = np.log(np.clip(probability, 1e-9, 1 - 1e-9) / np.clip(1 - probability, 1e-9, 1))
    columns = np.stack([odds, np.ones_like(odds)], axis=1)
    weight = np.where(true, 0.5 / true.sum(), 0.5 / (~true).sum()) * len(true)
    start = np.array([1.0, 0.0])
    found, ridge = start, np.diag([0.1, 0.1])

    def loss(tried: NDArray[np.float64]) -> float:
        missed = np.logaddexp(0.0, np.where(true, -1.0, 1.0) * (columns @ tried))
        return float(weight @ missed + 0.05 * ((tried - start) ** 2).sum())

    for _ in range(_ROUNDS):
        expected = 1 / (1 + np.exp(-np.clip(columns @ found, -50, 50)))
        slope = columns.T @ (weight * (true - expected)) - ridge @ (found - start)
        bend = (columns * (weight * expected * (1 - expected))[:, None]).T @ columns + ridge
        step = np.linalg.solve(bend, slope)
        while loss(found + step) > loss(found) and float(np.abs(step).max()) >= _SMALLEST_STEP:
            step = step / 2  # where probabilities are near 0 or 1, a whole step leads far away
        found = found + step
        if float(np.abs(step).max()) < _SMALLEST_STEP:
            break
    return float(found[0]), float(found[1])


def combined(scale: float, offset: float, outer_scale: float, outer_offset: float) -> tuple[float, float]:
    """The scale and offset that do what a spec's own do, followed by fitted ones."""
    return scale * outer_scale, offset * outer_scale + outer_offset


def _mistake(reference: Reference, probability: float) -> Mistake:
    is_helpful = reference.verdict is Verdict.HELPFUL
    return Mistake(reference.caption, is_helpful, probability, reference.reason)


def _probability(answer: Answer) -> float:
    found = answer.attempts[-1].probability if answer.attempts else None
    if found is not None and math.isfinite(found):
        return found
    return _SAID.get(answer.verdict, _UNSURE)
