"""What a person did last is taken back: on the label topic, in the log, and in what people agree on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.consumers.labels.corrections import CorrectedSubject
from onibus.consumers.labels.fold import LabelFold
from onibus.consumers.labels.undo import undo
from onibus.schemas.records import Annotation, Origin, Verdict
from tests.consumers.reward_models.annotation_logs import SPEC_ID, TEXTS, annotation

TEXT = TEXTS[0]
BY_RULES = replace(annotation(TEXT, Verdict.HELPFUL, at=1), tokens_in=7, usd=0.5, latency_us=9)
BY_ADA = annotation(TEXT, Verdict.UNHELPFUL, Origin.HUMAN, at=2)
WITHDRAWN = annotation(TEXT, origin=Origin.WITHDRAWAL, at=3)
SUBJECT = CorrectedSubject(BY_RULES.subject_id, (TEXT,), 0, 1)


def after(log: list[Annotation]) -> list[Annotation]:
    """The log after one more undoing."""
    change = undo(SUBJECT, log, "bob", log[-1].annotated_at + 10)
    assert change is not None
    assert change.decides is change.annotations[-1]
    return [*log, *change.annotations]


def in_force(log: list[Annotation]) -> tuple[Verdict | None, Origin, str]:
    label = LabelFold(LoggedAnnotation(0, n, n, one) for n, one in enumerate(log)).get(
        SPEC_ID, SUBJECT.subject_id
    )
    assert label is not None
    return label.verdict, label.origin, label.annotator


def test_an_annotator_s_verdict_comes_back_as_its_own_and_costs_nothing_again() -> None:
    log = after([BY_RULES, BY_ADA])
    assert in_force(log) == (Verdict.HELPFUL, Origin.RULES, "test")
    copy = log[-1]
    assert (copy.tokens_in, copy.usd, copy.latency_us, copy.was_waiting) == (0, None, 0, True)
    assert [one.annotator for one in log[2:]] == ["bob", "test"]


@pytest.mark.parametrize(
    ("log", "verdict"),
    [
        ([BY_RULES, BY_ADA, replace(BY_ADA, verdict=Verdict.UNSURE)], Verdict.UNHELPFUL),
        ([BY_RULES, BY_ADA, WITHDRAWN], Verdict.UNHELPFUL),
        ([BY_RULES, WITHDRAWN, replace(BY_ADA, annotated_at=4)], None),
        ([BY_ADA], None),
        ([BY_RULES, WITHDRAWN], Verdict.HELPFUL),
        ([BY_RULES, BY_ADA, replace(BY_RULES, verdict=Verdict.UNSURE)], Verdict.HELPFUL),
    ],
)
def test_what_was_in_force_before_is_in_force_again(log: list[Annotation], verdict: Verdict | None) -> None:
    assert in_force(after(log))[0] is verdict


def test_undone_twice_the_correction_is_in_force_again() -> None:
    twice = after(after([BY_RULES, BY_ADA]))
    assert in_force(twice) == (Verdict.UNHELPFUL, Origin.HUMAN, "bob")
    assert in_force(after(twice))[0] is Verdict.HELPFUL


def test_where_no_person_said_anything_there_is_nothing_to_undo() -> None:
    assert undo(SUBJECT, [BY_RULES], "bob", 5) is None
