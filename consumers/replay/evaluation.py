"""A reward model against labels, and two judges against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from onibus.consumers.labels.agreement import BinaryFigures, binary_figures, cohens_kappa
from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.consumers.replay.judges import JudgedSubject, RewardModel
from onibus.consumers.reward_models.unseen import was_held_out
from onibus.consumers.specs.answer_format import DECIDED
from onibus.infra.errors import OnibusError
from onibus.schemas import ids
from onibus.schemas.records import Annotation


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
        trained_on: how many of the labels in the figures are of captions that the model was trained on.
    """

    figures: BinaryFigures
    left_out: int
    worst: tuple[WrongJudgement, ...]
    trained_on: int


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
    model: RewardModel,
    truth: Mapping[bytes, JudgedSubject],
    threshold: float,
    most_worst: int,
    trained_on: Container[bytes] = (),
) -> ModelEvaluation:
    """Figures of a model against verdicts.

    Args:
        trained_on: subjects that the model was trained on, under the spec of the verdicts.

    Raises:
        OnibusError: there is no verdict to compare with.
    """
    model.refuse_other_kind(judged.texts for judged in truth.values())
    yes, no = DECIDED[model.kind]
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
        sum(subject_id in trained_on for subject_id in chosen),
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


class TrainedOn:
    """Which subjects a model was trained on: those with an annotation below the offsets in its file.

    The offsets are those of the log that it was trained from, or of an export of that log.
    """

    def __init__(self, model: RewardModel) -> None:
        self._model = model
        self._until = {int(number): end for number, end in model.provenance.annotation_offsets.items()}
        self._subjects: set[bytes] = set()

    def noting(self, logged: Iterable[LoggedAnnotation]) -> Iterator[LoggedAnnotation]:
        """The same annotations, noted as they pass."""
        for one in logged:
            if one.annotation is not None and self._was_learned(one, one.annotation):
                self._subjects.add(one.annotation.subject_id)
            yield one

    def __contains__(self, subject_id: object) -> bool:
        return subject_id in self._subjects

    def held_out(self, truth: Mapping[bytes, JudgedSubject]) -> dict[bytes, JudgedSubject]:
        """Those that it was not trained on.

        Raises:
            OnibusError: there are none.
        """
        found = {subject_id: judged for subject_id, judged in truth.items() if subject_id not in self}
        if truth and not found:
            raise OnibusError(
                f"model {self._model.name} was trained on the captions of all {len(truth):,} labels, so "
                "--held-out leaves none; train one on earlier labels alone with: onibus replay train FILE "
                "--spec SPEC --until TIME"
            )
        return found

    def _was_learned(self, one: LoggedAnnotation, annotation: Annotation) -> bool:
        is_early = one.offset < self._until.get(one.partition, 0)
        is_own = annotation.spec_id == self._model.spec_id
        return is_early and is_own and not self._kept_out(annotation.texts)

    def _kept_out(self, texts: Iterable[str]) -> bool:
        """Of onibus 0.1.0, whose models have no recipe."""
        return not self._model.provenance.recipe and any(was_held_out(ids.caption_id(t)) for t in texts)
