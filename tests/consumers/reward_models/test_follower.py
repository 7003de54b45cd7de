"""Versions and captions from a real broker into the learner's scores, torn and corrupt ones passed over."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from prometheus_client import REGISTRY

from onibus.consumers.reward_models.follower import ModelFollower
from onibus.consumers.reward_models.transfer import chunk_key, cut
from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.learner.rewards.score_to_reward import AboveThreshold
from onibus.learner.rewards.scores import ModelScores
from onibus.schemas import codec
from onibus.schemas.ids import caption_id, lookup_id
from onibus.schemas.records import RewardModelChunk
from tests.consumers.reward_models.annotation_logs import MODEL, SPEC_ID, SPEC_NAME
from tests.infra.kafka.test_lost_positions import create_anew
from tests.learner.rewards.test_scores import rewarding, version_file
from tests.waiting import wait_until

TEXT = "You see here a key."
ID = np.array([lookup_id(caption_id(TEXT))], np.int64)


@contextmanager
def subscriber(settings: Settings) -> Iterator[ModelScores]:
    scores = ModelScores(AboveThreshold(0.5), ranks=False)
    scores.add({int(ID[0]): TEXT})
    following = ModelFollower(settings, lambda name, _: name == SPEC_NAME, scores.take)
    following.start()
    try:
        yield scores
        assert following.failed is None
    finally:
        following.stop()


def write(settings: Settings, chunks: Iterable[RewardModelChunk]) -> None:
    topic = TopicNames(settings.topic_prefix).reward_models
    producer = clients.producer(settings)
    for chunk in chunks:
        producer.send(topic, key=chunk_key(chunk), value=codec.encode(chunk))
    producer.flush()
    producer.close()


def chunks_of(number: int, says: float, pieces: int = 3) -> list[RewardModelChunk]:
    """A version in so many chunks."""
    file = version_file(number, says)
    (whole, *_) = cut(MODEL, number, file.data)
    size = -(-len(file.data) // pieces)
    return [
        replace(whole, chunk=k, chunks=pieces, data=file.data[k * size : (k + 1) * size])
        for k in range(pieces)
    ]


def version_in_use(scores: ModelScores) -> int:
    model = scores.in_use(SPEC_ID)
    return 0 if model is None else model.version


def refused(reason: str) -> float:
    return REGISTRY.get_sample_value("onibus_models_refused_total", {"reason": reason}) or 0.0


def test_of_many_versions_one_is_taken_per_second_and_the_last_one_in_the_end(settings: Settings) -> None:
    taken: list[int] = []
    following = ModelFollower(settings, lambda *_: True, lambda _, whole, __: taken.append(whole.version))
    began = time.monotonic()
    following.start()
    try:
        for number in range(1, 31):
            write(settings, chunks_of(number, 9.0))
        wait_until(lambda: taken[-1:] == [30], 30, "the last one")
    finally:
        following.stop()
    assert taken == sorted(taken)
    assert len(taken) <= 1 + (time.monotonic() - began)


def test_versions_that_interleave_or_are_torn_or_corrupt_do_no_harm(settings: Settings) -> None:
    torn, corrupt = refused("torn"), refused("corrupt")
    one, two = chunks_of(1, 9.0), chunks_of(2, -9.0)
    with subscriber(settings) as scores:
        write(settings, [one[0], two[0], one[1], two[1], one[2]])
        wait_until(lambda: version_in_use(scores) == 1, 30, "the first version, though the second began")
        wait_until(lambda: rewarding(scores, ID) == [True], 30, "its verdict")
        write(settings, [two[2]])
        wait_until(lambda: rewarding(scores, ID) == [False], 30, "the second's verdict")
        bad = chunks_of(4, 9.0)
        write(settings, chunks_of(3, 9.0)[:2])
        write(settings, [replace(bad[0], data=bytes(len(bad[0].data))), *bad[1:]])
        write(settings, chunks_of(5, 9.0))
        wait_until(lambda: version_in_use(scores) == 5, 30, "the version after them")
        wait_until(lambda: refused("corrupt") == corrupt + 1, 30, "the corrupt one counted")
        wait_until(lambda: refused("torn") == torn + 1, 30, "the torn one counted")


def test_other_models_and_unreadable_records_are_passed_over(settings: Settings) -> None:
    topic = TopicNames(settings.topic_prefix).reward_models
    producer = clients.producer(settings)
    for key in (b"", b"no model", b"\xff\xfe/0", f"{MODEL}/0".encode()):
        producer.send(topic, key=key, value=b"nonsense")
    producer.send(topic, key=f"{MODEL}/1".encode(), value=None)
    producer.flush()
    producer.close()
    write(settings, [replace(c, model=f"other-{SPEC_ID.hex()}") for c in chunks_of(9, 9.0)])
    write(settings, chunks_of(1, 9.0))
    with subscriber(settings) as scores:
        wait_until(lambda: version_in_use(scores) == 1, 30, "the one that is ours")


def test_versions_of_a_topic_that_was_created_anew_are_taken(settings: Settings) -> None:
    with subscriber(settings) as scores:
        for number in (1, 2, 3):
            write(settings, chunks_of(number, 9.0))
        wait_until(lambda: version_in_use(scores) == 3, 30, "version 3")
        create_anew(settings, TopicNames(settings.topic_prefix).reward_models)
        write(settings, chunks_of(1, -9.0))
        wait_until(lambda: version_in_use(scores) == 1, 60, "the new version 1")
