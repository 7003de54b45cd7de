"""Factories for kafka-python's clients: one place for security, durability and bounds.

Defaults: ``acks=all`` with idempotence, read_committed, lz4, manual commits. Extra keyword arguments
go to kafka-python and win. Clients that cannot reach the cluster fail with one clear line.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import AuthorizationError, KafkaError
from kafka.net.compat import KafkaNetClient

from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of
from onibus.infra.kafka.log_end import until_end
from onibus.infra.kafka.lost_positions import MendedConsumer
from onibus.infra.kafka.producer_connections import ProducerConnections
from onibus.infra.kafka.reachability import (
    UnreachableError,
    server_address,
    why_advertised_unreachable,
    why_not_advertised_well,
    why_unreachable,
)
from onibus.infra.settings import Settings

Client = TypeVar("Client")

BOOTSTRAP_TIMEOUT_MS = 6_000
"""How long a client tries to reach the cluster: long enough for a broker to restart; a wrong port is reported
within ten seconds (kafka-python's default is 30 s), a wrong name, certificate or password sooner."""
_FIRST_TRY_MS = 700
"""After the first attempt the reason for its failure is determined; a second one follows if it may pass."""

_METADATA_MAX_AGE_MS = 60_000
"""How soon a consumer learns about partitions that were added to its topics."""

_PATIENCE = {
    "bootstrap_timeout_ms": BOOTSTRAP_TIMEOUT_MS,
    # kafka-python backs off for up to 30 s; work must resume as soon as a broker is back.
    "reconnect_backoff_max_ms": 1_000,
}
_NO_SURPRISES = {"allow_auto_create_topics": False, "metrics_enabled": False}


def producer(settings: Settings, **overrides: Any) -> KafkaProducer:
    """An idempotent producer, ``acks=all``.

    kafka-python does not bound the memory of records in flight: the caller must count unfinished sends
    and stop at a limit.

    Raises:
        OnibusError: the cluster cannot be reached.
    """
    arguments = {
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": "lz4",
        "linger_ms": 20,
        "batch_size": 128 * 1024,
        "max_block_ms": 10_000,
    }
    return _connect(KafkaProducer, settings, arguments | _NO_SURPRISES | overrides)


def transactional_producer(settings: Settings, transactional_id: str, **overrides: Any) -> KafkaProducer:
    """A producer for transactions under ``transactional_id`` (used as given, so include the prefix).

    The caller calls ``init_transactions()``, which fences an earlier producer of the same id. A writer
    that dies leaves its transaction open for at most ten seconds, during which read_committed readers
    cannot read past it.

    Raises:
        OnibusError: the cluster cannot be reached.
    """
    arguments = {"transactional_id": transactional_id, "transaction_timeout_ms": 10_000, "linger_ms": 5}
    return producer(settings, **arguments | overrides)


def consumer(
    settings: Settings, *topics: str, group_id: str | None = None, **overrides: Any
) -> KafkaConsumer:
    """A read_committed consumer that starts at the beginning and commits only on request.

    ``topics`` are subscribed to; without any, the caller assigns partitions. ``group_id`` is used as given.

    Raises:
        OnibusError: the cluster cannot be reached.
    """
    arguments = {
        "group_id": group_id,
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "check_crcs": True,
        "metadata_max_age_ms": _METADATA_MAX_AGE_MS,
    }
    return _connect(MendedConsumer, settings, arguments | _NO_SURPRISES | overrides, *topics)


def admin(settings: Settings, **overrides: Any) -> KafkaAdminClient:
    """An admin client; close it after use.

    Raises:
        OnibusError: the cluster cannot be reached.
    """
    return _connect(KafkaAdminClient, settings, overrides)


def read_all(settings: Settings, topic: str) -> Iterator[list[ConsumerRecord]]:
    """Everything committed on ``topic`` so far, in batches of at least one record; see :func:`until_end`.

    Raises:
        OnibusError: the cluster cannot be reached, has no such topic, or makes no progress.
    """
    with consumer(settings, max_poll_records=5_000) as reader:
        for _ in until_end(reader, partitions_of(reader, topic)):
            yield from reader.poll(timeout_ms=500).values()


def seek_back(consumer: KafkaConsumer, polled: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> None:
    """Make ``consumer`` return these records of a poll again, since they were not processed."""
    for partition, records in polled.items():
        consumer.seek(partition, records[0].offset)


def partitions_of(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    """All partitions of a topic, ascending, for readers without a group.

    Raises:
        OnibusError: there is no such topic.
    """
    partitions = [
        TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())
    ]
    if not partitions:
        raise OnibusError(
            f"topic {topic} does not exist, or this user may not describe it; create it with: onibus topics "
            "create, or have a super user grant a role with: onibus access grant"
        )
    return partitions


def security(settings: Settings) -> dict[str, Any]:
    """kafka-python's connection arguments (bootstrap servers, TLS, SASL) for these settings.

    Raises:
        OnibusError: a server is not host:port, a setting that the security protocol needs is missing, or a
            file cannot be read.
    """
    servers = [server.strip() for server in settings.bootstrap_servers.split(",")]
    for server in servers:
        server_address(server)
    arguments: dict[str, Any] = {
        "bootstrap_servers": servers,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol.endswith("SSL"):
        arguments["ssl_check_hostname"] = settings.ssl_check_hostname
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
            if (path := getattr(settings, name)) is not None:
                if not path.is_file():
                    raise OnibusError(f"setting {name}: there is no file {path}; correct the path")
                arguments[name] = str(path)
    if settings.security_protocol.startswith("SASL"):
        arguments |= _sasl(settings)
    return arguments


def _sasl(settings: Settings) -> dict[str, Any]:
    arguments = {
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": settings.password(),
    }
    for value, setting in zip(
        arguments.values(), ("sasl_mechanism", "sasl_username", "sasl_password"), strict=True
    ):
        if not value:
            raise OnibusError(
                f"security protocol {settings.security_protocol} needs the setting {setting}; "
                f"set ONIBUS_{setting.upper()}"
            )
    return arguments


def _connect(
    kind: Callable[..., Client], settings: Settings, arguments: dict[str, Any], *topics: str
) -> Client:
    """Build a client. Errors that will not pass are raised at once; after others it is tried once more."""
    arguments = {"client_id": "onibus"} | security(settings) | _PATIENCE | arguments
    patience_ms = arguments.pop("bootstrap_timeout_ms")
    deadline = time.monotonic() + patience_ms / 1000
    first_try_ms = min(_FIRST_TRY_MS, patience_ms)
    try:
        return _build(kind, topics, arguments | {"bootstrap_timeout_ms": first_try_ms})
    except UnreachableError as error:
        if not error.may_pass or patience_ms <= first_try_ms:
            raise
    except (KafkaError, OSError) as error:
        reason = why_unreachable(settings, error)
        if not reason.may_pass or patience_ms <= first_try_ms:
            raise reason from error
    left_ms = max(_FIRST_TRY_MS, (deadline - time.monotonic()) * 1000)
    try:
        return _build(kind, topics, arguments | {"bootstrap_timeout_ms": left_ms})
    except (KafkaError, OSError) as error:
        raise why_unreachable(settings, error) from error


def explained(settings: Settings, error: Exception) -> OnibusError:
    """What a user can do about an error of Kafka or of the network; an OnibusError says so itself."""
    if isinstance(error, OnibusError):
        return error
    if isinstance(error, AuthorizationError):
        user = settings.sasl_username or "this client"
        return OnibusError(
            f"the cluster denies {user} access ({reason_of(error)}); have a super user grant a role with: "
            "onibus access grant"
        )
    addresses: list[tuple[str, int]] = []
    try:
        with admin(settings) as client:
            addresses = _advertised(client._client)
    except OnibusError as reason:
        return reason
    except (KafkaError, OSError):
        pass
    if (unreachable := why_advertised_unreachable(settings, addresses)) is not None:
        return unreachable
    if not isinstance(error, KafkaError):
        return OnibusError(
            f"a connection failed ({reason_of(error)}); check that the servers named by "
            "settings and flags are up, then retry"
        )
    return OnibusError(
        f"the cluster at {settings.bootstrap_servers} did not answer as expected "
        f"({reason_of(error)}); check that every broker is up, then retry"
    )


def _advertised(client: KafkaNetClient) -> list[tuple[str, int]]:
    """Addresses that the brokers advertise; empty before their first response."""
    return [(broker.host, broker.port) for broker in client.cluster.brokers()]


def _build(kind: Callable[..., Client], topics: Sequence[str], arguments: dict[str, Any]) -> Client:
    """A client; on failure what it opened is closed (kafka-python leaves threads and sockets behind)."""
    opened: list[KafkaNetClient] = []
    connections = ProducerConnections if kind is KafkaProducer else KafkaNetClient

    def remembered(**configuration: Any) -> KafkaNetClient:
        opened.append(connections(**configuration))
        return opened[-1]

    try:
        client: Any = kind(*topics, **{"kafka_client": remembered} | arguments)
    except BaseException:
        for client in opened:
            client.close()
        raise
    if opened and (reason := why_not_advertised_well(_advertised(opened[0]))) is not None:
        with contextlib.suppress(KafkaError):
            client.close(**{"timeout": 0} if kind is KafkaProducer else {})
        raise reason
    return client  # type: ignore[no-any-return]
