"""A cluster whose brokers advertise addresses that cannot be reached from here, on a real broker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka.errors import KafkaTimeoutError, TopicAuthorizationFailedError

from onibus.infra.broker import BrokerOptions, start_broker, stop_broker
from onibus.infra.errors import OnibusError
from onibus.infra.kafka import clients
from onibus.infra.settings import Settings, load_settings
from tests.command import run_onibus, the_one_line
from tests.ports import free_port

pytestmark = pytest.mark.slow

COMMANDS = [
    ["status"],
    ["topics", "check"],
    ["topics", "create"],
    ["topics", "list"],
    ["labels", "list"],
    ["labels", "serve", "--port", "0"],
    ["dead-letters", "list"],
    ["replay", "verify"],
    ["replay", "rewards"],
    ["access", "list"],
    ["annotate"],
    ["annotate", "--workers", "2"],
    ["train-reward"],
    ["learn", "--task", "keyroom-s5"],
    ["rollout", "--task", "keyroom-s5", "--steps", "10"],
]


def advertised(folder: Path, port: int, address: str) -> Iterator[Settings]:
    options = BrokerOptions(
        folder,
        port=port,
        stays=False,
        heap="256m",
        properties={"advertised.listeners": f"CLIENT://{address}"},
    )
    running = start_broker(options)
    yield load_settings(**running.client_settings(), runs_dir=folder)
    stop_broker(folder)


@pytest.fixture(scope="module")
def unknown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    yield from advertised(tmp_path_factory.mktemp("unknown"), free_port(), "no-such-broker.invalid:9092")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    yield from advertised(tmp_path_factory.mktemp("elsewhere"), free_port(), "127.0.0.1:1")


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda words: " ".join(words[:3]))
def test_every_command_names_an_advertised_name_that_does_not_resolve(
    arguments: list[str], unknown: Settings, tmp_path: Path
) -> None:
    servers = ["--bootstrap-servers", unknown.bootstrap_servers]
    done = run_onibus(*arguments, *servers, folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "no-such-broker.invalid:9092" in done.stderr
    assert "advertised.listeners" in done.stderr


@pytest.mark.parametrize("kind", [clients.admin, clients.consumer, clients.producer])
def test_no_client_is_built(kind: object, unknown: Settings) -> None:
    with pytest.raises(OnibusError, match=r"no-such-broker\.invalid:9092, a name that does not resolve"):
        kind(unknown)  # type: ignore[operator]


@pytest.mark.parametrize("arguments", [["status"], ["labels", "list"]], ids=lambda words: words[0])
def test_an_advertised_address_on_which_nothing_listens_is_named(
    arguments: list[str], elsewhere: Settings, tmp_path: Path
) -> None:
    done = run_onibus(
        *arguments, "--bootstrap-servers", elsewhere.bootstrap_servers, folder=tmp_path, timeout=200
    )
    line = the_one_line(done)
    assert "127.0.0.1:1" in line
    assert "advertised.listeners" in line


def test_an_error_of_kafka_says_what_to_do(settings: Settings) -> None:
    refused = clients.explained(settings, TopicAuthorizationFailedError("labels"))
    assert "onibus access grant" in str(refused)
    failed = clients.explained(settings, KafkaTimeoutError("no answer"))
    assert f"the cluster at {settings.bootstrap_servers} did not answer as expected" in str(failed)
    assert "a connection failed (ConnectionResetError: by peer)" in str(
        clients.explained(settings, ConnectionResetError("by peer"))
    )
    gone = load_settings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    assert "no Kafka broker at" in str(clients.explained(gone, ConnectionResetError()))
