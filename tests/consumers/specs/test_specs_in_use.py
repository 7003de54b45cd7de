"""Of several specs with one name, the one that was announced last is in use, whatever the clocks say."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from onibus.consumers.reward_models.run import _announced
from onibus.consumers.specs.choice import spec_in_use
from onibus.consumers.specs.known_specs import KnownSpecs
from onibus.consumers.specs.spec_file import (
    announced_specs,
    import_specs,
    load_spec,
    publish_specs,
    read_specs,
)
from onibus.infra.kafka import clients
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings
from onibus.learner.options import LearnOptions, make_options
from onibus.learner.rewards import source as reward_source
from onibus.learner.rewards.source import RewardSource
from onibus.learner.run_files.specs import found_specs, keep_specs
from onibus.schemas import codec, ids
from tests.waiting import wait_until

RULES = load_spec("goals")
MODEL = load_spec("goals", "some-model")
RULES_ID, MODEL_ID = ids.spec_id(RULES), ids.spec_id(MODEL)


def announce_in_turn(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's annotator, the rules' with a clock an hour ahead, and the model's again."""
    publish_specs(settings, [MODEL])
    now = time.time_ns
    with monkeypatch.context() as clock:
        clock.setattr(time, "time_ns", lambda: now() + 3_600_000_000_000)
        publish_specs(settings, [RULES])
    publish_specs(settings, [MODEL])


def test_an_annotator_that_starts_again_has_its_spec_in_use_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    announce_in_turn(settings, monkeypatch)
    specs = read_specs(settings)
    assert list(specs) == [RULES_ID, MODEL_ID]
    assert specs[MODEL_ID].created_at < specs[RULES_ID].created_at, "the first time of publication stays"
    assert spec_in_use(specs, "goals") == MODEL_ID

    caplog.set_level(logging.INFO)
    found = _announced(settings, "goals", threading.Event())
    assert found is not None
    assert found[0] == MODEL_ID
    line = (
        f"spec goals is {MODEL_ID.hex()} (model some-model), announced last; "
        f"of the same name: {RULES_ID.hex()} (model rules); "
        "choose one with --spec goals@ID or --spec goals@MODEL"
    )
    assert line in caplog.messages
    caplog.clear()
    known = KnownSpecs.read(settings)
    assert known.newest("goals") == known.newest("goals") == MODEL_ID
    assert caplog.messages.count(line) == 1, "replay says it, once"


def options_with(choice: str) -> LearnOptions:
    return make_options("score", run="r", specs=[f"{choice}=0.1"])


def stands_on(source: RewardSource, folder: Path, found: dict[str, bytes]) -> bool:
    """Whether the reward stands on exactly these specs, and the run has recorded them."""
    return list(source.provenance()) == [i.hex() for i in found.values()] and found_specs(folder) == found


def test_a_learner_follows_the_spec_in_use_and_reports_another(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reward_source, "SPEC_WATCH_SECONDS", 0.2)
    announce_in_turn(settings, monkeypatch)
    caplog.set_level(logging.INFO)
    options = options_with("goals")
    source = RewardSource(settings, options, tmp_path)
    source.start()
    try:
        wait_until(lambda: MODEL_ID.hex() in source.provenance(), what="the spec in use")
        publish_specs(settings, [RULES])
        report = f"this run goes on with {MODEL_ID.hex()}"
        wait_until(lambda: any(report in line for line in caplog.messages), what="a report of the other spec")
        assert list(source.provenance()) == [MODEL_ID.hex()]
    finally:
        source.stop()
    assert sum(report in line for line in caplog.messages) == 1


@pytest.mark.parametrize(
    ("choice", "followed"),
    [("goals", MODEL_ID), ("goals@rules", RULES_ID), (f"goals@{RULES_ID.hex()[:6]}", RULES_ID)],
)
def test_a_learner_follows_the_spec_that_is_chosen(
    settings: Settings, tmp_path: Path, choice: str, followed: bytes
) -> None:
    publish_specs(settings, [RULES])
    publish_specs(settings, [MODEL])
    source = RewardSource(settings, options_with(choice), tmp_path)
    source.start()
    try:
        wait_until(partial(stands_on, source, tmp_path, {choice: followed}), what="the spec that is chosen")
    finally:
        source.stop()


def test_a_resumed_run_stays_on_its_spec_until_it_is_given_another(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep_specs(tmp_path, {"goals": RULES_ID})  # by an earlier session, before a model judged
    publish_specs(settings, [RULES])
    publish_specs(settings, [MODEL])
    caplog.set_level(logging.INFO)
    for choice, followed in (("goals", RULES_ID), ("goals@some-model", MODEL_ID)):
        source = RewardSource(settings, options_with(choice), tmp_path)
        source.start()
        try:
            wait_until(partial(stands_on, source, tmp_path, {choice: followed}), what="the run's spec")
        finally:
            source.stop()
    assert any("the run was begun with it" in line for line in caplog.messages)


def test_a_spec_that_is_in_use_already_is_not_written_again(settings: Settings) -> None:
    for _ in range(3):
        publish_specs(settings, [MODEL, load_spec("combat")])
    topic = TopicNames(settings.topic_prefix).annotation_specs
    assert sum(len(batch) for batch in clients.read_all(settings, topic)) == 2


def test_what_is_imported_is_not_in_use_unless_nothing_else_is(settings: Settings) -> None:
    import_specs(settings, [RULES])
    assert spec_in_use(read_specs(settings), "goals") == RULES_ID
    publish_specs(settings, [MODEL])
    import_specs(settings, [replace(RULES, goal="another goal"), RULES])
    assert spec_in_use(read_specs(settings), "goals") == MODEL_ID
    publish_specs(settings, [RULES])
    assert spec_in_use(read_specs(settings), "goals") == RULES_ID
    assert not announced_specs(settings)[RULES_ID].was_imported


def test_on_a_topic_with_several_partitions_the_last_announcement_decides(settings: Settings) -> None:
    topic = TopicNames(settings.topic_prefix).annotation_specs
    with clients.admin(settings) as client:
        client.create_partitions({topic: 3})
    wait_until(lambda: len(_partitions(settings, topic)) == 3, what="the partitions")
    producer = clients.producer(settings)  # an older program: the key chooses the partition
    for partition, spec in ((1, MODEL), (2, RULES)):
        producer.send(topic, key=ids.spec_id(spec), value=codec.encode(spec), partition=partition)
    producer.flush()
    producer.close()
    publish_specs(settings, [RULES])
    publish_specs(settings, [MODEL])
    assert list(read_specs(settings)) == [RULES_ID, MODEL_ID]


def _partitions(settings: Settings, topic: str) -> set[int]:
    reader = clients.consumer(settings)
    try:
        return set(reader.partitions_for_topic(topic) or ())
    finally:
        reader.close()
