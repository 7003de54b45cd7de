"""Transactions of a group member: fenced where they must be, and nothing left over from a failed one."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import (
    CommitFailedError,
    IllegalStateError,
    InvalidProducerEpochError,
    ProducerFencedError,
)
from kafka.producer.future import FutureProduceResult, FutureRecordMetadata
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.kafka.transactions import (
    OutgoingRecord,
    TransactionFailedError,
    TransactionWriter,
    send_transaction,
    within_patience,
)
from onibus.infra.settings import Settings
from tests.consumers.annotating import GROUP, committed_offsets, records
from tests.waiting import wait_until

NEVER = threading.Event()


@pytest.fixture
def writer(settings: Settings) -> Iterator[TransactionWriter]:
    writer = TransactionWriter(settings, settings.topic_prefix + "t1")
    writer.open([TopicNames(settings.topic_prefix).labels], NEVER)
    yield writer
    writer.close()


@pytest.fixture
def member(settings: Settings) -> Iterator[KafkaConsumer]:
    topic = TopicNames(settings.topic_prefix).captions
    consumer = clients.consumer(settings, topic, group_id=settings.topic_prefix + GROUP)

    def joined() -> bool:
        consumer.poll(timeout_ms=200)
        return bool(consumer.assignment())

    wait_until(joined, 30, "the group")
    yield consumer
    consumer.close()


def batch(settings: Settings, key: bytes, partition: int) -> list[OutgoingRecord]:
    return [OutgoingRecord(TopicNames(settings.topic_prefix).labels, partition, key, b"value")]


def at(settings: Settings, partition: int, offset: int) -> dict[TopicPartition, OffsetAndMetadata]:
    tp = TopicPartition(TopicNames(settings.topic_prefix).captions, partition)
    return {tp: OffsetAndMetadata(offset, "", -1)}


def test_records_and_offsets_become_visible_together(
    settings: Settings, writer: TransactionWriter, member: KafkaConsumer
) -> None:
    writer.write(batch(settings, b"k", 2), at(settings, 2, 7), member.group_metadata()).result(NEVER)
    assert [(r.key, r.partition) for r in records(settings, "labels")] == [(b"k", 2)]
    assert committed_offsets(settings) == {2: 7}


def test_a_former_member_writes_nothing(
    settings: Settings, writer: TransactionWriter, member: KafkaConsumer
) -> None:
    """A broker accepts offsets of an unknown generation from anyone, so they must not even be sent."""
    strangers = [
        ConsumerGroupMetadata(member.group_metadata().group_id),
        member.group_metadata()._replace(generation_id=-1),
        member.group_metadata()._replace(member_id=""),
    ]
    for stranger in strangers:
        with pytest.raises(TransactionFailedError, match="no longer a member"):
            writer.write(batch(settings, b"k", 0), at(settings, 0, 7), stranger).result(NEVER)
    assert not records(settings, "labels")
    assert committed_offsets(settings) == {}


def test_offsets_of_a_failed_transaction_are_not_sent_with_the_next(
    settings: Settings, writer: TransactionWriter, member: KafkaConsumer
) -> None:
    stale = member.group_metadata()._replace(generation_id=member.group_metadata().generation_id + 5)
    with pytest.raises(TransactionFailedError) as caught:
        writer.write(batch(settings, b"stale", 0), at(settings, 0, 100), stale).result(NEVER)
    assert isinstance(caught.value.cause, CommitFailedError)
    writer.close()
    writer.open([TopicNames(settings.topic_prefix).labels], NEVER)
    writer.write(batch(settings, b"good", 1), at(settings, 1, 3), member.group_metadata()).result(NEVER)
    assert [r.key for r in records(settings, "labels")] == [b"good"]
    assert committed_offsets(settings) == {1: 3}


def test_the_second_of_one_name_fences_the_first(
    settings: Settings, writer: TransactionWriter, member: KafkaConsumer
) -> None:
    second = TransactionWriter(settings, settings.topic_prefix + "t1")
    second.open([], NEVER)
    with pytest.raises(TransactionFailedError) as caught:
        writer.write(batch(settings, b"k", 0), at(settings, 0, 1), member.group_metadata()).result(NEVER)
    assert isinstance(caught.value.cause, ProducerFencedError)
    second.close()
    assert not records(settings, "labels")


class FencedAfterOneRecord:
    """What kafka-python shows of a producer that is fenced between two records and bumps its epoch at once:
    the first record fails, and the second meets a producer that has no transaction any more."""

    def __init__(self) -> None:
        self._sent = 0

    def begin_transaction(self) -> None:
        pass

    def send(self, *_: object, **__: object) -> FutureRecordMetadata:
        self._sent += 1
        if self._sent > 1:
            raise IllegalStateError("Cannot call send in state READY")
        refused = FutureProduceResult(TopicPartition("labels", 2))
        sent = FutureRecordMetadata(refused, 0, 0, None, 0, 0, 0)
        refused.failure(InvalidProducerEpochError())
        return sent


def test_a_transaction_fenced_between_two_records_says_so_and_not_that_there_is_none(
    settings: Settings,
) -> None:
    producer: Any = FencedAfterOneRecord()
    with pytest.raises(TransactionFailedError) as failed:
        within_patience(lambda: send_transaction(producer, batch(settings, b"k", 2) * 2), NEVER)
    assert failed.value.was_fenced
