"""Annotators while the broker is away: they stop in time, and go on by themselves when it is back."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onibus.infra.broker import BrokerOptions, RunningBroker, start_broker, stop_broker
from onibus.infra.kafka.topic_admin import create_topics
from onibus.infra.kafka.transactions import PATIENCE_SECONDS
from onibus.infra.settings import Settings, environment_of, load_settings
from tests.command import start_onibus
from tests.consumers.annotating import (
    HeldModel,
    annotator,
    assert_each_exactly_once,
    publish,
    rules_specs,
    wait_for_labels,
)
from tests.ports import free_port
from tests.shared_brokers import FAST_BROKER
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

TEXTS = [f"You see here {n} arrows." for n in range(100)]


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[tuple[BrokerOptions, RunningBroker]]:
    """A broker that the test may stop."""
    options = BrokerOptions(tmp_path / "broker", port=free_port(), properties=FAST_BROKER)
    yield options, start_broker(options)
    stop_broker(options.data_dir)


@pytest.fixture
def own_settings(own_broker: tuple[BrokerOptions, RunningBroker], tmp_path: Path) -> Settings:
    """Settings for it; the topics exist."""
    settings = load_settings(**own_broker[1].client_settings(), partitions=4, runs_dir=tmp_path)
    create_topics(settings)
    return settings


def test_it_goes_on_by_itself_when_the_broker_is_back(
    own_broker: tuple[BrokerOptions, RunningBroker], own_settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    options, _ = own_broker
    specs, rules = rules_specs()
    held = HeldModel(rules, allowed=30)
    publish(own_settings, TEXTS)
    with annotator(own_settings, model=held, most_under_way=20) as one:
        wait_for_labels(own_settings, 30)
        wait_until(lambda: len(held.asked) == 50, 30, "answers to be under way")
        went = time.monotonic()
        stop_broker(options.data_dir)
        held.open.set()  # answers come in, and cannot be written
        start_broker(options)
        away = time.monotonic() - went
        more = [f"You hear {n} bells." for n in range(20)]
        publish(own_settings, more)
        wait_for_labels(own_settings, len(TEXTS) + len(more), timeout=120)
        assert_each_exactly_once(own_settings, specs, TEXTS + more)
        assert max(held.asked.values()) == 1, "a caption was paid for twice"
        if away < PATIENCE_SECONDS / 2:
            assert "starting over" not in caplog.text, "the transaction that had begun is committed"
        one.stop()


@pytest.mark.parametrize("captions", [1, 30_000], ids=["idle", "at work"])
def test_sigterm_ends_it_within_ten_seconds_though_the_broker_is_away(
    own_broker: tuple[BrokerOptions, RunningBroker], own_settings: Settings, captions: int
) -> None:
    options, _ = own_broker
    publish(own_settings, (f"You see here {n} arrows." for n in range(captions)))
    child = start_onibus(
        *("annotate", "--backlog", "all", "--yes"),
        environment=environment_of(own_settings),
        stderr=subprocess.PIPE,
    )
    wait_for_labels(own_settings, 1)
    stop_broker(options.data_dir)
    child.send_signal(signal.SIGTERM)
    _, log = child.communicate(timeout=10)
    assert child.returncode == 0, log
    assert "Traceback" not in log
