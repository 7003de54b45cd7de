"""Options of a local broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onibus.infra.errors import OnibusError
from onibus.infra.settings import DEFAULT_PORT

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """A local cluster: where its data are, where it listens, how many brokers, with or without TLS."""

    data_dir: Path
    """Data, logs, certificates and process ids; kept between starts."""
    port: int = DEFAULT_PORT
    """Port for clients of the first broker; further brokers take the next ones."""
    brokers: int = 1
    """1, or 3 for a cluster that survives the loss of one."""
    secure: bool = False
    """Clients use TLS and SCRAM-SHA-512; the controllers use mutual TLS."""
    host: str = "127.0.0.1"
    """Address to listen on and to advertise to clients."""
    heap: str = "512m"
    """Largest Java heap of each broker (``-Xmx``)."""
    start_timeout: float = 60.0
    """Seconds until a start counts as failed; usually it takes about two."""
    minimum_free_bytes: int = 512 * MIB
    """Free disk space below which no broker is started: Kafka dies when a write fails."""
    port_flag: str = "--port"
    """Flag of the command that chooses the port, for errors."""
    folder_flag: str = "--data-dir"
    """The same for the folder."""
    stays: bool = True
    """Whether the brokers outlive the process that starts them; if not, they end with it, even by kill -9."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Kafka server properties that override ours."""

    def __post_init__(self) -> None:
        if self.brokers not in (1, 3):
            raise OnibusError(f"a local cluster has 1 or 3 brokers, not {self.brokers}; change --brokers")
        if not 1 <= self.port <= 65535 - 2 * self.brokers:
            raise OnibusError(
                f"port {self.port} leaves no room for the brokers' ports; change {self.port_flag}"
            )


@dataclass(frozen=True, slots=True)
class Node:
    """One broker process of the cluster; it is also a KRaft controller."""

    id: int
    host: str
    port: int
    controller_port: int
    folder: Path
    """Holds ``server.properties``, ``data/``, ``broker.log`` and ``pid``."""

    @property
    def address(self) -> str:
        """Where clients reach it, host:port."""
        return f"{self.host}:{self.port}"

    @property
    def properties_file(self) -> Path:
        return self.folder / "server.properties"

    @property
    def log_file(self) -> Path:
        return self.folder / "broker.log"

    @property
    def pid_file(self) -> Path:
        return self.folder / "pid"
