"""Positions that are no longer on the log, which was restored, truncated, or created anew."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata
from prometheus_client import REGISTRY

from onibus.consumers.annotator.budget import GroupBudget, Limits
from onibus.consumers.annotator.counters import AnnotatorSummary
from onibus.consumers.labels.annotation_log_reader import AnnotationReader
from onibus.consumers.reward_models.loop import TrainerProcess
from onibus.consumers.reward_models.merged_annotations import AnnotationLog
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.lag import lag_of
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.schemas.records import Annotation
from tests.consumers.annotating import (
    GROUP,
    annotator,
    assert_each_exactly_once,
    caption_ends,
    committed_offsets,
    publish,
    rules_specs,
    wait_for_labels,
)
from tests.consumers.reward_models.annotation_logs import (
    HELPFUL_TEXTS,
    SPEC,
    SPEC_ID,
    SPEC_NAME,
    annotation,
    publish_annotations,
    updates,
)
from tests.waiting import wait_until

BEYOND = 500


def texts(first: int, count: int) -> list[str]:
    return [f"You see here {n} arrows." for n in range(first, first + count)]


def lost(topic: str) -> float:
    return REGISTRY.get_sample_value("onibus_positions_lost_total", {"topic": topic}) or 0.0


def annotate_all(settings: Settings, count: int) -> AnnotatorSummary:
    with annotator(settings) as running:
        wait_for_labels(settings, count)
        wait_until(lambda: committed_offsets(settings) == caption_ends(settings), 30, "the offsets", 0.1)
        return running.stop()


def create_anew(settings: Settings, *topics: str) -> None:
    with clients.admin(settings) as client:
        client.delete_topics(list(topics))

        def gone() -> bool:
            return not set(topics) & set(client.list_topics())

        wait_until(gone, 30, "the topics' deletion", interval=0.2)
    wait_until(lambda: _created(settings), 30, "the topics", interval=0.2)


def _created(settings: Settings) -> bool:
    try:
        create_topics(settings)
    except OnibusError:
        return False
    return True


def commit(settings: Settings, offsets: dict[int, OffsetAndMetadata]) -> None:
    topic = TopicNames(settings.topic_prefix).captions
    with clients.admin(settings) as client:
        client.alter_group_offsets(
            settings.topic_prefix + GROUP, {TopicPartition(topic, p): at for p, at in offsets.items()}
        )


@pytest.fixture(params=["beyond the end", "the log has grown past them"])
def restored(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """A group whose offsets are of another log, as after a disk was restored; 60 captions were never read."""
    publish(settings, texts(0, 40))
    annotate_all(settings, 40)
    publish(settings, texts(40, 60))
    ends = caption_ends(settings)
    if request.param == "beyond the end":
        commit(settings, {p: OffsetAndMetadata(end + BEYOND, "", -1) for p, end in ends.items()})
    else:
        other = f":{bytes(8).hex()}"
        commit(settings, {p: OffsetAndMetadata(end - 1, f"{end - 2}{other}", -1) for p, end in ends.items()})
    return settings


def test_an_annotator_skips_nothing_and_pays_for_nothing_twice(
    restored: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    topic = TopicNames(restored.topic_prefix).captions
    before = lost(topic)
    summary = annotate_all(restored, 100)
    assert summary.labels == 60, "what has a label is not asked about again"
    assert_each_exactly_once(restored, rules_specs()[0], texts(0, 100))
    assert lost(topic) - before == len(caption_ends(restored))
    assert "is no longer on the log" in caplog.text


def test_an_annotator_that_restarts_on_the_same_log_continues_where_it_was(settings: Settings) -> None:
    publish(settings, texts(0, 40))
    annotate_all(settings, 40)
    publish(settings, texts(40, 20))
    topic = TopicNames(settings.topic_prefix).captions
    before = lost(topic)
    assert annotate_all(settings, 60).consumed == 20
    assert lost(topic) == before


def test_a_running_annotator_notices_that_captions_are_created_anew(settings: Settings) -> None:
    topic = TopicNames(settings.topic_prefix).captions
    publish(settings, texts(0, 100))
    with annotator(settings) as running:
        wait_for_labels(settings, 100)
        create_anew(settings, topic)
        publish(settings, texts(100, 60))
        wait_for_labels(settings, 160)
        wait_until(lambda: committed_offsets(settings) == caption_ends(settings), 30, "the offsets", 0.1)
        running.stop()
    assert_each_exactly_once(settings, rules_specs()[0], texts(0, 160))


def test_a_trainer_continues_from_the_end_of_a_log_that_is_shorter(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    topic = TopicNames(settings.topic_prefix).annotations
    log = [*texts(0, 40), *HELPFUL_TEXTS]
    publish_annotations(settings, [annotation(text) for text in log])
    _train_up_to(settings, len(log))
    first = updates(settings)[-1]
    create_anew(settings, topic)
    shorter = [*HELPFUL_TEXTS, "x", "y"]
    publish_annotations(settings, [annotation(text) for text in shorter])
    _train_up_to(settings, len(shorter) + 1, [annotation("z")])
    assert "versions up to now cannot be made again by replay" in caplog.text
    assert updates(settings)[-1].version > first.version


def _train_up_to(settings: Settings, annotations: int, then: Sequence[Annotation] = ()) -> None:
    """Until a version has seen so many; ``then`` comes once the trainer has looked at the log's end."""
    topic = TopicNames(settings.topic_prefix).annotations
    stopping, before = threading.Event(), lost(topic)
    process = TrainerProcess(settings, SPEC_NAME, SPEC_ID, 0, SPEC.kind)
    thread = threading.Thread(target=process.run, args=(stopping,))

    def seen() -> bool:
        made = updates(settings)
        return bool(made) and sum(made[-1].annotation_offsets.values()) == annotations

    thread.start()
    try:
        if then:
            wait_until(lambda: lost(topic) > before, 60, "the trainer to look at the log's end")
            publish_annotations(settings, then)
        wait_until(seen, 90, "a version that has seen all", interval=0.2)
    finally:
        stopping.set()
        thread.join(30)


def test_a_running_trainer_ends_with_one_line(settings: Settings) -> None:
    topic = TopicNames(settings.topic_prefix).annotations
    publish_annotations(settings, [annotation(text) for text in texts(0, 40)])
    log = AnnotationLog(settings, codec_for(settings), SPEC_ID, {})
    try:
        read = 0
        while read < 40:
            log.fill(200)
            while log.next() is not None:
                read += 1
        create_anew(settings, topic)
        publish_annotations(settings, [annotation("x")])
        with pytest.raises(OnibusError, match="has lost what this trainer has read"):
            wait_until(lambda: log.fill(200), 60, "the loss")
    finally:
        log.close()


def test_a_budget_counts_a_log_that_was_created_anew_from_its_beginning(settings: Settings) -> None:
    topic = TopicNames(settings.topic_prefix).annotations
    publish_annotations(settings, [annotation(text) for text in texts(0, 40)])
    budget = GroupBudget(
        settings, codec_for(settings), Limits(tokens=1_000_000), {SPEC_ID: SPEC}, "other", "g"
    )
    budget.load(threading.Event())
    try:
        assert budget._spent.answers == 40
        create_anew(settings, topic)
        publish_annotations(settings, [annotation(text) for text in texts(0, 3)])

        def recounted() -> bool:
            budget.follow(threading.Event())
            return budget._spent.answers == 3

        wait_until(recounted, 60, "the new log's count")
    finally:
        budget.close()


def test_as_of_beyond_the_end_says_up_to_where_the_log_goes(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in texts(0, 40)])
    with AnnotationReader(settings) as reader:
        ends = reader.ends
        with pytest.raises(OnibusError) as raised:
            list(reader.read({p: end + (p == 1) * 7 for p, end in ends.items()}))
    left = ",".join(f"{p}:{end}" for p, end in sorted(ends.items()))
    assert str(raised.value).endswith(f"or read what is left: {left}")


@pytest.mark.parametrize(("committed", "lag"), [(None, 90), (5, 90), (10, 90), (60, 40), (100, 0), (600, 90)])
def test_the_lag_of_an_offset_that_is_not_on_the_log_is_all_of_it(committed: int | None, lag: int) -> None:
    assert lag_of(committed, 10, 100) == lag
