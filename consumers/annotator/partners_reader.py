"""Reads the captions that others can be compared with from the topic ``captions``."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from kafka import KafkaConsumer
from kafka.consumer.fetcher import ConsumerRecord

from onibus.consumers.annotator.caption_filter import CaptionFilter
from onibus.consumers.annotator.comparison_partners import LONGEST_PARTNER, ComparisonPartners, Partner
from onibus.infra.kafka import clients
from onibus.infra.kafka.log_end import until_end
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas.codec import Codec, DecodeError
from onibus.schemas.ids import CAPTION_ID_BYTES, caption_id
from onibus.schemas.records import CaptionObserved

_RECORDS_PER_POLL = 5_000
_EVERY_SECONDS = 0.1


class PartnersReader:
    """Group-less reader: every annotator sees the captions of all, whichever partitions it owns.

    Args:
        caption_filter: captions that no spec is asked about are no partners of others, either.
    """

    def __init__(
        self,
        settings: Settings,
        codec: Codec,
        pool: ComparisonPartners,
        caption_filter: CaptionFilter | None = None,
    ) -> None:
        self._codec, self._partners, self._caption_filter = codec, pool, caption_filter
        self._topic = TopicNames(settings.topic_prefix).captions
        self._consumer: KafkaConsumer = clients.consumer(settings, max_poll_records=_RECORDS_PER_POLL)
        self._due = 0.0

    def load(self, stopping: threading.Event) -> None:
        """Read everything that is there now; ``stopping`` ends it early.

        Raises:
            OnibusError: the topic does not go on before its end.
        """
        partitions = clients.partitions_of(self._consumer, self._topic)
        for _ in until_end(self._consumer, partitions, stopping):
            self._poll(200)

    def follow(self) -> None:
        """Take over what has come since; called every turn, looks ten times a second."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _EVERY_SECONDS
            self._poll(0)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close(timeout_ms=1_000)

    def _poll(self, timeout_ms: int) -> None:
        for records in self._consumer.poll(timeout_ms=timeout_ms).values():
            self._take(records)

    def _take(self, records: Sequence[ConsumerRecord]) -> None:
        partners, since = [], []
        for record in records:
            if not self._may_be_partner(record):
                continue
            try:
                caption = self._codec.decode(CaptionObserved, record.value)
            except DecodeError:
                continue  # its partition's owner makes a dead letter of it
            is_asked_about = self._caption_filter is None or self._caption_filter.specs(
                caption.task, caption.run
            )
            if is_asked_about and record.key == caption_id(caption.text):
                partners.append(Partner(record.key, caption.text, record.partition, record.offset))
                since.append(caption.observed_at)
        self._partners.add(partners, since)

    def _may_be_partner(self, record: ConsumerRecord) -> bool:
        return (
            record.key is not None
            and len(record.key) == CAPTION_ID_BYTES
            and record.value is not None
            and len(record.value) <= LONGEST_PARTNER
            and self._partners.wants(record.key)
        )
