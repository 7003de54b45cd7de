"""The wire format that the settings choose, and the one policy for values that cannot be decoded.

They are skipped, counted and logged; readers beside those who do so skip them quietly. Only annotators, which
write dead letters, and readers that need every record, which refuse, do otherwise.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator
from typing import TypeVar

from kafka.consumer.fetcher import ConsumerRecord

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.clients import read_all
from onibus.infra.observability import metrics
from onibus.infra.settings import Settings
from onibus.schemas.codec import Codec, DecodeError, RegistryError, SingleObjectCodec
from onibus.schemas.records import Record

_log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)


def codec_for(settings: Settings) -> Codec:
    """The codec for these settings; share one between the threads of a process.

    Raises:
        OnibusError: the confluent format without a registry address, or no registry responds there.
    """
    if settings.wire_format == "single-object":
        return SingleObjectCodec()
    if settings.schema_registry_url is None:
        raise OnibusError(
            "the confluent wire format needs a schema registry; give --schema-registry-url or "
            "ONIBUS_SCHEMA_REGISTRY_URL, or use --wire-format single-object"
        )
    return _confluent(settings, settings.schema_registry_url)


def decoded(codec: Codec, record_type: type[R], record: ConsumerRecord) -> R | None:
    """The value of ``record``; None if it cannot be decoded, which is counted and logged."""
    try:
        return codec.decode(record_type, record.value)
    except DecodeError as error:
        metrics.UNREADABLE.labels(topic=record.topic).inc()
        place = f"{record.topic}, partition {record.partition}, offset {record.offset}"
        _log.warning("unreadable record on %s: %s", place, error)
        return None


def decoded_quietly(codec: Codec, record_type: type[R], value: bytes | None) -> R | None:
    """The record; None if it cannot be decoded, which others who read the topic count and log."""
    try:
        return codec.decode(record_type, value)
    except DecodeError:
        return None


def read_decoded(
    settings: Settings, topic: str, record_type: type[R], wanted: Callable[[bytes], bool] = lambda _: True
) -> Iterator[tuple[ConsumerRecord, R]]:
    """Everything on ``topic`` so far that can be decoded, beside the records it is from.

    Args:
        wanted: whether a record with this key is decoded; one without a key has an empty one.

    Raises:
        OnibusError: as :func:`~onibus.infra.kafka.clients.read_all` and :func:`codec_for`.
    """
    codec = codec_for(settings)
    for record in (record for records in read_all(settings, topic) for record in records):
        if wanted(record.key or b"") and (value := decoded(codec, record_type, record)) is not None:
            yield record, value


def _confluent(settings: Settings, url: str) -> Codec:
    import httpx  # slow to import, and not needed for the default format

    from onibus.infra.kafka.schema_registry import ConfluentCodec, SchemaRegistry

    try:
        trust = ssl.create_default_context()
        if settings.ssl_cafile is not None:
            trust.load_verify_locations(settings.ssl_cafile)
        registry = SchemaRegistry(url, httpx.Client(timeout=5.0, verify=trust))
        registry.check()
    except RegistryError as error:
        raise OnibusError(str(error)) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise OnibusError(f"--schema-registry-url is not a URL: {error}; give http(s)://host:port") from error
    except OSError as error:
        raise OnibusError(f"cannot read the CA file {settings.ssl_cafile}: {error}") from error
    return ConfluentCodec(registry)
