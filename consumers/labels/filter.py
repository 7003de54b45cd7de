"""Selects labels by spec, verdict, text, time, and who judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from onibus.consumers.labels.fold import FoldedLabel
from onibus.schemas.records import Origin
from onibus.schemas.verdict_in_force import verdict_name


@dataclass(frozen=True, slots=True)
class LabelFilter:
    """Labels must match every part that is given.

    Attributes:
        spec_ids: one of these; None: any.
        verdicts: one of these, "withdrawn" for none in force; empty: any that is in force.
        text: contained in a caption; case is ignored.
        annotator: name of the annotator or person.
        origin: kind of answer.
        since: annotated at this time or later.
        before: annotated before this time.
    """

    spec_ids: frozenset[bytes] | None = None
    verdicts: frozenset[str] = frozenset()
    text: str = ""
    annotator: str | None = None
    origin: Origin | None = None
    since: datetime | None = None
    before: datetime | None = None

    def matches(self, label: FoldedLabel) -> bool:
        """Whether the label is selected."""
        return (
            (self.spec_ids is None or label.spec_id in self.spec_ids)
            and (verdict_name(label.verdict) in self.verdicts if self.verdicts else label.verdict is not None)
            and (self.annotator is None or label.annotator == self.annotator)
            and (self.origin is None or label.origin is self.origin)
            and (self.since is None or label.annotated_at >= self.since.timestamp() * 1e6)
            and (self.before is None or label.annotated_at < self.before.timestamp() * 1e6)
            and (not self.text or self.text.casefold() in label.text.casefold())
        )

    def newest_first(self, labels: Iterable[FoldedLabel]) -> list[FoldedLabel]:
        """The selected labels, by time of annotation, then by id."""
        return sorted(filter(self.matches, labels), key=lambda label: (-label.annotated_at, label.subject_id))


def counts(labels: Iterable[FoldedLabel]) -> Counter[tuple[bytes, str, str]]:
    """Number of labels by spec id, verdict and origin, as a dry run shows it."""
    return Counter((label.spec_id, verdict_name(label.verdict), label.origin.value) for label in labels)
