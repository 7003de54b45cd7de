"""A small system on the bus and in the folder of runs, for tests of the site."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from functools import cache

from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.learner.run_files.specs import keep_specs
from onibus.producers.nethack.playback import frames
from onibus.schemas import codec, ids
from onibus.schemas.records import CaptionObserved, CaptionOffset, EpisodeFinished, RewardUpdate
from tests.consumers.reward_models.annotation_logs import (
    MODEL,
    SPEC_ID,
    SPEC_NAME,
    TEXTS,
    annotation,
    publish_annotations,
)
from tests.learner.recorded_run import recorded_run
from tests.producers.nethack.playing import Memory, environment, play

RUN = "a-run"


@cache
def recorded() -> EpisodeFinished:
    """An episode of KeyRoom by random actions."""
    memory = Memory()
    env = environment("keyroom-s5", memory, max_episode_steps=120, run=RUN)
    play(env)
    env.close()
    return memory.episodes[0]


@dataclass(frozen=True, slots=True)
class Judged:
    """A caption of the recorded episode, the step in which it came up first, and one of no episode."""

    text: str
    step: int
    elsewhere: str = TEXTS[0]


def send(settings: Settings, topic: str, key: bytes, value: bytes, partition: int = 0) -> int:
    """Put a record on a topic; its offset."""
    producer = clients.producer(settings)
    sent = producer.send(f"{settings.topic_prefix}{topic}", key=key, value=value, partition=partition)
    producer.flush()
    offset = int(sent.get(timeout=10).offset)
    producer.close()
    return offset


def make_system(settings: Settings) -> Judged:
    """A run with its episode, two judged captions, one of them the episode's, and a version of a model."""
    folder = settings.runs_dir / RUN
    folder.mkdir()
    recorded_run(folder)
    keep_specs(folder, {SPEC_NAME: SPEC_ID})
    record = recorded()
    heard = next(frame for frame in frames(record) if frame.caption is not None)
    assert heard.caption is not None
    text, caption = heard.caption, ids.caption_id(heard.caption)
    observed = CaptionObserved(
        text,
        record.task,
        RUN,
        record.worker,
        record.environment,
        record.episode,
        heard.step,
        0,
        time.time_ns() // 1000,
    )
    partition = ids.caption_partition(caption, settings.partitions)
    offset = send(settings, "captions", caption, codec.encode(observed), partition)
    send(settings, "episodes", ids.episode_key(record), codec.encode(record))
    (folder / "captions.json").write_text(json.dumps([[ids.lookup_id(caption), 12, 3.5]]))
    now = time.time_ns() // 1000
    known = replace(annotation(text, at=now), sources=(CaptionOffset(partition, offset),))
    publish_annotations(settings, [annotation(TEXTS[0], at=now - 1), known])
    update = RewardUpdate(
        MODEL, 7, "cnn", (SPEC_ID,), 1, {}, 10, 1, "2", {}, {}, bytes(32), time.time_ns() // 1000
    )
    send(settings, "reward-updates", MODEL.encode(), codec.encode(update))
    assert TopicNames(settings.topic_prefix).captions.endswith("captions")
    return Judged(text, heard.step)
