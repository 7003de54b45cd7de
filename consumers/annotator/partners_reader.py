"""Reads the captions that others can be compared with from the topic ``captions``.

Only the newest captions of the log, and those not for long: nothing depends on which captions are at hand
(:mod:`~onibus.consumers.annotator.comparison_partners`), so a start takes no longer for what lies before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from onibus.consumers.annotator.caption_filter import CaptionFilter
from onibus.consumers.annotator.comparison_partners import LONGEST_PARTNER, ComparisonPartners, Partner
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import decoded_quietly
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas.codec import Codec
from onibus.schemas.ids import CAPTION_ID_BYTES, caption_id
from onibus.schemas.records import AnnotationSpec, CaptionObserved

if TYPE_CHECKING:
    from onibus.consumers.annotator.model_scores import FollowedModels

NEWEST = 200_000
"""Records of all partitions together that are read at the start, in about two seconds: ten times as many as
the pool holds captions."""
LOAD_SECONDS = 10.0
"""What is not read by then is read while captions are judged."""

_RECORDS_PER_POLL = 5_000
_EVERY_SECONDS = 0.1


class PartnersReader:
    """Group-less reader: every annotator sees the captions of all, whichever partitions it owns.

    Args:
        caption_filter: captions that no spec is asked about are no partners of others, either.
        scored: specs whose reward models are followed, by id.

    Attributes:
        scores: of captions under those; None without such specs.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        pool: ComparisonPartners,
        caption_filter: CaptionFilter | None = None,
        scored: Mapping[bytes, AnnotationSpec] | None = None,
    ) -> None:
        self.scores: FollowedModels | None = None
        if scored:
            from onibus.consumers.annotator.model_scores import FollowedModels  # brings torch

            self.scores = FollowedModels(settings, scored)
        self._codec, self._partners, self._caption_filter = codec, pool, caption_filter
        self._topic = TopicNames(settings.topic_prefix).captions
        self._consumer: KafkaConsumer = clients.consumer(settings, max_poll_records=_RECORDS_PER_POLL)
        self._due = 0.0

    def load(self, stopping: threading.Event) -> None:
        """Read the :data:`NEWEST` records, for :data:`LOAD_SECONDS` at most; ``stopping`` ends it early.

        Raises:
            OnibusError: there is no such topic.
        """
        partitions = clients.partitions_of(self._consumer, self._topic)
        self._consumer.assign(partitions)
        firsts, ends = self._consumer.beginning_offsets(partitions), self._consumer.end_offsets(partitions)
        for tp in partitions:
            self._consumer.seek(tp, max(firsts[tp], ends[tp] - NEWEST // len(partitions)))
        deadline = time.monotonic() + LOAD_SECONDS
        while not stopping.is_set() and time.monotonic() < deadline and not self._has_reached(ends):
            self._poll(200)

    def follow(self) -> None:
        """Take over what has come since; called every turn, looks ten times a second."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _EVERY_SECONDS
            self._poll(0)

    def close(self) -> None:
        """Close the connections."""
        if self.scores is not None:
            self.scores.close()
        self._consumer.close(timeout_ms=1_000)

    def _has_reached(self, ends: Mapping[TopicPartition, int]) -> bool:
        return all((self._consumer.position(tp, timeout_ms=1_000) or 0) >= end for tp, end in ends.items())

    def _poll(self, timeout_ms: int) -> None:
        for records in self._consumer.poll(timeout_ms=timeout_ms).values():
            self._take(records)

    def _take(self, records: Sequence[ConsumerRecord]) -> None:
        partners = []
        for record in records:
            if not self._may_be_partner(record):
                continue
            caption = decoded_quietly(self._codec, CaptionObserved, record.value)
            if caption is None:
                continue  # its partition's owner makes a dead letter of it
            is_asked_about = self._caption_filter is None or self._caption_filter.specs(caption)
            if is_asked_about and record.key == caption_id(caption.text):
                partners.append(Partner(record.key, caption.text, record.partition, record.offset))
        self._partners.add(partners)

    def _may_be_partner(self, record: ConsumerRecord) -> bool:
        return (
            record.key is not None
            and len(record.key) == CAPTION_ID_BYTES
            and record.value is not None
            and len(record.value) <= LONGEST_PARTNER
            and self._partners.wants(record.key)
        )
