"""A partition is worked on only when every label that was ever committed for it is in the table."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kafka import KafkaConsumer
from kafka.admin import KafkaAdminClient, MemberToRemove
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from onibus.consumers.annotator.group_member import GroupMember
from onibus.consumers.labels.table import LabelTable
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas import codec, ids
from onibus.schemas.records import Label, Verdict
from tests.consumers.annotating import GROUP, HeldModel, annotator, publish, rules_specs
from tests.waiting import wait_until

LABEL = codec.encode(Label(Verdict.HELPFUL, 0, 0, 1, 1, "an earlier owner"))


@contextmanager
def member(settings: Settings) -> Iterator[tuple[GroupMember, dict[int, LabelTable]]]:
    tables: dict[int, LabelTable] = {}

    def begin(partition: int, position: int, _: int, table: LabelTable) -> int:
        tables[partition] = table
        return position

    group = settings.topic_prefix + GROUP
    one = GroupMember(settings, codec_for(settings), group, 2_000, begin, tables.pop)
    try:
        yield one, tables
    finally:
        one.close()


@pytest.mark.parametrize("commits", [True, False])
def test_it_waits_for_the_end_of_a_transaction_that_is_still_open(settings: Settings, commits: bool) -> None:
    """Its records lie below the high watermark: nobody knows yet whether they count."""
    key = ids.label_key(b"testspec", ids.caption_id("x"))
    producer = clients.transactional_producer(settings, settings.topic_prefix + "earlier-owner")
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(TopicNames(settings.topic_prefix).labels, key=key, value=LABEL, partition=2)
    producer.flush()
    with member(settings) as (one, tables):

        def others_begun() -> bool:
            one.poll(timeout_ms=50)
            return set(tables) == {0, 1, 3}

        wait_until(others_begun, 30, "the partitions without an open transaction")
        for _ in range(5):
            one.poll(timeout_ms=50)
        assert set(tables) == {0, 1, 3}
        producer.commit_transaction() if commits else producer.abort_transaction()
        wait_until(lambda: one.poll(timeout_ms=50) or 2 in tables, 30, "the last partition")
        assert tables[2].contains(b"testspec", key[8:]) is commits
    producer.close()


@contextmanager
def bystander(settings: Settings) -> Iterator[KafkaConsumer]:
    """A member that wants none of the captions, and holds every rebalance up until it is polled."""
    other = clients.consumer(
        settings,
        group_id=settings.topic_prefix + GROUP,
        partition_assignment_strategy=[CooperativeStickyAssignor()],
    )
    other.topics()  # may be the leader, and share out a topic that it does not read
    other.subscribe([TopicNames(settings.topic_prefix).episodes])
    yield other
    other.close()


@contextmanager
def polled(*members: GroupMember | KafkaConsumer) -> Iterator[None]:
    """Members that poll, each in a thread of its own."""
    stopping = threading.Event()

    def poll(one: GroupMember | KafkaConsumer) -> None:
        patience_ms = 50 if isinstance(one, GroupMember) else 2_000  # of a whole join: kafka-python needs it
        while not stopping.is_set():
            one.poll(timeout_ms=patience_ms)

    threads = [threading.Thread(target=poll, args=(one,)) for one in members]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join(30)


def state_of(admin: KafkaAdminClient, group: str) -> str:
    return str(admin.describe_groups([group])[group]["group_state"])


def test_a_member_that_was_thrown_out_leaves_no_partition_with_nobody(settings: Settings) -> None:
    """It joins a rebalance together with a new member, which must get what the other had too much of."""
    with (
        member(settings) as (one, ones),
        bystander(settings) as other,
        member(settings) as (new, news),
        clients.admin(settings) as admin,
    ):
        with polled(one, other):
            wait_until(lambda: len(ones) == 4 and other.assignment(), 30, "the first two to share out")
        with polled(new):
            group = settings.topic_prefix + GROUP
            wait_until(lambda: state_of(admin, group) == "PreparingRebalance", 30, "the rebalance to begin")
            thrown_out = one._consumer.group_metadata().member_id
            admin.remove_group_members(group, [MemberToRemove(member_id=thrown_out)])
            with polled(one):
                wait_until(lambda: not ones, 30, "the first one to notice")
                with polled(other):
                    wait_until(lambda: len(ones) == len(news) == 2, 15, "every partition to have an owner")
        assert not set(ones) & set(news)


def test_a_member_that_learns_only_when_it_joins_that_it_was_thrown_out_restores_what_it_has(
    settings: Settings,
) -> None:
    """Others may have worked on it meanwhile; kafka-python tells of no loss, and goes on as its owner."""
    with member(settings) as (one, tables), clients.admin(settings) as admin:
        wait_until(lambda: one.poll(timeout_ms=50) or len(tables) == 4, 30, "every partition")
        before, member_id = dict(tables), one._consumer.group_metadata().member_id
        admin.remove_group_members(settings.topic_prefix + GROUP, [MemberToRemove(member_id=member_id)])
        one._consumer._coordinator.request_rejoin()  # before a heartbeat tells it
        begun_again = lambda: len(tables) == 4 and all(tables[p] is not before[p] for p in tables)  # noqa: E731
        wait_until(lambda: one.poll(timeout_ms=50) or begun_again(), 30, "every partition anew")
        assert one._consumer.group_metadata().member_id != member_id


def test_an_annotator_that_is_new_to_a_long_history_asks_for_none_of_it(settings: Settings) -> None:
    """Far more labels than one poll brings."""
    specs, rules = rules_specs()
    (spec_id,) = specs
    texts = [f"You see here {n} arrows." for n in range(20_000)]
    producer = clients.producer(settings)
    for text in texts:
        caption_id = ids.caption_id(text)
        partition = int.from_bytes(caption_id[8:16], "little") % settings.partitions
        key = ids.label_key(spec_id, caption_id)
        producer.send(settings.topic_prefix + "labels", key=key, value=LABEL, partition=partition)
    producer.flush()
    producer.close()
    publish(settings, texts[:500])
    counting = HeldModel(rules)
    counting.open.set()
    with annotator(settings, model=counting) as one:
        wait_until(lambda: one.process.summary.consumed == 500, 60, "the captions to be read")
        summary = one.stop()
    assert not counting.asked
    assert (summary.labels, summary.known) == (0, 500)
