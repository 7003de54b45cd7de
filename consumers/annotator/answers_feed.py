"""Feeds :class:`~onibus.consumers.annotator.asking_again.AskingAgain` from the log of answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from onibus.consumers.annotator.asking_again import AskingAgain
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import decoded_quietly
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas.codec import Codec
from onibus.schemas.ids import SPEC_ID_BYTES
from onibus.schemas.records import Annotation, AnnotationSpec

if TYPE_CHECKING:
    from onibus.consumers.annotator.model_scores import FollowedModels

_RECORDS_PER_POLL = 2_000
_EVERY_SECONDS = 0.25


class AnswersFeed:
    """Reads the annotations of the partitions that are worked on, from their beginning, and follows them.

    A little with every turn of the annotator, so that a long log keeps no caption waiting: a partition's
    captions are asked about again once all that stood there is read.

    Args:
        specs: whose answers count, by id; their reward models are followed, too.
    """

    def __init__(
        self, settings: Settings, codec: Codec, specs: Mapping[bytes, AnnotationSpec], again: AskingAgain
    ) -> None:
        from onibus.consumers.annotator.model_scores import FollowedModels  # brings torch

        self._codec, self._specs, self._again = codec, frozenset(specs), again
        self._topic = TopicNames(settings.topic_prefix).annotations
        self._consumer: KafkaConsumer = clients.consumer(settings, max_poll_records=_RECORDS_PER_POLL)
        self._begun: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._due = 0.0
        self.scores: FollowedModels = FollowedModels(settings, specs)
        again.probabilities = self.scores.probabilities

    def follow(self) -> None:
        """Take over what has come; called every turn, looks four times a second.

        Raises:
            KafkaError: the cluster does not answer.
        """
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _EVERY_SECONDS
        self._follow_ownership()
        if not self._begun:
            return
        polled = self._consumer.poll(timeout_ms=0)
        if lost := self._consumer.take_lost():
            for tp in lost:
                self._again.begin(tp.partition)
            return
        for tp, records in polled.items():
            self._take(tp.partition, records)
        for partition, end in list(self._ends.items()):
            if (self._consumer.position(self._of(partition), timeout_ms=100) or 0) >= end:
                self._again.is_complete(partition)
                del self._ends[partition]

    def close(self) -> None:
        """Close the connections."""
        self.scores.close()
        self._consumer.close(timeout_ms=1_000)

    def _follow_ownership(self) -> None:
        """Read what was begun since the last look from its beginning, and no longer what was ended."""
        owned = {number: self._again.beginnings[number] for number in self._again.partitions}
        if owned == self._begun:
            return
        new = [number for number, beginning in owned.items() if self._begun.get(number) != beginning]
        self._consumer.assign([self._of(number) for number in owned])
        partitions = [self._of(number) for number in new]
        self._ends = {number: end for number, end in self._ends.items() if number in owned}
        if partitions:
            self._consumer.seek_to_beginning(*partitions)
            ends = self._consumer.end_offsets(partitions)
            self._ends |= {tp.partition: end for tp, end in ends.items()}
        self._begun = owned

    def _take(self, partition: int, records: list[ConsumerRecord]) -> None:
        for record in records:
            if (record.key or b"")[:SPEC_ID_BYTES] not in self._specs:
                continue
            if (annotation := decoded_quietly(self._codec, Annotation, record.value)) is not None:
                self._again.apply(partition, annotation)

    def _of(self, partition: int) -> TopicPartition:
        return TopicPartition(self._topic, partition)
