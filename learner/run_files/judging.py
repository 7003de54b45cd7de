"""Who judged the captions of a run, and how: folded from the annotation log, and kept with the run."""

from __future__ import annotations

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onibus.consumers.labels.agreement import cohens_kappa
from onibus.consumers.labels.as_of import annotations_as_of
from onibus.consumers.specs.reference_set import built_in_path, read_references
from onibus.consumers.specs.spec_file import read_specs
from onibus.infra.errors import OnibusError
from onibus.infra.files import read_state, write_or_refuse
from onibus.infra.settings import Settings
from onibus.learner.run_files.caption_tally import CaptionTally
from onibus.learner.run_files.specs import found_specs
from onibus.schemas.ids import LABEL_KEY_BYTES, caption_id, lookup_id, split_label_key
from onibus.schemas.records import Annotation, AnnotationSpec, Kind, Origin, Verdict
from onibus.schemas.verdict_in_force import is_by_person, overrides, verdict_of

JUDGING_FILE = "judging.json"
POINTS = 200
"""Of the curves of verdicts over time."""


@dataclass(frozen=True, slots=True)
class Answers:
    """How many answers somebody gave: a model, the rules, or people."""

    origin: str
    model: str
    revision: str
    count: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often two say the same: of how many subjects, of how many of them, and Cohen's kappa if defined."""

    count: int
    agreed: int
    kappa: float | None

    @classmethod
    def of(cls, pairs: Sequence[tuple[Verdict, Verdict]]) -> Agreement | None:
        """Of pairs of verdicts on the same subjects; None without any."""
        if not pairs:
            return None
        first, second = zip(*[(one.value, other.value) for one, other in pairs], strict=True)
        return cls(len(pairs), sum(one == other for one, other in pairs), cohens_kappa(first, second))


@dataclass(frozen=True, slots=True)
class SpecJudging:
    """What was said under one spec of the captions of a run; of a spec that compares, of all pairs.

    Attributes:
        name: as the run calls it. spec_id: hex digits.
        goal, kind, model, revision, sampling, prompt: of the announced spec; empty where it was not.
        answers: by whom, the most frequent first.
        labels: how many have each verdict in force.
        people: annotators against people, on what people judged.
        reference: annotators against the built-in reference set, on what is in it and decided there.
        tokens: in and out, of all answers. usd: what they cost; None where no price was recorded.
        times, verdicts: seconds since the epoch, and how often each verdict had been given by then.
    """

    name: str
    spec_id: str
    goal: str = ""
    kind: str = ""
    model: str = ""
    revision: str = ""
    sampling: Mapping[str, str] = field(default_factory=dict)
    prompt: str = ""
    answers: Sequence[Answers] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    people: Agreement | None = None
    reference: Agreement | None = None
    tokens: int = 0
    usd: float | None = None
    times: Sequence[float] = ()
    verdicts: Mapping[str, Sequence[int]] = field(default_factory=dict)


def read_judging(settings: Settings, folder: Path) -> list[SpecJudging]:
    """What the bus has on the specs of the run in ``folder``; kept there.

    Reads the annotation log once. Memory grows with the captions that were judged, by some 200 bytes each.

    Raises:
        OnibusError: the cluster or a topic is away, the log is not whole, or the file cannot be written.
    """
    found = found_specs(folder)
    announced = read_specs(settings) if found else {}
    totals = CaptionTally.load(folder).totals

    def is_of_run(key: bytes) -> bool:
        if len(key) != LABEL_KEY_BYTES:
            return False
        spec_id, subject_id = split_label_key(key)
        spec = announced.get(spec_id)
        compares = spec is not None and spec.kind is Kind.COMPARE_TWO
        return spec_id in folds and (compares or lookup_id(subject_id) in totals)

    folds = {spec_id: _Fold() for spec_id in found.values()}
    if folds:
        for logged in annotations_as_of(settings, None, is_of_run):
            if logged.annotation is not None:
                folds[logged.annotation.spec_id].take(logged.annotation)
    judging = [folds[spec_id].told(name, spec_id, announced.get(spec_id)) for name, spec_id in found.items()]
    write_or_refuse(folder / JUDGING_FILE, json.dumps([asdict(one) for one in judging], indent=1))
    return judging


def kept_judging(folder: Path) -> list[SpecJudging]:
    """What :func:`read_judging` kept of the run in ``folder``; empty if it never ran."""
    return read_state(folder / JUDGING_FILE, lambda rows: [_from_json(row) for row in rows], [])


def total_usd(judging: Iterable[SpecJudging]) -> float | None:
    """What all answers cost; None where no price is known."""
    known = [one.usd for one in judging if one.usd is not None]
    return sum(known) if known else None


@dataclass(slots=True)
class _Subject:
    """The verdict in force, whether a person gave it, and the annotators' last one."""

    in_force: Verdict | None = None
    by_person: bool = False
    by_annotators: Verdict | None = None


class _Fold:
    """The annotations of one spec, in the order of their partitions: the rule is the label table's."""

    def __init__(self) -> None:
        self._subjects: defaultdict[bytes, _Subject] = defaultdict(_Subject)
        self._answers: Counter[tuple[str, str, str]] = Counter()
        self._tokens, self._usd, self._priced = 0, 0.0, False
        self._times, self._codes = array("q"), array("b")
        self._verdicts = list(Verdict)

    def take(self, one: Annotation) -> None:
        """Count an annotation."""
        self._answers[one.origin.value, one.model, one.model_revision] += one.origin is not Origin.WITHDRAWAL
        self._tokens += one.tokens_in + one.tokens_out
        if one.usd is not None:
            self._usd, self._priced = self._usd + one.usd, True
        if one.verdict is not None and one.origin in (Origin.LLM, Origin.RULES):
            self._times.append(one.annotated_at)
            self._codes.append(self._verdicts.index(one.verdict))
        subject = self._subjects[one.subject_id]
        if overrides(one, subject.by_person):
            subject.in_force, subject.by_person = verdict_of(one), is_by_person(one)
        if one.origin is not Origin.HUMAN:
            subject.by_annotators = verdict_of(one)

    def told(self, name: str, spec_id: bytes, spec: AnnotationSpec | None) -> SpecJudging:
        """What it comes to."""
        labels = Counter(one.in_force for one in self._subjects.values() if one.in_force is not None)
        judged = self._subjects.values()
        by_people = [
            (one.by_annotators, one.in_force)
            for one in judged
            if one.by_person and one.by_annotators is not None and one.in_force is not None
        ]
        times, verdicts = self._over_time()
        return SpecJudging(
            name=name,
            spec_id=spec_id.hex(),
            answers=[Answers(*who, count) for who, count in self._answers.most_common() if count],
            labels={verdict.value: labels[verdict] for verdict in Verdict if labels[verdict]},
            people=Agreement.of(by_people),
            reference=None if spec is None else Agreement.of(self._against_reference(spec)),
            tokens=self._tokens,
            usd=self._usd if self._priced else None,
            times=times,
            verdicts=verdicts,
            **_announced(spec),
        )

    def _against_reference(self, spec: AnnotationSpec) -> list[tuple[Verdict, Verdict]]:
        if spec.kind is not Kind.JUDGE_ONE:
            return []
        try:
            references = read_references(built_in_path(), spec.name)
        except OnibusError:  # it is about none of the goals of the set
            return []
        found: list[tuple[Verdict, Verdict]] = []
        for one in references:
            subject = self._subjects.get(caption_id(one.caption))
            if subject is not None and subject.by_annotators and one.verdict is not Verdict.UNSURE:
                found.append((subject.by_annotators, one.verdict))
        return found

    def _over_time(self) -> tuple[list[float], dict[str, list[int]]]:
        """Points in time, and how often each verdict had been given by then."""
        if not self._times:
            return [], {}
        times = np.frombuffer(self._times, np.int64)
        order = np.argsort(times, kind="stable")
        times, codes = times[order], np.frombuffer(self._codes, np.int8)[order]
        places = np.unique(np.linspace(0, len(times) - 1, min(POINTS, len(times))).astype(int))
        given = {
            verdict.value: np.cumsum(codes == code)[places].tolist()
            for code, verdict in enumerate(self._verdicts)
            if (codes == code).any()
        }
        return [round(float(one) / 1e6, 3) for one in times[places]], given


def _announced(spec: AnnotationSpec | None) -> dict[str, Any]:
    if spec is None:
        return {}
    prompt = [f"{message.role}: {message.content}" for message in spec.messages] + [spec.template]
    return {
        "goal": spec.goal,
        "kind": spec.kind.value,
        "model": spec.model,
        "revision": spec.model_revision,
        "sampling": dict(spec.sampling),
        "prompt": "\n\n".join(prompt),
    }


def _from_json(row: dict[str, Any]) -> SpecJudging:
    kept = {name: row[name] for name in ("people", "reference")}
    agreements = {name: None if one is None else Agreement(**one) for name, one in kept.items()}
    return SpecJudging(**row | agreements | {"answers": [Answers(**one) for one in row["answers"]]})
