"""``server.properties`` of a node, which is both broker and KRaft controller."""

from __future__ import annotations

from collections.abc import Sequence

from onibus.infra.broker.credentials import Credentials
from onibus.infra.broker.options import BrokerOptions, Node


def server_properties(
    options: BrokerOptions, node: Node, nodes: Sequence[Node], credentials: Credentials | None
) -> str:
    """The file's text for ``node`` of ``nodes``; with ``credentials``, TLS everywhere."""
    properties = (
        _cluster(node, nodes) | _small(len(nodes)) | _security(credentials) | dict(options.properties)
    )
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def _cluster(node: Node, nodes: Sequence[Node]) -> dict[str, str]:
    return {
        "process.roles": "broker,controller",
        "node.id": str(node.id),
        "controller.quorum.voters": ",".join(f"{n.id}@{n.host}:{n.controller_port}" for n in nodes),
        "listeners": f"CLIENT://{node.address},CONTROLLER://{node.host}:{node.controller_port}",
        "advertised.listeners": f"CLIENT://{node.address}",
        "inter.broker.listener.name": "CLIENT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(node.folder / "data"),
    }


def _small(brokers: int) -> dict[str, str]:
    """Kafka's defaults are for a data centre; these are for one machine, and safe for data."""
    copies, in_sync = str(brokers), str(max(1, brokers - 1))
    # Two empty records per second tell other nodes that the controller is alive; here there are none.
    alone = {"metadata.max.idle.interval.ms": "0"} if brokers == 1 else {}
    return alone | {
        "auto.create.topics.enable": "false",  # a misspelt topic must fail, not appear
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",  # the first consumer need not wait for others
        # A crashed writer's open transaction hides what follows from read_committed readers.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        # A killed broker cannot register again before its old session has ended (default 9 s).
        "broker.session.timeout.ms": "5000",
        "broker.heartbeat.interval.ms": "1000",
        "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),  # the default takes 128 MiB of heap
        "num.network.threads": "2",
        "num.io.threads": "4",
    }


def _security(credentials: Credentials | None) -> dict[str, str]:
    if credentials is None:
        return {"listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT"}
    login = (
        "org.apache.kafka.common.security.scram.ScramLoginModule required "
        f'username="{credentials.broker_user}" password="{credentials.broker_password}";'
    )
    return {
        "listener.security.protocol.map": "CLIENT:SASL_SSL,CONTROLLER:SSL",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
        "listener.name.client.scram-sha-512.sasl.jaas.config": login,
        "listener.name.controller.ssl.client.auth": "required",  # only holders of our certificate
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(credentials.key_and_certificate),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(credentials.ca),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": ";".join(f"User:{name}" for name in credentials.super_users),
    }
