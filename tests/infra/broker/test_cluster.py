"""Three brokers: one may be lost, and comes back with what it missed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from onibus.infra.broker import BrokerOptions, broker_status, start_broker, stop_broker
from onibus.infra.cli.broker import _write_client_files
from onibus.infra.kafka.clients import admin, producer, read_all
from onibus.infra.kafka.topic_admin import check_topics, create_topics
from onibus.infra.settings import load_settings
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.mark.slow
def test_a_cluster_keeps_working_without_one_of_its_brokers_and_takes_it_back(tmp_path: Path) -> None:
    options = BrokerOptions(tmp_path, port=free_port(), brokers=3, secure=True, heap="256m")
    cluster = start_broker(options)
    try:
        assert cluster.bootstrap_servers.count(",") == 2
        settings = load_settings(**cluster.client_settings(), partitions=3)
        assert settings.replication == 3
        files = _write_client_files(cluster)
        assert 'replication = "3"' in files["client.toml"].read_text()
        assert "export ONIBUS_REPLICATION='3'" in files["client.env"].read_text()
        create_topics(settings)
        assert check_topics(settings) == []
        sender = producer(settings)
        sender.send("onibus.episodes", b"before").get(timeout=30)

        lost = cluster.pids[1]
        assert lost is not None
        os.kill(lost, signal.SIGKILL)
        wait_until(lambda: broker_status(tmp_path).pids[1] is None, what="the second broker's death")
        sender.send("onibus.episodes", b"meanwhile").get(timeout=60)

        back = start_broker(options)
        assert back.running
        assert (back.pids[0], back.pids[2]) == (cluster.pids[0], cluster.pids[2]), "others were left alone"
        assert back.pids[1] != lost
        with admin(settings) as client:
            wait_until(lambda: _in_sync(client.describe_topics(["onibus.episodes"])) == 3, 60, "catching up")
        values = [record.value for batch in read_all(settings, "onibus.episodes") for record in batch]
        assert values == [b"before", b"meanwhile"]
        sender.close()
    finally:
        stop_broker(tmp_path)
    assert broker_status(tmp_path).pids == (None, None, None)


def _in_sync(described: list[dict[str, object]]) -> int:
    (partition,) = described[0]["partitions"]  # type: ignore[misc]
    return len(partition["isr_nodes"])
