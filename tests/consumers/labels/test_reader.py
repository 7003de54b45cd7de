"""The label table fed from a real broker: loaded by positions, followed, through compaction and outages."""

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from onibus.consumers.labels.reader import LabelReader
from onibus.consumers.labels.table import HELPFUL, UNHELPFUL, LabelTable
from onibus.infra.broker import BrokerOptions, start_broker, stop_broker
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.settings import Settings, load_settings
from onibus.schemas import codec, ids
from onibus.schemas.records import Label, Verdict
from tests.ports import free_port
from tests.waiting import wait_until

SPEC = b"testspec"


def subject(number: int) -> bytes:
    return ids.caption_id(f"caption {number}")


def label(verdict: Verdict) -> bytes:
    return codec.encode(Label(verdict, 0, 0, 1, time.time_ns() // 1000, "a"))


def write(settings: Settings, labels: Iterable[tuple[int, Verdict | None]]) -> None:
    """Labels of numbered subjects onto the topic, in the given order."""
    producer = clients.producer(settings)
    for number, verdict in labels:
        producer.send(
            settings.topic_prefix + "labels",
            key=ids.label_key(SPEC, subject(number)),
            value=None if verdict is None else label(verdict),
            partition=number % settings.partitions,
        )
    producer.flush()
    producer.close()


def verdicts(table: LabelTable, count: int) -> list[int]:
    wanted = np.array([ids.lookup_id(subject(n)) for n in range(count)], np.int64)
    return table.verdicts(SPEC, wanted).tolist()


def loaded(settings: Settings) -> tuple[LabelTable, int]:
    table = LabelTable()
    reader = LabelReader(settings, table)
    read = reader.load(timeout=30)
    reader.stop()
    return table, read


def test_loads_existing_labels_then_follows(settings: Settings) -> None:
    write(settings, [(n, Verdict.HELPFUL) for n in range(100)] + [(7, None), (8, Verdict.UNHELPFUL)])
    table = LabelTable()
    reader = LabelReader(settings, table)
    assert reader.load(timeout=30) == 102
    assert reader.loaded
    assert verdicts(table, 9) == [HELPFUL] * 7 + [0, UNHELPFUL]
    reader.start()
    write(settings, [(7, Verdict.HELPFUL), (0, None)])
    wait_until(lambda: verdicts(table, 8) == [0] + [HELPFUL] * 7, 20, "the new labels")
    reader.stop()
    assert reader.failed is None


def test_an_empty_topic_is_loaded_at_once(settings: Settings) -> None:
    table, read = loaded(settings)
    assert (read, table.specs()) == (0, [])


def test_uncommitted_records_do_not_count_and_aborted_transactions_do_not_block(
    settings: Settings,
) -> None:
    """The log ends with aborted records and a control record: no record to wait for has the last offset."""
    topic = settings.topic_prefix + "labels"
    producer = clients.transactional_producer(settings, settings.topic_prefix + "t")
    producer.init_transactions()
    for verdict, commits in [(Verdict.HELPFUL, True), (Verdict.UNHELPFUL, False)]:
        producer.begin_transaction()
        for n in range(8):
            key = ids.label_key(SPEC, subject(n))
            producer.send(topic, key=key, value=label(verdict), partition=n % settings.partitions)
        producer.flush()
        producer.commit_transaction() if commits else producer.abort_transaction()
    producer.close()
    table, read = loaded(settings)
    assert read == 8
    assert verdicts(table, 8) == [HELPFUL] * 8


def test_unreadable_records_are_counted_and_the_rest_is_loaded(settings: Settings) -> None:
    producer = clients.producer(settings)
    for key, value in [(b"x", b"y"), (bytes(24), b"z"), (b"no value", None)]:
        producer.send(settings.topic_prefix + "labels", key=key, value=value, partition=0)
    producer.flush()
    producer.close()
    write(settings, [(n, Verdict.HELPFUL) for n in range(5)])
    table, read = loaded(settings)
    assert read == 8
    assert table.count(SPEC) == 5


def test_a_table_from_the_compacted_log_equals_the_one_that_saw_everything(settings: Settings) -> None:
    topic = settings.topic_prefix + "labels"
    eager = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
    with clients.admin(settings) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, eager)])
    everything = LabelTable()
    follower = LabelReader(settings, everything)
    follower.load(timeout=30)
    follower.start()
    rng = np.random.default_rng(3)
    choices = [Verdict.HELPFUL, Verdict.UNHELPFUL, Verdict.UNSURE, None]
    history = [(int(n), choices[rng.integers(4)]) for n in rng.integers(0, 200, 5_000)]
    write(settings, history)
    written = len(history)

    def compacted() -> bool:
        nonlocal written
        write(settings, [(n, Verdict.HELPFUL) for n in range(200, 204)])  # lets the last segments roll
        written += 4
        return sum(map(len, clients.read_all(settings, topic))) < written // 4

    wait_until(compacted, 60, "compaction", interval=0.3)
    fresh, read = loaded(settings)
    assert read < written // 4
    wait_until(lambda: verdicts(everything, 204) == verdicts(fresh, 204), 20, "the follower to catch up")
    last = dict(history)
    assert fresh.count(SPEC) == everything.count(SPEC) == 4 + sum(v is not None for v in last.values())
    follower.stop()


def test_a_missing_topic_is_one_clear_line(settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"topic_prefix": "nothing-there."})
    with pytest.raises(OnibusError, match=r"nothing-there.labels does not exist, .* onibus topics create"):
        LabelReader(elsewhere, LabelTable()).load(timeout=5)


@pytest.mark.slow
def test_following_continues_after_an_outage_of_the_broker(tmp_path: Path) -> None:
    options = BrokerOptions(tmp_path / "broker", port=free_port())
    running = start_broker(options)
    try:
        settings = load_settings(**running.client_settings(), partitions=2, runs_dir=tmp_path)
        create_topics(settings)
        write(settings, [(0, Verdict.HELPFUL)])
        table = LabelTable()
        reader = LabelReader(settings, table)
        reader.load(timeout=30)
        reader.start()
        stop_broker(tmp_path / "broker")
        assert verdicts(table, 1) == [HELPFUL]
        start_broker(options)
        write(settings, [(1, Verdict.UNHELPFUL), (0, None)])
        wait_until(lambda: verdicts(table, 2) == [0, UNHELPFUL], 60, "labels written after the outage")
        reader.stop()
        assert reader.failed is None
    finally:
        stop_broker(tmp_path / "broker")
