"""Takes back what a person did to a label last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onibus.consumers.labels.corrections import CorrectedSubject, annotation_by
from onibus.consumers.labels.writer import Change, single_change
from onibus.schemas.records import Annotation, Origin
from onibus.schemas.verdict_in_force import is_by_person, overrides

NOTE = "undone"


def undo(subject: CorrectedSubject, history: Sequence[Annotation], person: str, now: int) -> Change | None:
    """Puts in force again what was before the last correction or withdrawal; None where there was none.

    An annotator's verdict comes back as a copy of its answer, after a withdrawal of the person's: so no one
    is taken to have agreed with it. The copy costs nothing and is in no latency. Undone twice, the correction
    is in force again.

    Args:
        history: all annotations of the subject under one spec, in the order of the log.
        now: microseconds since the epoch.
    """
    by_people = (Origin.HUMAN, Origin.WITHDRAWAL)
    last = next((n for n in reversed(range(len(history))) if history[n].origin in by_people), None)
    if last is None:
        return None
    before = _in_force(history[:last])
    return _change(subject, history[last].spec_id, before, person, now)


def _in_force(history: Sequence[Annotation]) -> Annotation | None:
    deciding: Annotation | None = None
    for one in history:
        if deciding is None or overrides(one, is_by_person(deciding)):
            deciding = one
    return deciding


def _change(
    subject: CorrectedSubject, spec_id: bytes, before: Annotation | None, person: str, now: int
) -> Change:
    if before is not None and is_by_person(before):
        again = annotation_by(subject, spec_id, before.verdict, Origin.HUMAN, person, NOTE, now)
        return single_change(subject.partition, again)
    withdrawal = annotation_by(subject, spec_id, None, Origin.WITHDRAWAL, person, NOTE, now)
    if before is None or before.origin is Origin.WITHDRAWAL:
        return single_change(subject.partition, withdrawal)
    copy = replace(
        before, tokens_in=0, tokens_out=0, usd=None, latency_us=0, annotated_at=now, was_waiting=True
    )
    return Change(subject.partition, (withdrawal, copy), copy)
