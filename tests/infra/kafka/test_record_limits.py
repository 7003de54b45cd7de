"""Topics that accept only smaller records than usual: models come in smaller chunks, texts are cut to fit."""

from __future__ import annotations

import random
import time

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from onibus.consumers.language_models.base import Answer, Attempt, Progress, Question
from onibus.consumers.reward_models.publisher import newest_version
from onibus.infra.kafka import clients
from onibus.infra.kafka.record_limits import largest_values
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas import codec
from onibus.schemas.records import Annotation, DeadLetter, Origin, RewardModelChunk, Verdict
from tests.consumers.annotating import annotator, publish, records, wait_for_labels
from tests.consumers.reward_models.annotation_logs import (
    MODEL,
    TEXTS,
    annotation,
    publish_annotations,
    updates,
)
from tests.consumers.reward_models.test_loop import trainer_in_a_thread
from tests.waiting import wait_until

SMALL = 100_000


@pytest.fixture
def small(settings: Settings) -> Settings:
    """Topics that take records of 100,000 bytes."""
    names = TopicNames(settings.topic_prefix)
    topics = [names.reward_models, names.reward_updates, names.annotations, names.labels, names.dead_letters]
    with clients.admin(settings) as client:
        client.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, t, {"max.message.bytes": str(SMALL)}) for t in topics]
        )
    wait_until(
        lambda: all(size < SMALL for size in largest_values(settings, topics).values()), 30, "the limits"
    )
    return settings


def test_a_reward_model_comes_in_chunks_that_its_topic_accepts(small: Settings) -> None:
    publish_annotations(small, [annotation(text) for text in TEXTS])
    with trainer_in_a_thread(small) as errors:
        wait_until(lambda: updates(small), 60, "a version")
    assert errors == []
    whole = newest_version(small, MODEL)
    assert whole is not None
    assert whole.sha256 == updates(small)[-1].weights_sha256
    newest = [
        chunk
        for record in records(small, "reward-models")
        if (chunk := codec.decode(RewardModelChunk, record.value)).version == whole.version
    ]
    assert len(newest) > len(whole.data) // SMALL
    assert max(len(chunk.data) for chunk in newest) > SMALL * 0.9, "not cut finer than it must be"


class Talkative:
    """Answers at length, and never to the point."""

    origin = Origin.LLM

    async def check(self) -> None: ...

    async def answer(self, question: Question) -> Answer:
        luck = random.Random(question.text)
        text = "".join(chr(luck.randrange(0x10000, 0x20000)) for _ in range(50_000))  # it does not compress
        attempt = Attempt(Verdict.UNSURE, text, text, bytes(16), 1, 1, 1, time.time_ns() // 1000)
        return Answer(question, Verdict.UNSURE, (attempt,), given_up="no verdict")

    def progress(self, question: Question) -> Progress:
        return Progress.SENT

    async def close(self) -> None: ...


@pytest.mark.slow
def test_long_answers_and_large_records_are_written_as_far_as_they_fit(small: Settings) -> None:
    publish(small, ["You see here a key."])
    publish(small, ["not a caption"], value=lambda _: random.Random(1).randbytes(SMALL - 2_000))
    with annotator(small, model=Talkative()) as running:
        wait_for_labels(small, 1)
        wait_until(lambda: len(records(small, "dead-letters")) == 2, 60, "the dead letters", interval=0.2)
        assert running.stop().failed_transactions == 0
    (written,) = (codec.decode(Annotation, record.value) for record in records(small, "annotations"))
    assert 10_000 < len(written.raw_answer) == len(written.reason) < 50_000
    letters = [codec.decode(DeadLetter, record.value) for record in records(small, "dead-letters")]
    assert any(letter.original_value is None and "value left out" in letter.reason for letter in letters)
