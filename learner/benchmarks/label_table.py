"""The label table: memory a label, and load rate beside a bare kafka-python consumer of the same records."""

from __future__ import annotations

import gc
import statistics

import psutil

from onibus.consumers.labels.reader import LabelReader
from onibus.consumers.labels.table import LabelTable
from onibus.infra.kafka.clients import producer
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.learner.benchmarks.annotation_log import bare_polls, times_of
from onibus.learner.benchmarks.labels import SPEC, filled_table, label_records
from onibus.learner.benchmarks.result import Figure

ROUNDS = 3
MOST_IN_FLIGHT = 20_000


def measure_memory(labels: int) -> list[Figure]:
    """Bytes a label that a table of ``labels`` labels takes: of the process, and of its arrays alone."""
    gc.collect()
    process = psutil.Process()
    filled_table(1_000)  # what Python and NumPy take once is not the table's
    before = process.memory_info().rss
    table, ids = filled_table(labels)
    gc.collect()
    taken = process.memory_info().rss - before - ids.nbytes
    return [
        Figure.at_most(f"memory of {labels:,} labels, arrays", table.nbytes / labels, "bytes a label", 40),
        Figure(f"memory of {labels:,} labels, growth of the process", taken / labels, "bytes a label"),
    ]


def measure_load(settings: Settings, labels: int) -> list[Figure]:
    """Labels a second from a broker, and the ratio to a bare consumer's records a second, in turn."""
    _publish(settings, labels)
    bare, ours = [], []
    for _ in range(ROUNDS):
        bare.append(labels / times_of(lambda: _read_bare(settings))[0])
        ours.append(labels / times_of(lambda: _load(settings, labels))[0])
    ratio = statistics.median(o / b for o, b in zip(ours, bare, strict=True))
    return [
        Figure("bare kafka-python consumer", statistics.median(bare), "records/s"),
        Figure("label table, loading", statistics.median(ours), "labels/s"),
        Figure.at_least("label table ÷ bare consumer", ratio, "ratio", 0.8),
    ]


def _publish(settings: Settings, labels: int) -> None:
    topic = TopicNames(settings.topic_prefix).labels
    with producer(settings) as out:
        sent = 0
        for keys, values in label_records(labels):
            for key, value in zip(keys, values, strict=True):
                out.send(topic, value, key=key, partition=sent % settings.partitions)
                sent += 1
            if sent % MOST_IN_FLIGHT == 0:
                out.flush()
        out.flush()


def _read_bare(settings: Settings) -> None:
    for _ in bare_polls(settings, TopicNames(settings.topic_prefix).labels):
        pass


def _load(settings: Settings, labels: int) -> None:
    table = LabelTable()
    reader = LabelReader(settings, table)
    reader.load()
    reader.stop()
    assert table.count(SPEC) == labels, "every label must have arrived"
