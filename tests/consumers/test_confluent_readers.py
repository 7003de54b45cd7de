"""Commands that only read, on a bus whose records are in the Confluent format."""

from __future__ import annotations

import json

from consumers.labels.writer import LabelWriter, single_change
from consumers.replay.verify_labels import verify_labels
from consumers.status import system_status
from infra.kafka import clients
from infra.kafka.codecs import codec_for
from infra.kafka.topics import TopicNames
from infra.settings import Settings, environment_of
from schemas.ids import caption_id
from schemas.records import CaptionObserved, DeadLetter
from tests.command import run_onibus
from tests.consumers.reward_models.annotation_logs import KEY_FOUND, annotation
from tests.schemas.small_registry import SmallRegistry, small_registry


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
