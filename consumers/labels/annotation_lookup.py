"""Reads single annotations by their positions on the log."""

from __future__ import annotations

from collections.abc import Iterable

from onibus.consumers.labels.annotation_log_reader import LoggedAnnotation
from onibus.infra.kafka.codecs import codec_for, decoded_quietly
from onibus.infra.kafka.record_lookup import RecordLookup
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
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
        found = [(r, decoded_quietly(self._codec, Annotation, r.value)) for r in self._records.read(places)]
        return [LoggedAnnotation(r.partition, r.offset, r.timestamp, annotation) for r, annotation in found]

    def close(self) -> None:
        """Close the connection."""
        self._records.close()
