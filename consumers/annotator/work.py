"""Captions that are being judged, and which answer is for which."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from onibus.consumers.annotator.asking_again import Tally
from onibus.consumers.annotator.batch import Subject
from onibus.consumers.annotator.pending import PendingCaption
from onibus.consumers.language_models.base import Answer


@dataclass(slots=True)
class Work:
    """A caption that is being judged.

    Attributes:
        assignment: in which ownership of its partition.
        missing: keys of what has no answer yet.
        again: the answers that there were already, if it is asked again; it is owed to no one then.
    """

    caption: PendingCaption
    assignment: int
    missing: set[tuple[bytes, bytes]]
    answers: list[tuple[Subject, Answer]] = field(default_factory=list)
    again: Tally | None = None


class Ticket(NamedTuple):
    """What an answer belongs to."""

    work: Work
    subject: Subject


def ticket_of(answer: Answer) -> Ticket:
    """The ticket of the question that an answer is to."""
    ticket = answer.question.ticket
    assert isinstance(ticket, Ticket)
    return ticket
