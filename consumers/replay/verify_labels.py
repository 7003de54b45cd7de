"""Compares the label topic with the labels that follow from the annotation log: they must be the same."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from onibus.consumers.labels.as_of import labels_as_of
from onibus.consumers.labels.table import VERDICT_CODES, LabelTable
from onibus.infra.kafka.clients import read_all
from onibus.infra.kafka.codecs import codec_for, decoded_quietly
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas import ids
from onibus.schemas.records import Label, Verdict

_CLOCKS_APART_MS = 1_000
"""A label whose annotation was written after reading began, or this shortly before, may not be there yet."""


@dataclass(slots=True)
class Difference:
    """A label on which topic and log differ; None: no label."""

    spec_id: bytes
    subject_id: bytes
    on_topic: Verdict | None
    by_log: Verdict | None


@dataclass(slots=True)
class LabelCheck:
    """The result of comparing the label topic, and the label table, with the annotation log.

    Attributes:
        labels: number in force according to the log.
        annotations: number read.
        changing: labels that differed, but were written during the comparison.
        table_differs: look-ups in a label table that differ from the topic.
        unreadable: records on the label topic that are not labels.
    """

    labels: int = 0
    annotations: int = 0
    changing: int = 0
    table_differs: int = 0
    unreadable: int = 0
    differences: list[Difference] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Whether all three agree."""
        return not (self.differences or self.table_differs or self.unreadable)

    @property
    def line(self) -> str:
        """The result in a line."""
        if self.is_well:
            return f"labels: all {self.labels:,} agree with {self.annotations:,} annotations"
        return (
            f"labels: {len(self.differences):,} of {self.labels:,} differ from {self.annotations:,} "
            f"annotations, {self.table_differs:,} look-ups differ, {self.unreadable:,} records cannot be read"
        )


def verify_labels(settings: Settings) -> LabelCheck:
    """Read and compare both topics. Labels are read first, so that the annotation of each is on the log.

    Raises:
        OnibusError: the annotation log is incomplete, or the cluster cannot be reached.
    """
    began = time.time_ns() // 1_000_000
    check, table = LabelCheck(), LabelTable(codec_for(settings))
    on_topic = _read_topic(settings, table, check)
    check.table_differs = _table_differs(table, on_topic)
    fold = labels_as_of(settings, None)
    check.annotations = fold.annotations
    check.labels = sum(label.verdict is not None for label in fold)
    for label in fold:
        found = on_topic.pop(ids.label_key(label.spec_id, label.subject_id), None)
        if found is label.verdict:
            continue
        if label.written_at >= began - _CLOCKS_APART_MS:
            check.changing += 1
        else:
            check.differences.append(Difference(label.spec_id, label.subject_id, found, label.verdict))
    for key, verdict in on_topic.items():  # those that are not on the log
        check.differences.append(Difference(*ids.split_label_key(key), verdict, None))
    return check


def _read_topic(settings: Settings, table: LabelTable, check: LabelCheck) -> dict[bytes, Verdict]:
    """The verdict of each key; the same records are applied to the table."""
    codec, verdicts = codec_for(settings), dict[bytes, Verdict]()
    for records in read_all(settings, TopicNames(settings.topic_prefix).labels):
        table.apply([r.key for r in records], [r.value for r in records])
        for record in records:
            if record.key is None or len(record.key) != ids.LABEL_KEY_BYTES:
                check.unreadable += 1
            elif record.value is None:
                verdicts.pop(record.key, None)
            elif (label := decoded_quietly(codec, Label, record.value)) is None:
                check.unreadable += 1
            else:
                verdicts[record.key] = label.verdict
    return verdicts


def _table_differs(table: LabelTable, on_topic: Mapping[bytes, Verdict]) -> int:
    """Number of labels for which a learner's look-up differs from the topic."""
    by_spec: dict[bytes, list[tuple[int, Verdict]]] = {}
    for key, verdict in on_topic.items():
        spec_id, subject_id = ids.split_label_key(key)
        by_spec.setdefault(spec_id, []).append((ids.lookup_id(subject_id), verdict))
    differing = abs(sum(table.count(spec_id) for spec_id in table.specs()) - len(on_topic))
    for spec_id, labels in by_spec.items():
        looked_up = np.array([lookup_id for lookup_id, _ in labels], np.int64)
        expected = np.array([VERDICT_CODES[verdict] for _, verdict in labels], np.int8)
        differing += int(np.count_nonzero(table.verdicts(spec_id, looked_up) != expected))
    return differing
