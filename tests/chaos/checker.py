"""Reads all topics after a chaos run and says what is wrong. Shares no code with what it checks.

Run by itself: ``python -m tests.chaos.checker BOOTSTRAP_SERVERS TOPIC_PREFIX GROUP``.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
from kafka import KafkaConsumer, TopicPartition

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas" / "avro"
MARKER, HEADER_BYTES = b"\xc3\x01", 10
PATIENCE_SECONDS = 60.0


class Stored(NamedTuple):
    """One record of a topic."""

    partition: int
    offset: int
    key: bytes
    value: bytes | None


@dataclass
class Findings:
    """What was found. ``problems`` is empty if everything that must hold holds."""

    captions: int = 0
    labels: int = 0
    annotations: int = 0
    dead_letters: int = 0
    unsure: int = 0
    never_committed: int = 0
    problems: list[str] = field(default_factory=list)

    def expect_none(self, what: str, found: Iterable[Any]) -> None:
        """Note a problem if anything is in ``found``."""
        found = list(found)
        if found:
            self.problems.append(f"{len(found)} {what}, for example {found[0]!r}")

    def line(self) -> str:
        """All of it in a line."""
        return (
            f"{self.captions:,} captions, {self.labels:,} labels ({self.unsure:,} unsure), "
            f"{self.annotations:,} annotations, {self.dead_letters:,} dead letters, {self.never_committed:,} "
            f"label records written and never committed; {'; '.join(self.problems) or 'nothing wrong'}"
        )


def check(servers: str, prefix: str, group: str) -> Findings:
    """Look at everything that stands on the topics of ``prefix`` now; nobody may be writing."""
    found = Findings()
    found.expect_none("partitions with a transaction that stays open", open_transactions(servers, prefix))
    captions = read(servers, f"{prefix}captions")
    labels = read(servers, f"{prefix}labels")
    annotations = read(servers, f"{prefix}annotations")
    specs = {record.key for record in read(servers, f"{prefix}annotation-specs")}
    _check_labels(found, captions, labels, specs)
    _check_annotations(found, labels, annotations)
    found.dead_letters = len(read(servers, f"{prefix}dead-letters"))
    found.never_committed = len(read(servers, f"{prefix}labels", "read_uncommitted")) - len(labels)
    committed, ends = offsets(servers, f"{prefix}captions", group)
    found.expect_none(
        "partitions whose committed offset is not the end (partition, committed, end)",
        [(p, committed.get(p), end) for p, end in ends.items() if end and committed.get(p) != end],
    )
    return found


def _check_labels(found: Findings, captions: list[Stored], labels: list[Stored], specs: set[bytes]) -> None:
    texts = {(c.partition, c.offset): decoded("caption_observed", c.value)["text"] for c in captions}
    by_id = {c.key: texts[c.partition, c.offset] for c in captions}
    found.captions, found.labels = len(by_id), len(labels)
    found.expect_none(
        "captions whose key is not the hash of their text",
        (text for key, text in by_id.items() if blake2b(text.encode(), digest_size=16).digest() != key),
    )
    written = Counter(label.key for label in labels)
    found.expect_none(
        "captions without a label",
        (text for key, text in by_id.items() for spec in specs if not written[spec + key]),
    )
    found.expect_none("labels committed twice", (key.hex() for key, count in written.items() if count > 1))
    found.expect_none("labels of no caption", (key.hex() for key in written if key[8:] not in by_id))
    for label in labels:
        value = decoded("label", label.value)
        found.unsure += value["verdict"] == "unsure"
        source = value["caption_partition"], value["caption_offset"]
        if label.partition != source[0] or texts.get(source) != by_id.get(label.key[8:]):
            found.problems.append(
                f"label {label.key.hex()} names a source where its caption is not: {source}"
            )


def _check_annotations(found: Findings, labels: list[Stored], annotations: list[Stored]) -> None:
    found.annotations = len(annotations)
    attempts: dict[bytes, list[int]] = defaultdict(list)
    folded: dict[tuple[int, bytes], str] = {}
    for record in annotations:
        value = decoded("annotation", record.value)
        attempts[record.key].append(value["attempt"])
        folded[record.partition, record.key] = value["verdict"]
        if value["spec_id"] + value["subject_id"] != record.key:
            found.problems.append(f"annotation {record.key.hex()} has another key than its value")
    found.expect_none(
        "captions judged twice in what is committed (key, attempts)",
        ((key.hex(), a) for key, a in attempts.items() if sorted(a) != list(range(1, len(a) + 1))),
    )
    in_force = {(r.partition, r.key): decoded("label", r.value)["verdict"] for r in labels}
    found.expect_none(
        "labels without their annotation", (k[1].hex() for k in in_force.keys() - folded.keys())
    )
    found.expect_none(
        "annotations without their label", (k[1].hex() for k in folded.keys() - in_force.keys())
    )
    found.expect_none(
        "labels that say another thing than the log of answers",
        (k[1].hex() for k in in_force.keys() & folded.keys() if in_force[k] != folded[k]),
    )


# --- reading ------------------------------------------------------------------------------------------


def decoded(schema: str, value: bytes | None) -> dict[str, Any]:
    """The fields of a value in Avro's single-object encoding."""
    assert value is not None
    assert value[:2] == MARKER
    record = fastavro.schemaless_reader(io.BytesIO(value[HEADER_BYTES:]), _schema(schema), None)
    assert isinstance(record, dict)
    return record


def read(servers: str, topic: str, isolation: str = "read_committed") -> list[Stored]:
    """Everything on a topic, in the order of its partitions' logs."""
    consumer, partitions = _reader(servers, topic, isolation)
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    ends = consumer.end_offsets(partitions)
    found: list[Stored] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(consumer.position(tp) < end for tp, end in ends.items()):
        assert time.monotonic() < deadline, f"{topic} could not be read to its end"
        for records in consumer.poll(timeout_ms=500, max_records=5_000).values():
            found += [Stored(r.partition, r.offset, r.key, r.value) for r in records]
    consumer.close()
    return found


def offsets(servers: str, topic: str, group: str) -> tuple[dict[int, int], dict[int, int]]:
    """What a group has committed, and the ends, by partition."""
    consumer, partitions = _reader(servers, topic, "read_committed", group)
    committed = {tp.partition: consumer.committed(tp) for tp in partitions}
    ends = {tp.partition: end for tp, end in consumer.end_offsets(partitions).items()}
    consumer.close()
    return {p: offset for p, offset in committed.items() if offset is not None}, ends


def lag(servers: str, prefix: str, group: str) -> int:
    """Captions that the group has not got behind it."""
    committed, ends = offsets(servers, f"{prefix}captions", group)
    return sum(end - committed.get(partition, 0) for partition, end in ends.items())


def open_transactions(servers: str, prefix: str) -> list[str]:
    """Partitions whose last stable offset is below the end; the brokers abort what is left within seconds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = []
        for name in ("labels", "annotations", "dead-letters"):
            stable, ends = (_ends(servers, prefix + name, i) for i in ("read_committed", "read_uncommitted"))
            found += [f"{tp.topic} {tp.partition}" for tp in ends if stable[tp] != ends[tp]]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def _ends(servers: str, topic: str, isolation: str) -> dict[TopicPartition, int]:
    consumer, partitions = _reader(servers, topic, isolation)
    ends: dict[TopicPartition, int] = consumer.end_offsets(partitions)
    consumer.close()
    return ends


def _reader(
    servers: str, topic: str, isolation: str, group: str | None = None
) -> tuple[KafkaConsumer, list[TopicPartition]]:
    consumer = KafkaConsumer(
        bootstrap_servers=servers.split(","),
        group_id=group,
        isolation_level=isolation,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        allow_auto_create_topics=False,
    )
    return consumer, [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]


_PARSED: dict[str, Any] = {}


def _schema(name: str) -> Any:
    if name not in _PARSED:
        _PARSED[name] = fastavro.parse_schema(json.loads((SCHEMAS / f"{name}.avsc").read_text()))
    return _PARSED[name]


if __name__ == "__main__":
    result = check(*sys.argv[1:4])
    print(result.line())
    sys.exit(bool(result.problems))
