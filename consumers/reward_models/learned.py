"""What a reward model has learned from, in short: its trainer goes on from there, not from the whole log.

The annotation log holds every answer of every run and specification, whole. A trainer needs of it the
verdicts under its own specification: it keeps these on ``reward-data``, in blocks, each written in the
transaction of the version that was trained on them. They are a copy, and only a trainer that starts reads it:
replay makes versions again from the log itself.

A block names the one before by its SHA-256, so blocks that do not belong together are no chain; and the chain
counts only while the log still has the last annotation of each partition where the chain says. Otherwise the
log is read from its beginning.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from hashlib import sha256
from typing import NamedTuple

from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from onibus.infra.kafka import clients
from onibus.infra.kafka.record_limits import largest_values
from onibus.infra.kafka.same_log_check import Mark, MarkCheck
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.kafka.transactions import OutgoingRecord
from onibus.infra.settings import Settings
from onibus.schemas import ids
from onibus.schemas.codec import Codec, DecodeError
from onibus.schemas.records import Annotation, LearnedAnnotation, LearnedBlock

_log = logging.getLogger(__name__)

WRITTEN_EVERY = 100_000
"""Records of the log, whoever's, after which a block is written though no version is. A start reads as many
at most, and what came meanwhile."""
_BLOCK_BYTES = 350_000
"""About; less where the topic was set to take less."""
_OVERHEAD_BYTES = 8_192
"""For names and offsets, and for one annotation more than fits."""
_ENTRY_BYTES = 64
_CHARACTERS = 256
"""Of a caption: at least as many bytes, and a model sees the first 256 of these."""
_CHECK_SECONDS = 10.0
_NO_HASH = bytes(32)


class Seen(NamedTuple):
    """A record of the annotation log as a trainer takes it."""

    partition: int
    offset: int
    annotation: Annotation


class LearnedLog:
    """The blocks of one model: those on the bus, and the one that grows.

    Args:
        blocks: values on ``reward-data`` by number; those after the first that is missing, unreadable or not
            of the chain are left out.
        block_bytes: of captions and verdicts in a block, about.
    """

    def __init__(
        self,
        codec: Codec,
        topic: str,
        model: str,
        spec_id: bytes,
        blocks: Mapping[int, bytes],
        block_bytes: int = _BLOCK_BYTES,
    ) -> None:
        self._block_bytes = block_bytes
        self._codec, self._topic, self._model, self._spec_id = codec, topic, model, spec_id
        self._hash = _NO_HASH
        self._number = 0
        self._offsets: dict[int, int] = {}
        self._newest: dict[int, LearnedAnnotation] = {}
        self._growing: list[LearnedAnnotation] = []
        self._read: list[bytes] = []
        while (value := blocks.get(self._number)) is not None and self._link(value):
            self._number += 1

    @property
    def offsets(self) -> dict[int, int]:
        """By partition the first annotation offset that no block tells of."""
        return dict(self._offsets)

    @property
    def marks(self) -> dict[int, Mark]:
        """By partition the last annotation in the blocks."""
        return {
            partition: Mark(one.offset, ids.label_key(self._spec_id, one.subject_id))
            for partition, one in self._newest.items()
        }

    def taken(self) -> Iterator[Seen]:
        """What the blocks on the bus hold, in order, as far as a model learns from it; they are forgotten."""
        blocks, self._read = self._read, []
        for value in blocks:
            for one in self._codec.decode(LearnedBlock, value).annotations:
                yield Seen(one.partition, one.offset, _annotation(one, self._spec_id))

    def add(self, partition: int, offset: int, annotation: Annotation | None) -> None:
        """The trainer has taken a record of the log; None if it is of no interest."""
        if annotation is not None and offset >= self._offsets.get(partition, 0):
            self._growing.append(_in_short(partition, offset, annotation))

    def is_due(self, offsets: Mapping[int, int]) -> bool:
        """Whether the log, read up to these offsets, has gone on so far that a block should be written."""
        return sum(offsets.values()) - sum(self._offsets.values()) >= WRITTEN_EVERY

    def cut(self, offsets: Mapping[int, int]) -> list[OutgoingRecord]:
        """Close what has grown, up to these offsets; the records to write, in order, all or none of them."""
        if not self._growing and all(self._offsets.get(p, 0) >= offset for p, offset in offsets.items()):
            return []
        growing, self._growing = self._growing, []
        *pieces, last = list(_pieces(growing, self._block_bytes)) or [[]]
        records = [self._record(piece, {}) for piece in pieces]
        return [*records, self._record(last, offsets)]

    def _record(self, annotations: Sequence[LearnedAnnotation], up_to: Mapping[int, int]) -> OutgoingRecord:
        for one in annotations:
            self._newest[one.partition] = one
        reached = [*((one.partition, one.offset + 1) for one in annotations), *up_to.items()]
        for partition, offset in reached:
            self._offsets[partition] = max(offset, self._offsets.get(partition, 0))
        offsets = {str(partition): offset for partition, offset in sorted(self._offsets.items())}
        block = LearnedBlock(self._model, self._number, self._hash, offsets, tuple(annotations))
        value = self._codec.encode(self._topic, block)
        record = OutgoingRecord(self._topic, 0, _key(self._model, self._number), value)
        self._number, self._hash = self._number + 1, sha256(value).digest()
        return record

    def _link(self, value: bytes) -> bool:
        try:
            block = self._codec.decode(LearnedBlock, value)
        except DecodeError as error:
            _log.warning("block %d of %s on %s: %s", self._number, self._model, self._topic, error)
            return False
        if block.previous != self._hash:
            return False
        self._hash = sha256(value).digest()
        self._offsets = {int(partition): offset for partition, offset in block.annotation_offsets.items()}
        self._newest |= {one.partition: one for one in block.annotations}
        self._read.append(value)
        return True


def read_learned(settings: Settings, codec: Codec, model: str, spec_id: bytes) -> LearnedLog:
    """The blocks of a model on the bus; none if the log is another than the one that they are of.

    Raises:
        OnibusError: the cluster cannot be reached, or has no such topic.
    """
    topic, blocks = TopicNames(settings.topic_prefix).reward_data, dict[int, bytes]()
    start = _key(model, "")
    for records in clients.read_all(settings, topic):
        for record in records:
            key = record.key or b""
            if key.startswith(start) and key[len(start) :].isdigit() and record.value is not None:
                blocks[int(key[len(start) :])] = record.value
    room = largest_values(settings, [topic])[topic] - _OVERHEAD_BYTES
    learned = LearnedLog(codec, topic, model, spec_id, blocks, min(room, _BLOCK_BYTES))
    if learned.offsets and not _are_of_the_log(settings, learned):
        _log.warning("%s is not of this log of annotations, which is read from its beginning", topic)
        return LearnedLog(codec, topic, model, spec_id, {}, min(room, _BLOCK_BYTES))
    return learned


def _are_of_the_log(settings: Settings, learned: LearnedLog) -> bool:
    topic, marks = TopicNames(settings.topic_prefix).annotations, learned.marks
    positions = {
        TopicPartition(topic, partition): OffsetAndMetadata(
            offset, marks[partition].text() if partition in marks else "", -1
        )
        for partition, offset in learned.offsets.items()
    }
    with closing(MarkCheck(settings)) as check, clients.consumer(settings) as reader:
        there = set(clients.partitions_of(reader, topic))
        if not there.issuperset(positions):
            return False
        ends = {tp: int(end) for tp, end in reader.end_offsets(list(positions)).items()}
        deadline, found = time.monotonic() + _CHECK_SECONDS, dict[TopicPartition, bool]()
        while len(found) < len(positions) and time.monotonic() < deadline:
            found |= check.on_log({tp: at for tp, at in positions.items() if tp not in found}, ends)
        return len(found) == len(positions) and all(found.values())


def _key(model: str, number: object) -> bytes:
    """Key on ``reward-data``."""
    return f"{model}/{number}".encode()


def _in_short(partition: int, offset: int, annotation: Annotation) -> LearnedAnnotation:
    return LearnedAnnotation(
        partition,
        offset,
        annotation.subject_id,
        tuple(text[:_CHARACTERS] for text in annotation.texts),
        annotation.verdict,
        annotation.origin,
        annotation.annotated_at,
    )


def _annotation(one: LearnedAnnotation, spec_id: bytes) -> Annotation:
    said = (one.subject_id, one.texts, one.verdict, one.origin)
    return Annotation.unasked(spec_id, *said, "", one.annotated_at, one.annotated_at)


def _pieces(annotations: Iterable[LearnedAnnotation], largest: int) -> Iterator[list[LearnedAnnotation]]:
    """In parts of about so many bytes."""
    piece: list[LearnedAnnotation] = []
    size = 0
    for one in annotations:
        piece.append(one)
        size += _ENTRY_BYTES + sum(len(text.encode()) for text in one.texts)
        if size > largest:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
