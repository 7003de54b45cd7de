"""Commands that only read, on a bus whose records are in the Confluent format."""

from __future__ import annotations

import json

import pytest

from onibus.consumers.labels.reader import LabelReader
from onibus.consumers.labels.table import LabelTable
from onibus.consumers.labels.writer import LabelWriter, single_change
from onibus.consumers.replay.verify_labels import verify_labels
from onibus.consumers.reward_models.merged_annotations import AnnotationLog
from onibus.consumers.status import system_status
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.schema_registry import TRIES
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.kafka.transactions import OutgoingRecord
from onibus.infra.settings import Settings, environment_of
from onibus.schemas.errors import RegistryError
from onibus.schemas.ids import caption_id, label_key
from onibus.schemas.records import CaptionObserved, DeadLetter, Label, Verdict
from tests.command import run_onibus
from tests.consumers.reward_models.annotation_logs import KEY_FOUND, SPEC_ID, TEXTS, annotation
from tests.schemas.small_registry import SmallRegistry, small_registry
from tests.waiting import wait_until


def in_confluent_format(settings: Settings, registry: SmallRegistry) -> Settings:
    return settings.model_copy(update={"wire_format": "confluent", "schema_registry_url": registry.url})


def test_a_command_that_only_reads_registers_no_schema(settings: Settings) -> None:
    with small_registry() as registry:
        confluent = in_confluent_format(settings, registry)
        with LabelWriter(confluent) as writer:
            writer.write([single_change(1, annotation(KEY_FOUND))])
        prefix = settings.topic_prefix
        registered = [f"{prefix}annotations-value", f"{prefix}labels-value"]
        assert sorted(registry.subjects) == registered

        check = verify_labels(confluent)
        assert (check.labels, check.is_well) == (1, True)
        assert system_status(confluent).specs
        assert sorted(registry.subjects) == registered


def test_what_is_written_while_the_registry_is_away_is_read_when_it_is_back(settings: Settings) -> None:
    with small_registry() as registry:
        confluent = in_confluent_format(settings, registry)
        table = LabelTable(codec_for(confluent))
        labels = LabelReader(confluent, table)
        log = AnnotationLog(confluent, codec_for(confluent), SPEC_ID, {})
        labels.load()
        labels.start()
        try:
            records = four_labels(confluent)
            registry.is_away = True  # nothing was read yet, so the schemas have to be asked for
            with clients.producer(settings) as producer:
                for record in records:
                    producer.send(record.topic, record.value, record.key, partition=record.partition)
            wait_until(lambda: registry.refused >= TRIES, 60, "the reader's questions")
            with pytest.raises(RegistryError):
                taken(log)
            registry.is_away = False
            assert sorted(taken(log)) == [(partition, 0) for partition in range(4)]
            wait_until(lambda: table.count(SPEC_ID) == 4, 60, "every label")
            assert labels.failed is None
        finally:
            log.close()
            labels.stop()


def four_labels(settings: Settings) -> list[OutgoingRecord]:
    """A label and its annotation in each partition."""
    codec, names = codec_for(settings), TopicNames(settings.topic_prefix)
    records = []
    for partition, text in enumerate(TEXTS[:4]):
        one, label = annotation(text), Label(Verdict.HELPFUL, partition, 0, 1, 1, "test")
        key = label_key(one.spec_id, one.subject_id)
        for topic, value in ((names.labels, label), (names.annotations, one)):
            records.append(OutgoingRecord(topic, partition, key, codec.encode(topic, value)))
    return records


def taken(log: AnnotationLog) -> list[tuple[int, int]]:
    """Partition and offset of the annotations that come until four are there."""
    found: list[tuple[int, int]] = []
    while len(found) < 4:
        log.fill(100)
        while (record := log.next()) is not None:
            found += [record[:2]] * (record[2] is not None)
    return found


def test_dead_letters_show_their_captions(settings: Settings) -> None:
    with small_registry() as registry:
        confluent = in_confluent_format(settings, registry)
        codec, names = codec_for(confluent), TopicNames(settings.topic_prefix)
        seen = CaptionObserved(KEY_FOUND, "score", "run", 0, 0, 0, 1, -1, 1_700_000_000_000_000)
        letter = DeadLetter(
            source_topic=names.captions,
            source_partition=0,
            source_offset=0,
            component="annotator",
            reason="no verdict in 3 answers",
            attempts=3,
            spec_id=None,
            original_key=caption_id(KEY_FOUND),
            original_value=codec.encode(names.captions, seen),
            failed_at=1_700_000_000_000_000,
        )
        with clients.producer(settings) as producer:
            producer.send(names.dead_letters, codec.encode(names.dead_letters, letter)).get(30)
        listed = run_onibus(
            "dead-letters", "list", "--json", folder=settings.runs_dir, environment=environment_of(confluent)
        )
    assert listed.returncode == 0, listed.stderr
    assert [row["caption"] for row in json.loads(listed.stdout)] == [KEY_FOUND]
