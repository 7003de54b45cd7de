"""Judges that can be held against each other: labels, people, annotators, and reward models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.consumers.labels.fold import LabelFold
from onibus.consumers.reward_models.character_cnn import (
    CLASSES,
    SCORE,
    caption_scores,
    helpful_probability,
    network_of,
    new_network,
    to_bytes,
    to_rows,
)
from onibus.consumers.reward_models.model_file import ModelFileError, Provenance, read_model_file
from onibus.consumers.reward_models.own_network import why_unknown
from onibus.consumers.reward_models.publisher import newest_version
from onibus.consumers.specs.answer_format import DECIDED
from onibus.infra.errors import OnibusError
from onibus.infra.settings import Settings
from onibus.schemas.records import Kind, Verdict


@dataclass(frozen=True, slots=True)
class JudgedSubject:
    """A subject's captions and what was said of them."""

    texts: tuple[str, ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class SubjectVerdicts:
    """What was said of each subject: in force, by people alone, and by annotators whatever people said."""

    in_force: dict[bytes, JudgedSubject]
    people: dict[bytes, JudgedSubject]
    annotators: dict[bytes, JudgedSubject]


def verdicts_of(logged: Iterable[LoggedAnnotation], spec_id: bytes) -> SubjectVerdicts:
    """The newest verdicts under one spec. A withdrawal takes back both a person's and an annotator's."""
    found = SubjectVerdicts({}, {}, {})
    for one in LabelFold(
        one for one in logged if one.annotation is not None and one.annotation.spec_id == spec_id
    ):
        if one.verdict is not None:
            judged = found.in_force[one.subject_id] = JudgedSubject(one.texts, one.verdict)
            if one.by_person:
                found.people[one.subject_id] = judged
        if one.by_annotators is not None:
            found.annotators[one.subject_id] = JudgedSubject(one.texts, one.by_annotators)
    return found


@dataclass(frozen=True, slots=True)
class RewardModel:
    """A reward model that was read: what it is, and its network."""

    name: str
    provenance: Provenance
    kind: Kind
    network: nn.Module

    @property
    def spec_id(self) -> bytes:
        """The specification that it learned from."""
        return bytes.fromhex(self.provenance.spec_id)

    def probability(self, subjects: Iterable[tuple[str, ...]]) -> NDArray[np.float64]:
        """Probability of the verdict "helpful", or of "first", for n subjects: float64 (n,).

        Raises:
            OnibusError: they are comparisons and the model judges one caption, or the other way round.
        """
        given = list(subjects)
        self.refuse_other_kind(given)
        if not given:
            return np.zeros(0)
        different = sorted({text for texts in given for text in texts})
        place = {text: number for number, text in enumerate(different)}
        rows = to_rows([to_bytes(text) for text in different])
        if self.kind is Kind.JUDGE_ONE:
            judged = helpful_probability(self.network, rows).astype(np.float64)
            return judged[[place[text] for (text,) in given]]
        scores = caption_scores(self.network, rows).astype(np.float64)
        pairs = np.array([[place[first], place[second]] for first, second in given])
        margin: NDArray[np.float64] = scores[pairs[:, 0]] - scores[pairs[:, 1]]
        return 1 / (1 + np.exp(-margin))

    def refuse_other_kind(self, subjects: Iterable[tuple[str, ...]]) -> None:
        """Raises OnibusError if they are comparisons and the model judges one caption, or vice versa."""
        captions = 1 if self.kind is Kind.JUDGE_ONE else 2
        if any(len(texts) != captions for texts in subjects):
            what = "one caption" if captions == 1 else "two captions"
            raise OnibusError(f"model {self.name} judges {what}; hold it against a spec that does so, too")

    def judge(self, subjects: Mapping[bytes, JudgedSubject], threshold: float) -> dict[bytes, JudgedSubject]:
        """Its verdicts on the subjects of others."""
        yes, no = DECIDED[self.kind]
        probability = self.probability(judged.texts for judged in subjects.values())
        return {
            subject_id: JudgedSubject(judged.texts, yes if p > threshold else no)
            for (subject_id, judged), p in zip(subjects.items(), probability, strict=True)
        }


def load_model(settings: Settings, name: str) -> RewardModel:
    """A reward model from a file, or the newest version of a name on the bus.

    Raises:
        OnibusError: there is none, or it is not an onibus reward model.
    """
    path = Path(name)
    try:
        if path.is_file():
            data = path.read_bytes()
        else:
            whole = newest_version(settings, name)
            if whole is None:
                raise OnibusError(f"there is no file {name}, and no reward model of that name on the bus")
            data = whole.data
        file = read_model_file(data)
    except (ModelFileError, OSError) as error:
        raise OnibusError(f"{name} cannot be read as a reward model: {error}; give another file") from error
    for kind, outputs in ((Kind.JUDGE_ONE, CLASSES), (Kind.COMPARE_TWO, SCORE)):
        made = network_of(file.provenance.architecture, outputs)
        if made is not None:
            network = new_network(outputs, made)
            network.load_state_dict(dict(file.weights))
            return RewardModel(path.name, file.provenance, kind, network.eval())
    raise OnibusError(f"{name} cannot be used: {why_unknown(file.provenance.architecture)}")
