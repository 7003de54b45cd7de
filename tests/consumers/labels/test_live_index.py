"""The board of a page that runs for long: the cluster goes away, or its log is not what it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from onibus.consumers.labels import annotation_log_reader
from onibus.consumers.labels.filter import LabelFilter
from onibus.consumers.labels.live_index import BoardFeed, LabelBoard
from onibus.infra.broker import BrokerOptions, start_broker, stop_broker
from onibus.infra.kafka import lasting_failure
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.kafka.topics import TopicNames
from onibus.infra.settings import Settings, load_settings
from tests.consumers.reward_models.annotation_logs import TEXTS, annotation, publish_annotations
from tests.infra.kafka.test_lost_positions import create_anew
from tests.ports import free_port
from tests.shared_brokers import FAST_BROKER
from tests.waiting import wait_until


@contextmanager
def followed(settings: Settings) -> Iterator[LabelBoard]:
    board = LabelBoard()
    feed = BoardFeed(settings, board)
    feed.load()
    feed.start()
    try:
        yield board
    finally:
        began = time.monotonic()
        feed.stop()
        assert time.monotonic() - began < 10


def shown(board: LabelBoard) -> set[str]:
    return {label.texts[0] for label in board.page(LabelFilter(), 0, 100).labels}


def test_a_log_that_was_created_anew_is_shown_as_it_is_now(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    publish_annotations(settings, [annotation(text) for text in TEXTS[:12]])
    with followed(settings) as board:
        assert shown(board) == set(TEXTS[:12])
        create_anew(settings, TopicNames(settings.topic_prefix).annotations)
        publish_annotations(settings, [annotation(text) for text in TEXTS[10:14]])
        wait_until(lambda: shown(board) == set(TEXTS[10:14]), 60, "the log as it is")
    assert "the annotation log could not be followed, trying again: " in caplog.text


@pytest.mark.slow
def test_a_board_goes_on_when_the_broker_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lasting_failure, "QUIET_SECONDS", 3.0)
    monkeypatch.setattr(annotation_log_reader, "ENDS_MS", 3_000)
    options = BrokerOptions(tmp_path / "broker", port=free_port(), properties=FAST_BROKER)
    broker = start_broker(options)
    try:
        settings = load_settings(**broker.client_settings(), partitions=2, runs_dir=tmp_path)
        create_topics(settings)
        publish_annotations(settings, [annotation(TEXTS[0])])
        with followed(settings) as board:
            stop_broker(options.data_dir)
            wait_until(lambda: "log could not be followed" in caplog.text, 90, "it to be noticed")
            assert shown(board) == {TEXTS[0]}
            start_broker(options)
            publish_annotations(settings, [annotation(TEXTS[1])])
            wait_until(lambda: shown(board) == {TEXTS[0], TEXTS[1]}, 60, "the new label")
    finally:
        stop_broker(options.data_dir)
