"""Imports the annotations of a file into the log of a cluster; existing ones are not written again."""

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
from onibus.infra.kafka.topic_admin import require_partitions
from onibus.infra.settings import Settings
from onibus.schemas import codec, ids
from onibus.schemas.records import Annotation
from onibus.schemas.verdict_in_force import is_by_person, overrides, verdict_of

_DIGEST_BYTES = 16


@dataclass(slots=True)
class ImportPlan:
    """What an import would do.

    Attributes:
        changes: what it writes.
        there: annotations of the file that are already on the log.
        older: annotations left out because the log has newer ones about their subjects.
        labels: labels that change, or are new.
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

    An annotation counts as already there if the log has one that is equal in every field, each of them once.
    For a subject about which the log has something newer, a file changes nothing, unless it has a person's
    verdict and the log has none. Memory: 16 bytes and a dictionary entry per annotation, and what is new.

    Raises:
        OnibusError: the log or the file is incomplete, or the cluster cannot be reached.
    """
    fold, known = LabelFold(), Counter[bytes]()
    with AnnotationReader(settings, of_specs(file.specs)) as reader:
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
        OnibusError: captions are on the bus by another number of partitions than the setting says, or the
            cluster does not accept it; repeating the import continues where it ended.
    """
    require_partitions(settings)
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
    """The caption's partition: as on the log, else as in the file if their counts match, else by its id."""
    if before is not None:
        return before.partition
    assert row.annotation is not None
    if theirs == ours:
        return row.partition
    texts = row.annotation.texts
    return ids.caption_partition(ids.leader_of(texts) or ids.caption_id(texts[0]), ours)
