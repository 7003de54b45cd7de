"""A reward model against labels, and two judges against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onibus.consumers.labels.agreement import BinaryFigures, binary_figures, cohens_kappa
from onibus.consumers.replay.judges import NO, YES, JudgedSubject, RewardModel
from onibus.consumers.reward_models.unseen import was_held_out
from onibus.infra.errors import OnibusError
from onibus.schemas import ids


@dataclass(frozen=True, slots=True)
class WrongJudgement:
    """A subject on which a model is wrong, and the probability of yes (helpful, first) that it gave."""

    subject_id: bytes
    texts: tuple[str, ...]
    verdict: str
    probability: float


@dataclass(frozen=True, slots=True)
class ModelEvaluation:
    """A model against labels.

    Attributes:
        left_out: labels that are neither yes nor no: unsure ones, and ties.
        worst: those on which it is most wrong, the worst first.
    """

    figures: BinaryFigures
    left_out: int
    worst: tuple[WrongJudgement, ...]


@dataclass(frozen=True, slots=True)
class JudgeComparison:
    """Two judges on the subjects that both judged.

    Attributes:
        verdicts: how often the first said one thing and the second another, by both words.
        differ: where they differ, in the order of the subjects' ids.
    """

    count: int
    agreement: float
    kappa: float | None
    verdicts: Counter[tuple[str, str]]
    differ: tuple[tuple[bytes, JudgedSubject, JudgedSubject], ...]


def evaluate(
    model: RewardModel, truth: Mapping[bytes, JudgedSubject], threshold: float, most_worst: int
) -> ModelEvaluation:
    """Figures of a model against verdicts.

    Raises:
        OnibusError: there is no verdict to compare with.
    """
    model.refuse_other_kind(judged.texts for judged in truth.values())
    yes, no = YES[model.kind], NO[model.kind]
    chosen = {s: judged for s, judged in sorted(truth.items()) if judged.verdict in (yes, no)}
    if not chosen:
        raise OnibusError(
            f"there is no {yes.value} or {no.value} label to hold model {model.name} against; choose another "
            "--spec, or leave --people and --held-out out"
        )
    true = np.array([judged.verdict is yes for judged in chosen.values()])
    probability = model.probability(judged.texts for judged in chosen.values())
    wrong = np.abs(probability - true)
    subjects = list(chosen.items())
    order = np.argsort(-wrong, kind="stable")[:most_worst]
    return ModelEvaluation(
        binary_figures(probability, true, threshold),
        len(truth) - len(chosen),
        tuple(
            WrongJudgement(
                subjects[i][0], subjects[i][1].texts, subjects[i][1].verdict.value, float(probability[i])
            )
            for i in order
            if wrong[i] > 0.5  # the others it has right
        ),
    )


def agree(first: Mapping[bytes, JudgedSubject], second: Mapping[bytes, JudgedSubject]) -> JudgeComparison:
    """How far two judges agree on what both judged.

    Raises:
        OnibusError: they have no subject in common.
    """
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise OnibusError(
            f"the two judged nothing in common ({len(first):,} and {len(second):,} subjects); choose others"
        )
    words = [(first[s].verdict.value, second[s].verdict.value) for s in shared]
    return JudgeComparison(
        count=len(shared),
        agreement=sum(a == b for a, b in words) / len(words),
        kappa=cohens_kappa([a for a, _ in words], [b for _, b in words]),
        verdicts=Counter(words),
        differ=tuple((s, first[s], second[s]) for s, (a, b) in zip(shared, words, strict=True) if a != b),
    )


def held_out(model: RewardModel, truth: Mapping[bytes, JudgedSubject]) -> dict[bytes, JudgedSubject]:
    """Those that a model of onibus 0.1.0 did not learn from.

    Raises:
        OnibusError: the model is newer, so it learned from all of them.
    """
    if model.provenance.recipe:
        raise OnibusError(
            f"model {model.name} was trained on every label, so none is held out; for its figures on labels "
            "that it had not seen look at its card, or at the log of onibus train-reward"
        )
    return {
        subject_id: judged
        for subject_id, judged in truth.items()
        if any(was_held_out(ids.caption_id(text)) for text in judged.texts)
    }
