"""Captions that are being judged."""

from __future__ import annotations

from dataclasses import dataclass, field

from onibus.consumers.annotator.asking_again import Tally
from onibus.consumers.annotator.batch import Subject
from onibus.consumers.annotator.pending import PendingCaption
from onibus.consumers.language_models.base import Answer


@dataclass(slots=True)
class Work:
    """A caption that is being judged.

    Attributes:
        assignment: in which ownership of its partition.
        missing: what has no answer yet, by its key.
        again: the answers that there were already, if it is asked again; it is owed to no one then.
    """

    caption: PendingCaption
    assignment: int
    missing: dict[tuple[bytes, bytes], Subject]
    answers: list[tuple[Subject, Answer]] = field(default_factory=list)
    again: Tally | None = None
