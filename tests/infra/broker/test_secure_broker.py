"""TLS and SCRAM: everything works with the printed settings, and each wrong one is named in one line."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from onibus.infra.broker import RunningBroker
from onibus.infra.broker.credentials import Credentials, credentials_in
from onibus.infra.errors import OnibusError
from onibus.infra.kafka.clients import admin, consumer, producer, read_all, transactional_producer
from onibus.infra.kafka.topic_admin import check_topics, create_topics
from onibus.infra.settings import load_settings
from tests.command import run_onibus, the_one_line
from tests.ports import free_port

pytestmark = pytest.mark.integration


def test_everything_works_with_the_right_settings(secure: RunningBroker) -> None:
    settings = load_settings(**secure.client_settings(), partitions=2)
    create_topics(settings)
    assert check_topics(settings) == []
    sender = transactional_producer(settings, "secure-test")
    sender.init_transactions()
    sender.begin_transaction()
    sender.send("onibus.episodes", b"safe and sound")
    sender.commit_transaction()
    sender.close()
    batches = list(read_all(settings, "onibus.episodes"))
    assert [record.value for batch in batches for record in batch] == [b"safe and sound"]


WRONG = {
    "password": ({"sasl_password": "mistyped"}, "refused user 'onibus': unknown user or wrong password"),
    "user": ({"sasl_username": "nobody"}, "refused user 'nobody'"),
    "mechanism": ({"sasl_mechanism": "SCRAM-SHA-256"}, r"it offers: SCRAM-SHA-512"),
    "no CA": ({"ssl_cafile": None}, "certificate of .* cannot be trusted.*set --ssl-cafile"),
    "missing CA file": ({"ssl_cafile": "/no/such/ca.pem"}, "there is no file /no/such/ca.pem"),
    "no certificate in CA file": ({"ssl_cafile": __file__}, "TLS files cannot be used"),
    "plaintext": (
        {"security_protocol": "PLAINTEXT"},
        "requires TLS, the client's security protocol is PLAINTEXT",
    ),
    "SASL without TLS": ({"security_protocol": "SASL_PLAINTEXT"}, "requires TLS"),
    "TLS without login": ({"security_protocol": "SSL"}, r"requires a login \(SASL\); set .* SASL_SSL"),
    "no password": ({"sasl_password_file": None}, "needs the setting sasl_password"),
}


@pytest.mark.parametrize(("wrong", "expected"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_setting_is_named(secure: RunningBroker, wrong: dict[str, str | None], expected: str) -> None:
    settings = load_settings(**secure.client_settings() | wrong)
    with pytest.raises(OnibusError, match=expected) as raised:
        admin(settings)
    assert "\n" not in str(raised.value)
    assert "mistyped" not in str(raised.value), "no password in a message"


@pytest.mark.parametrize("client", [producer, consumer])
def test_producers_and_consumers_name_a_wrong_password_as_well(
    secure: RunningBroker, client: Callable[..., object]
) -> None:
    with pytest.raises(OnibusError, match="unknown user or wrong password"):
        client(load_settings(**secure.client_settings() | {"sasl_password": "mistyped"}))


def test_a_certificate_of_another_authority_is_not_trusted(secure: RunningBroker, tmp_path: Path) -> None:
    other = credentials_in(tmp_path / "other", "127.0.0.1")
    settings = load_settings(**secure.client_settings() | {"ssl_cafile": other.ca})
    with pytest.raises(OnibusError, match="cannot be trusted"):
        admin(settings)


def test_a_client_with_tls_at_a_plaintext_broker_gets_a_clear_error(
    broker: RunningBroker, secure: RunningBroker
) -> None:
    theirs = {"bootstrap_servers": broker.bootstrap_servers}
    with pytest.raises(OnibusError, match=r"no TLS connection to .* set --security-protocol PLAINTEXT"):
        admin(load_settings(**secure.client_settings() | theirs), bootstrap_timeout_ms=1_000)
    no_tls = {"security_protocol": "SASL_PLAINTEXT"}
    with pytest.raises(OnibusError, match="does not use logins; set --security-protocol PLAINTEXT"):
        admin(load_settings(**secure.client_settings() | theirs | no_tls))


@pytest.mark.slow
def test_the_command_prints_settings_that_work_and_no_secret(tmp_path: Path) -> None:
    started = run_onibus("broker", "start", "--secure", "--port", free_port(), folder=tmp_path)
    try:
        assert started.returncode == 0, started.stderr
        folder = tmp_path / "runs" / "broker"
        printed = dict(
            line.removeprefix("export ").split("=", 1)
            for line in started.stdout.splitlines()
            if line.startswith("export ")
        )
        environment = {name: value.strip("'") for name, value in printed.items()}
        assert run_onibus("topics", "create", folder=tmp_path, environment=environment).returncode == 0
        (tmp_path / "onibus.toml").write_text((folder / "client.toml").read_text())
        assert run_onibus("topics", "check", folder=tmp_path).returncode == 0

        secrets = [
            Credentials(folder / "secure").client_password,
            Credentials(folder / "secure").broker_password,
        ]
        refused = run_onibus("topics", "check", "--sasl-username", "nobody", folder=tmp_path)
        said = started.stdout + started.stderr + the_one_line(refused)
        said += run_onibus("broker", "status", "--json", folder=tmp_path).stdout
        said += (folder / "node-1" / "broker.log").read_text() + (folder / "client.toml").read_text()
        assert not any(secret in said for secret in secrets)
        for path in folder.rglob("*"):
            if path.is_file() and path.stat().st_size < 100_000 and path.suffix != ".log":
                readable = stat.S_IMODE(path.stat().st_mode) & 0o077
                held = any(secret.encode() in path.read_bytes() for secret in secrets)
                assert not (held and readable), f"{path} shows a password to others"
    finally:
        run_onibus("broker", "stop", folder=tmp_path)
