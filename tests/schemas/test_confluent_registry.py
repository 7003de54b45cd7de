"""The Confluent wire format with a real schema registry and, once, a real broker."""

from __future__ import annotations

import copy
import json
import uuid
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from onibus.infra.errors import OnibusError
from onibus.infra.kafka.clients import consumer, producer, read_all
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.schema_registry import HEADER_BYTES, ConfluentCodec, SchemaRegistry
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings, load_settings
from onibus.producers.publishing.kafka_sender import Publisher
from onibus.producers.publishing.outbox import Outgoing
from onibus.schemas import codec
from onibus.schemas.avro_body import schema_document
from onibus.schemas.codec import DecodeError, RegistryError, SingleObjectCodec
from onibus.schemas.ids import caption_id
from onibus.schemas.records import CaptionObserved, DeadLetter, Label, Record, Verdict
from tests.schemas.made_records import RECORD_TYPES, records

pytestmark = pytest.mark.slow  # the registry is 160 MB to fetch and seconds to start

LABEL = Label(Verdict.HELPFUL, 3, 41, 1_700_000_000_000_000, 1_700_000_000_250_000, "a1")


@pytest.fixture
def topic() -> str:
    return f"labels-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def with_registry(registry_url: str) -> ConfluentCodec:
    return ConfluentCodec(SchemaRegistry(registry_url))


@pytest.mark.parametrize("record_type", RECORD_TYPES, ids=lambda t: t.__name__)
@given(data=st.data())
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_a_record_survives(
    with_registry: ConfluentCodec, record_type: type[Record], data: st.DataObject
) -> None:
    record = data.draw(records(record_type))
    value = with_registry.encode(record_type.__name__, record)
    assert with_registry.decode(record_type, value) == record
    assert value[HEADER_BYTES:] == codec.encode(record)[codec.HEADER_BYTES :]
    assert with_registry.header_of(record_type, value) == value[:HEADER_BYTES]


def test_another_process_reads_by_the_id_in_the_value_alone(
    registry_url: str, with_registry: ConfluentCodec, topic: str
) -> None:
    value = with_registry.encode(topic, LABEL)
    reader = ConfluentCodec(SchemaRegistry(registry_url))
    assert reader.decode(Label, value) == LABEL


def test_the_registry_has_the_schema_under_the_topic_with_docs_and_times(
    registry_url: str, with_registry: ConfluentCodec, topic: str
) -> None:
    value = with_registry.encode(topic, LABEL)
    registered = httpx.get(f"{registry_url}/subjects/{topic}-value/versions/latest").json()
    assert registered["id"] == int.from_bytes(value[1:HEADER_BYTES], "big")
    assert json.loads(registered["schema"]) == schema_document(Label)


def test_registering_again_makes_no_new_version(registry_url: str, topic: str) -> None:
    values = {ConfluentCodec(SchemaRegistry(registry_url)).encode(topic, LABEL) for _ in range(3)}
    assert len(values) == 1
    assert httpx.get(f"{registry_url}/subjects/{topic}-value/versions").json() == [1]


def test_a_newer_writers_value_is_read_although_its_schema_was_not_archived(
    registry_url: str, with_registry: ConfluentCodec, topic: str
) -> None:
    newer: dict[str, Any] = copy.deepcopy(dict(schema_document(Label)))
    newer["fields"].append({"name": "added", "type": "string", "default": "none", "doc": "New."})
    new_id = SchemaRegistry(registry_url).register(f"{topic}-value", newer)
    value = b"\x00" + new_id.to_bytes(4, "big") + codec.encode(LABEL)[codec.HEADER_BYTES :] + b"\x06new"
    assert with_registry.decode(Label, value) == LABEL


def test_an_incompatible_schema_is_refused_in_one_line(
    registry_url: str, with_registry: ConfluentCodec, topic: str
) -> None:
    SchemaRegistry(registry_url).register(f"{topic}-value", schema_document(DeadLetter))
    rule = {"compatibility": "FULL"}
    assert httpx.put(f"{registry_url}/config/{topic}-value", json=rule).status_code == httpx.codes.OK
    with pytest.raises(
        RegistryError, match=rf"refuses the schema for subject {topic}-value: status 409"
    ) as caught:
        with_registry.encode(topic, LABEL)
    assert "\n" not in str(caught.value)


def test_broken_bytes_raise_only_decode_errors(with_registry: ConfluentCodec, topic: str) -> None:
    value = with_registry.encode(topic, LABEL)
    unknown_id = b"\x00\x7f\xff\xff\xff" + value[HEADER_BYTES:]
    broken = [None, b"", b"\x01" + value[1:], unknown_id, value + b"x", codec.encode(LABEL)]
    broken += [value[:cut] for cut in range(len(value))]
    for each in broken:
        with pytest.raises(DecodeError):
            with_registry.decode(Label, each)


def test_a_value_of_another_record_is_refused(with_registry: ConfluentCodec, topic: str) -> None:
    with pytest.raises(DecodeError, match="written as Label"):
        with_registry.decode(CaptionObserved, with_registry.encode(topic, LABEL))


def test_settings_choose_the_wire_format_and_it_travels_over_kafka(
    settings: Settings, registry_url: str
) -> None:
    chosen = codec_for(settings.model_copy(update=_confluent(registry_url)))
    labels = TopicNames(settings.topic_prefix).labels
    with producer(settings) as sender:
        sender.send(labels, key=b"k" * 24, value=chosen.encode(labels, LABEL), partition=0).get(30)
    with consumer(settings, labels) as receiver:
        (received,) = (record for batch in receiver.poll(30_000).values() for record in batch)
    assert chosen.header_of(Label, received.value) == received.value[:HEADER_BYTES]
    assert chosen.decode(Label, received.value) == LABEL


def test_rollout_workers_publish_in_the_chosen_format(settings: Settings, registry_url: str) -> None:
    confluent = settings.model_copy(update=_confluent(registry_url))
    seen = CaptionObserved("You see here a key.", "score", "run", 0, 0, 0, 1, -1, 1_700_000_000_000_000)
    publisher = Publisher(confluent)
    publisher.put(Outgoing(seen, caption_id(seen.text), 100, patience=0.0, lost=lambda: None))
    assert publisher.flush(30)
    publisher.close(10)
    captions = TopicNames(settings.topic_prefix).captions
    (received,) = (record for batch in read_all(settings, captions) for record in batch)
    assert codec_for(confluent).decode(CaptionObserved, received.value) == seen


def test_settings_that_name_no_registry_end_in_one_line(registry_url: str) -> None:
    assert isinstance(codec_for(load_settings()), SingleObjectCodec)
    with pytest.raises(OnibusError, match="give --schema-registry-url"):
        codec_for(load_settings(wire_format="confluent"))
    with pytest.raises(OnibusError, match="is not a URL"):
        codec_for(load_settings(**_confluent("nonsense://x")))
    elsewhere = registry_url.replace("/ccompat/v7", "/elsewhere")
    with pytest.raises(OnibusError, match="is not a schema registry for Avro: status 404"):
        codec_for(load_settings(**_confluent(elsewhere)))


def _confluent(url: str) -> dict[str, Any]:
    return {"wire_format": "confluent", "schema_registry_url": url}
