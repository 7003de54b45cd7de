"""Annotations of a file into the log of a cluster: what is there already is not written again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from onibus.consumers.labels.annotation_log_reader import AnnotationReader, LoggedAnnotation, of_specs
from onibus.consumers.labels.export import AnnotationFile
from onibus.consumers.labels.fold import FoldedLabel, LabelFold
from onibus.consumers.labels.writer import Change, LabelWriter
from onibus.consumers.specs.spec_file import import_specs
from onibus.consumers.specs.verdict_in_force import is_by_person, overrides, verdict_of
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.settings import Settings
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation

_DIGEST_BYTES = 16


@dataclass(slots=True)
class ImportPlan:
    """What an import would do.

    Attributes:
        changes: what it writes.
        there: annotations of the file that stand on the log already.
        older: annotations left out: something newer was said about their subjects here.
        labels: labels that become others, or are new.
    """

    changes: list[Change] = field(default_factory=list)
    there: int = 0
    older: int = 0
    labels: int = 0

    @property
    def annotations(self) -> int:
        """Annotations that it writes."""
        return sum(len(change.annotations) for change in self.changes)


def plan_import(settings: Settings, file: AnnotationFile) -> ImportPlan:
    """Compare a file with the log.

    An annotation that the log has, equal in every field, counts as there, as often as it is there. About a
    subject of which the log knows something newer, a file changes nothing, unless it brings a person's word
    and no person spoke here. Memory: 16 bytes and a dictionary entry an annotation, and what is new.

    Raises:
        OnibusError: log or file is not complete, or the cluster is away.
    """
    fold, known = LabelFold(), Counter[bytes]()
    with AnnotationReader(settings, codec_for(settings), of_specs(file.specs)) as reader:
        for logged in reader.read(reader.ends):
            if logged.annotation is not None:
                known[_digest(logged.annotation)] += 1
                fold.apply(logged)
    plan, new = ImportPlan(), dict[bytes, list[LoggedAnnotation]]()
    for logged in file.read(file.ends):
        assert logged.annotation is not None
        digest = _digest(logged.annotation)
        if known[digest]:
            known[digest] -= 1
            plan.there += 1
        else:
            new.setdefault(logged.annotation.spec_id + logged.annotation.subject_id, []).append(logged)
    for key, rows in new.items():
        annotations = [row.annotation for row in rows if row.annotation is not None]
        before = fold.get(*ids.split_label_key(key))
        if before is not None and _is_older(annotations, before):
            plan.older += len(annotations)
            continue
        partition = _partition(rows[0], before, file.card.partitions, settings.partitions)
        change = Change(partition, tuple(annotations), _decides(annotations, before))
        plan.changes.append(change)
        plan.labels += _changes_label(change.decides, before)
    return plan


def carry_out(settings: Settings, file: AnnotationFile, plan: ImportPlan) -> None:
    """Announce the file's specifications, then write what was planned.

    Raises:
        OnibusError: the cluster does not take it; given again, the import goes on where it ended.
    """
    import_specs(settings, list(file.specs.values()))
    with LabelWriter(settings) as writer:
        writer.write(plan.changes)


def _digest(annotation: Annotation) -> bytes:
    return blake2b(codec.encode(annotation), digest_size=_DIGEST_BYTES).digest()


def _is_older(annotations: Sequence[Annotation], before: FoldedLabel) -> bool:
    brings_person = any(map(is_by_person, annotations)) and not before.by_person
    return not brings_person and max(a.annotated_at for a in annotations) < before.annotated_at


def _decides(annotations: Sequence[Annotation], before: FoldedLabel | None) -> Annotation | None:
    by_person, decides = before is not None and before.by_person, None
    for annotation in annotations:
        if overrides(annotation, by_person):
            decides = annotation
            by_person = is_by_person(annotation)
    return decides


def _changes_label(decides: Annotation | None, before: FoldedLabel | None) -> bool:
    if decides is None:
        return False
    return verdict_of(decides) != (before.verdict if before else None)


def _partition(row: LoggedAnnotation, before: FoldedLabel | None, theirs: int, ours: int) -> int:
    """Where the caption belongs: where it is, else where it was in as many partitions, else by its id."""
    if before is not None:
        return before.partition
    assert row.annotation is not None
    if theirs == ours:
        return row.partition
    return ids.caption_partition(ids.caption_id(row.annotation.texts[0]), ours)
