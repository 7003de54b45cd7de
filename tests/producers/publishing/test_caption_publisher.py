"""Captions go out on first sight and again after a minute, to the partition that everybody agrees on."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.consumer.fetcher import ConsumerRecord

from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.producers.nethack.environment import NetHackEnvironment
from onibus.producers.nethack.messages import MESSAGE_BYTES, CaptionTable
from onibus.producers.publishing.caption import Caption
from onibus.producers.publishing.caption_publisher import AGAIN_SECONDS, RepeatFilter, RolloutBus, process_bus
from onibus.producers.publishing.shared_bus import SharedBus
from onibus.schemas import codec
from onibus.schemas.ids import caption_id, caption_partition
from onibus.schemas.records import CaptionObserved, EpisodeFinished
from tests.producers.nethack.playing import environment, play
from tests.waiting import wait_until

SECONDS = 20.0


def caption(text: str) -> Caption:
    return CaptionTable().caption([text.encode().ljust(MESSAGE_BYTES, b"\0")])


def on_topic(settings: Settings, topic: str) -> list[ConsumerRecord]:
    return [record for records in clients.read_all(settings, topic) for record in records]


def captions_on(settings: Settings) -> list[CaptionObserved]:
    topic = TopicNames(settings.topic_prefix).captions
    return [codec.decode(CaptionObserved, record.value) for record in on_topic(settings, topic)]


@given(st.lists(st.tuples(st.integers(1, 12), st.floats(0, 45)), max_size=60))
def test_captions_are_due_on_first_sight_and_a_minute_after_the_last_time(
    sights: list[tuple[int, float]],
) -> None:
    due, last, now = RepeatFilter(), dict[int, float](), 0.0
    for lookup, pause in sights:
        now += pause
        expected = lookup not in last or now >= last[lookup] + AGAIN_SECONDS
        turn = due.turn(lookup, now)
        assert (turn is not None) is expected
        if turn is not None:
            assert turn[1] is (lookup not in last)
            last[lookup] = now


def test_a_caption_whose_record_was_lost_is_due_sooner() -> None:
    due = RepeatFilter()
    turn = due.turn(7, now=0.0)
    assert turn is not None
    assert due.turn(7, now=3.0) is None
    turn[0][0] = 2.0
    again = due.turn(7, now=3.0)
    assert again is not None
    assert again[0] is turn[0]


def test_the_filter_is_bounded_and_forgets_the_oldest() -> None:
    due = RepeatFilter(limit=100)
    for lookup in range(1000):
        assert due.turn(lookup, now=0.0) is not None
        assert len(due._due) <= 100
    assert due.turn(999, now=1.0) is None
    assert due.turn(0, now=1.0) is not None


def test_every_caption_arrives_once_with_its_id_as_key_on_the_agreed_partition(settings: Settings) -> None:
    bus = RolloutBus(settings, "some-run", "score")
    texts = [f"You see here {n} gold pieces." for n in range(200)]
    for _ in range(3):
        for step, text in enumerate(texts):
            bus.observe(caption(text), 1, 2, 3, step, 4)
    assert bus.flush(SECONDS)
    records = on_topic(settings, TopicNames(settings.topic_prefix).captions)
    assert Counter(codec.decode(CaptionObserved, r.value).text for r in records) == Counter(texts)
    for record in records:
        observed = codec.decode(CaptionObserved, record.value)
        assert record.key == caption_id(observed.text)
        assert record.partition == caption_partition(record.key, settings.partitions)
        assert (observed.run, observed.task, observed.worker, observed.environment) == (
            "some-run",
            "score",
            1,
            2,
        )
        assert (observed.episode, observed.step, observed.policy_version) == (
            3,
            texts.index(observed.text),
            4,
        )
    assert len({record.partition for record in records}) == settings.partitions
    assert (bus.captions.published, bus.captions.dropped) == (len(texts), 0)
    bus.close()


def test_partitions_are_those_of_the_second_half_of_the_id() -> None:
    assert caption_partition(bytes(8) + (1003).to_bytes(8, "little"), 16) == 1003 % 16
    assert caption_partition(b"\xff" * 8 + bytes(8), 16) == 0


def test_what_an_environment_sees_is_on_the_topics_when_it_is_closed(settings: Settings) -> None:
    bus = RolloutBus(settings, "some-run", "score")
    env = environment("score", bus, run="some-run", max_episode_steps=200)  # type: ignore[arg-type]
    last = [play(env, seed) for seed in range(3)]
    env.close()
    assert last[0].step > 0
    assert 5 < len(captions_on(settings)) == bus.captions.published
    episodes = on_topic(settings, TopicNames(settings.topic_prefix).episodes)
    assert [r.key for r in episodes] == [b"some-run/0/0/0", b"some-run/0/0/1", b"some-run/0/0/2"]
    assert [codec.decode(EpisodeFinished, r.value).steps for r in episodes] == [m.step for m in last]
    bus.close()


def test_a_process_has_one_bus_for_a_run_and_task(settings: Settings) -> None:
    assert process_bus(settings, "run", "score") is process_bus(settings, "run", "score")
    assert process_bus(settings, "run", "score") is not process_bus(settings, "run", "gold")


def _lazily_published(settings: Settings, run: str) -> NetHackEnvironment:
    env = environment("keyroom-s5", run=run, max_episode_steps=50)
    env._shared_bus = SharedBus(lambda: process_bus(settings, run, "keyroom-s5"))
    return env


def _play_in_child(env: NetHackEnvironment | None, settings: Settings, run: str) -> None:
    env = env or _lazily_published(settings, run)
    play(env)
    env.close()
    os._exit(0)  # no exit handlers: what close() did not deliver is lost


def _play_on_in_child(env: NetHackEnvironment, settings: Settings, run: str) -> None:
    play(env)
    os._exit(0 if process_bus(settings, run, "keyroom-s5").flush(SECONDS) else 1)


def test_an_environment_that_was_played_before_the_fork_publishes_after_it(settings: Settings) -> None:
    env = _lazily_published(settings, "run")
    play(env)
    child = multiprocessing.get_context("fork").Process(target=_play_on_in_child, args=(env, settings, "run"))
    child.start()
    child.join(60.0)
    assert child.exitcode == 0
    env.close()
    keys = [r.key for r in on_topic(settings, TopicNames(settings.topic_prefix).episodes)]
    assert sorted(keys) == [b"run/0/0/0", b"run/0/0/1"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_publish_although_their_parent_already_did(settings: Settings, method: str) -> None:
    run = f"run-{method}"
    env = _lazily_published(settings, run)
    play(env)
    wait_until(lambda: process_bus(settings, run, "keyroom-s5").captions.published > 0, SECONDS)
    context = multiprocessing.get_context(method)
    made_before = [_lazily_published(settings, run) if method == "fork" else None for _ in range(2)]
    children = [context.Process(target=_play_in_child, args=(m, settings, run)) for m in made_before]
    for child in children:
        child.start()
    for child in children:
        child.join(60.0)
        assert child.exitcode == 0
    play(env, seed=1)
    env.close()
    copies = Counter(record.text for record in captions_on(settings))
    assert max(copies.values()) == 3, "each process publishes what it sees for its first time"
    assert len(on_topic(settings, TopicNames(settings.topic_prefix).episodes)) == 4
