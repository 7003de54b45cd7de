"""The trainer on the bus: killed and resumed, fenced by a second one, its versions whole or not there."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from onibus.consumers.reward_models.loop import TrainerProcess
from onibus.consumers.reward_models.merged_annotations import AnnotationLog
from onibus.consumers.reward_models.model_file import read_model_file
from onibus.consumers.reward_models.transfer import Assembler
from onibus.infra.broker import BrokerOptions, start_broker, stop_broker
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.kafka.codecs import codec_for
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings, environment_of, load_settings
from onibus.schemas import codec
from onibus.schemas.records import Annotation, Kind, RewardModelChunk
from tests.command import OnibusProcess
from tests.consumers.reward_models.annotation_logs import (
    KEY_FOUND,
    MODEL,
    SPEC_ID,
    SPEC_NAME,
    TEXTS,
    UNHELPFUL_TEXTS,
    annotation,
    publish_annotations,
    updates,
    verdict_of,
)
from tests.ports import free_port
from tests.topic_time import keep_producers_time
from tests.waiting import wait_until


@contextmanager
def trainer_in_a_thread(
    settings: Settings,
    name: str = SPEC_NAME,
    spec_id: bytes = SPEC_ID,
    kind: Kind = Kind.JUDGE_ONE,
    **options: Any,
) -> Iterator[list[OnibusError]]:
    """A trainer until the block ends; what it was refused stands in the list."""
    stopping, errors = threading.Event(), []

    def run() -> None:
        try:
            TrainerProcess(settings, name, spec_id, 3, kind, **options).run(stopping)
        except OnibusError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield errors
    finally:
        stopping.set()
        thread.join(30)
        assert not thread.is_alive()


def all_trained(settings: Settings) -> bool:
    """Whether a version has seen the whole log."""
    made = updates(settings)
    return bool(made) and made[-1].metrics["labels"] == len(TEXTS)


def bits(settings: Settings) -> list[tuple[int, int, dict[str, int], bytes]]:
    return [(u.version, u.gradient_steps, u.annotation_offsets, u.weights_sha256) for u in updates(settings)]


def of_another_spec(text: str) -> Annotation:
    return replace(annotation(text), spec_id=b"another.")


@pytest.mark.slow
@pytest.mark.parametrize("data_are_there", [True, False], ids=["with its data", "of an older onibus"])
def test_a_training_killed_and_resumed_gives_the_same_bits_as_one_that_was_not(
    settings: Settings, data_are_there: bool
) -> None:
    unbroken = settings.model_copy(update={"topic_prefix": f"{settings.topic_prefix}unbroken."})
    create_topics(unbroken)
    for one in (settings, unbroken):  # the same log twice, times included
        keep_producers_time(one, TopicNames(one.topic_prefix).annotations)
    log = [make(text) for text in TEXTS for make in (of_another_spec, annotation)]
    publish_annotations(settings, log)
    publish_annotations(unbroken, log)

    killed = OnibusProcess(
        "trainer", ("train-reward", "--spec", SPEC_NAME, "--seed", "3"), settings.runs_dir / "log"
    )
    killed.start(environment_of(settings) | {"CUDA_VISIBLE_DEVICES": ""})
    wait_until(lambda: len(updates(settings)) >= 2, 200, "two versions")
    assert killed.process is not None
    killed.process.kill()
    killed.process.wait()
    assert not all_trained(settings), "it must be killed on the way"
    if not data_are_there:
        forget_data(settings)
    with trainer_in_a_thread(settings) as errors:
        wait_until(lambda: all_trained(settings), 120, "the rest of the versions")
    with trainer_in_a_thread(unbroken):
        wait_until(lambda: all_trained(unbroken), 120, "every version")
    assert not errors
    assert bits(settings) == bits(unbroken)
    assert [u.version for u in updates(settings)] == list(range(1, len(updates(settings)) + 1))


def forget_data(settings: Settings) -> None:
    """Have the bus as an onibus left it that kept no data of models."""
    topic = TopicNames(settings.topic_prefix).reward_data
    with clients.admin(settings) as client:
        client.delete_topics([topic])
        wait_until(lambda: topic not in client.list_topics(), 20, "the topic to go")
    create_topics(settings)


@pytest.fixture
def logs_read(monkeypatch: pytest.MonkeyPatch) -> list[Counter[bool]]:
    """Of each trainer from here on, how many records of the log it took: by whether they are of its spec."""
    read: list[Counter[bool]] = []

    class Counted(AnnotationLog):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.taken = Counter[bool]()
            read.append(self.taken)

        def next(self) -> tuple[int, int, Annotation | None] | None:
            if (record := super().next()) is not None:
                self.taken[record[2] is not None] += 1
            return record

    monkeypatch.setattr("onibus.consumers.reward_models.loop.AnnotationLog", Counted)
    return read


@pytest.mark.slow
def test_a_trainer_that_starts_again_reads_of_the_log_only_what_came_since(
    settings: Settings, logs_read: list[Counter[bool]]
) -> None:
    publish_annotations(settings, [of_another_spec(text) for text in TEXTS])
    publish_annotations(settings, [annotation(text) for text in TEXTS])
    with trainer_in_a_thread(settings):
        wait_until(lambda: all_trained(settings), 120, "every version")
    made = len(updates(settings))
    publish_annotations(settings, [annotation(f"{text} Again.", verdict_of(text)) for text in TEXTS[:6]])
    with trainer_in_a_thread(settings) as errors:
        wait_until(lambda: updates(settings)[-1].metrics["labels"] == len(TEXTS) + 6, 120, "a version of all")
    assert not errors
    assert len(updates(settings)) > made
    assert logs_read == [Counter({True: len(TEXTS), False: len(TEXTS)}), Counter({True: 6})]


def test_annotations_of_others_are_not_read_again_though_there_is_no_version(
    settings: Settings, logs_read: list[Counter[bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onibus.consumers.reward_models.learned.WRITTEN_EVERY", len(TEXTS))
    data = TopicNames(settings.topic_prefix).reward_data
    publish_annotations(settings, [annotation(text) for text in UNHELPFUL_TEXTS])  # nothing to tell apart
    publish_annotations(settings, [of_another_spec(text) for text in TEXTS])
    with trainer_in_a_thread(settings):
        wait_until(
            lambda: sum(map(len, clients.read_all(settings, data))) > 0, 60, "a block without a version"
        )
    publish_annotations(settings, [annotation(KEY_FOUND)])
    with trainer_in_a_thread(settings) as errors:
        wait_until(lambda: updates(settings), 60, "a version")
    assert not errors
    assert updates(settings)[0].metrics["labels"] == len(UNHELPFUL_TEXTS) + 1
    assert logs_read[1].total() < len(TEXTS)


def test_of_two_trainers_the_later_goes_on_and_the_earlier_ends_with_one_line(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:4]])
    with trainer_in_a_thread(settings) as earlier_errors:
        wait_until(lambda: len(updates(settings)) == 1, 60, "a version of the earlier one")
        with trainer_in_a_thread(settings) as later_errors:
            # The one way to see that the later one is up: it has fenced the earlier.
            for number in range(4, 40, 4):
                made = len(updates(settings))  # before: a version of these may be there at once
                publish_annotations(settings, [annotation(text) for text in TEXTS[number : number + 4]])
                wait_until(lambda made=made: len(updates(settings)) > made, 60, "another version")
                if earlier_errors:
                    break
            else:
                raise AssertionError("the earlier one was not fenced")
            assert "another trainer of reward model" in str(earlier_errors[0])
            assert "\n" not in str(earlier_errors[0])
            assert not later_errors
    made = [u.version for u in updates(settings)]
    assert made == list(range(1, len(made) + 1)), "no version twice, none left out"


def test_the_newest_version_on_the_bus_is_what_its_update_says(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:6]])
    before = time.time()
    with trainer_in_a_thread(settings):
        wait_until(lambda: updates(settings), 60, "a version")
    update = updates(settings)[0]
    assembler, whole = Assembler(), []
    for batch in clients.read_all(settings, TopicNames(settings.topic_prefix).reward_models):
        assert all(len(record.value) < 512 * 1024 for record in batch)
        whole += [assembler.add(codec.decode(RewardModelChunk, record.value)) for record in batch]
    (file,) = [w for w in whole if w is not None and w.version == update.version]
    made = read_model_file(file.data).provenance
    assert (file.model, file.sha256) == (MODEL, update.weights_sha256) == (made.model, update.weights_sha256)
    assert made.annotation_offsets == update.annotation_offsets
    assert (update.spec_ids, update.seed, update.gradient_steps) == ((SPEC_ID,), 3, 32)
    assert update.threads == 1
    assert update.trained_at / 1e6 > before
    assert sum(update.annotation_offsets.values()) <= 6


def test_metrics_never_have_an_accuracy_without_what_it_is_of(settings: Settings) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:12]])
    with trainer_in_a_thread(settings):
        wait_until(lambda: figures(settings).get("held_out_positive", 0) > 0, 60, "figures")
    told = figures(settings)
    for figure, metric in (("held_out", "captions"), ("held_out_positive", "helpful")):
        value = REGISTRY.get_sample_value(f"onibus_reward_held_out_{metric}", {"model": MODEL})
        assert value == told[figure]
    for name in ("accuracy", "balanced_accuracy", "precision", "recall"):
        if f"held_out_{name}" in told:
            value = REGISTRY.get_sample_value(f"onibus_reward_held_out_{name}", {"model": MODEL})
            assert value == told[f"held_out_{name}"]


def figures(settings: Settings) -> Mapping[str, float]:
    """Those of the newest version; it may know nothing that is helpful, if the log was not all there."""
    return updates(settings)[-1].metrics if updates(settings) else {}


def test_a_log_that_nobody_looked_at_meanwhile_is_not_taken_for_quiet(settings: Settings) -> None:
    """Training a version takes seconds, in which others write. What is new then waits for a full version."""
    publish_annotations(settings, [annotation(text) for text in TEXTS])
    log = AnnotationLog(settings, codec_for(settings), SPEC_ID, {})
    seen = [0]

    def read() -> int:
        log.fill(timeout_ms=50)
        while log.next() is not None:
            seen[0] += 1
        return seen[0]

    wait_until(lambda: read() == len(TEXTS), 30, "the whole log")
    time.sleep(0.5)  # as if a version was trained
    assert log.quiet_seconds == 0
    wait_until(lambda: read() and log.quiet_seconds > 0.5, 10, "a quiet log")
    publish_annotations(settings, [annotation(KEY_FOUND)])
    wait_until(lambda: read() > len(TEXTS), 10, "one more")
    assert log.quiet_seconds == 0
    log.close()


@pytest.mark.slow
def test_a_trainer_goes_on_after_the_broker_was_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = BrokerOptions(tmp_path / "broker", port=free_port())
    settings = load_settings(**start_broker(options).client_settings(), partitions=4, runs_dir=tmp_path)
    create_topics(settings)
    try:
        publish_annotations(settings, [annotation(text) for text in TEXTS[:6]])
        with trainer_in_a_thread(settings) as errors:
            wait_until(lambda: len(updates(settings)) == 2, 60, "a version, and one of the rest")
            stop_broker(options.data_dir)
            start_broker(options)
            publish_annotations(settings, [annotation(text) for text in TEXTS[6:12]])
            wait_until(
                lambda: updates(settings)[-1].metrics["labels"] == 12, 120, "versions after the outage"
            )
        assert not errors
        made = [u.version for u in updates(settings)]
        assert made == list(range(1, len(made) + 1)), "no version twice, none left out"
    finally:
        stop_broker(options.data_dir)


@pytest.mark.slow
def test_a_trainer_stops_soon_though_the_version_on_its_way_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    options = BrokerOptions(tmp_path / "broker", port=free_port())
    settings = load_settings(**start_broker(options).client_settings(), partitions=4, runs_dir=tmp_path)
    create_topics(settings)
    try:
        texts = [(text, f"{text} {number}.") for number in range(20) for text in TEXTS]
        publish_annotations(settings, [annotation(longer, verdict_of(text)) for text, longer in texts])
        with trainer_in_a_thread(settings) as errors:
            wait_until(lambda: updates(settings), 60, "a version")
            stop_broker(options.data_dir)
            time.sleep(2)  # the next one is trained, and cannot be written
            began = time.monotonic()
        assert time.monotonic() - began < 15
        assert not errors
        assert "version not written" in caplog.text
    finally:
        stop_broker(options.data_dir)
