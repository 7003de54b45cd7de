"""Reads single annotations by their positions on the log."""

from __future__ import annotations

from collections.abc import Iterable

from kafka.consumer.fetcher import ConsumerRecord

from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.record_lookup import RecordLookup
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas.codec import DecodeError
from onibus.schemas.records import Annotation


class AnnotationLookup:
    """Annotations one by one; see :class:`onibus.infra.kafka.record_lookup.RecordLookup`."""

    def __init__(self, settings: Settings) -> None:
        self._codec = codec_for(settings)
        self._records = RecordLookup(settings, TopicNames(settings.topic_prefix).annotations)

    def read(self, places: Iterable[tuple[int, int]]) -> list[LoggedAnnotation]:
        """Those at these (partition, offset), in this order; those that no longer exist are left out.

        Raises:
            OnibusError: as :meth:`RecordLookup.read`.
        """
        return [self._decoded(record) for record in self._records.read(places)]

    def close(self) -> None:
        """Close the connection."""
        self._records.close()

    def _decoded(self, record: ConsumerRecord) -> LoggedAnnotation:
        try:
            annotation = self._codec.decode(Annotation, record.value)
        except DecodeError:  # readers of the whole log count and report it
            annotation = None
        return LoggedAnnotation(record.partition, record.offset, record.timestamp, annotation)
