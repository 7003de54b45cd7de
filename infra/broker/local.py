"""Start, stop and inspect the local cluster of a data folder."""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import json
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from onibus.infra.broker import node_process
from onibus.infra.broker.credentials import Credentials, credentials_in, write_private
from onibus.infra.broker.jars import class_path
from onibus.infra.broker.java import format_storage
from onibus.infra.broker.options import MIB, BrokerOptions, Node
from onibus.infra.broker.properties import server_properties
from onibus.infra.broker.start_archive import make_archive
from onibus.infra.errors import OnibusError
from onibus.infra.files import write_whole

_OTHER_COMMAND_TIMEOUT = 90.0


@dataclass(frozen=True, slots=True)
class RunningBroker:
    """A cluster as it was last started, and which of its processes are alive."""

    data_dir: Path
    cluster_id: str
    secure: bool
    nodes: tuple[Node, ...]
    pids: tuple[int | None, ...]
    """Process id of each node; None if it is not running."""

    @property
    def running(self) -> bool:
        """Whether every broker is alive."""
        return all(pid is not None for pid in self.pids)

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(node.address for node in self.nodes)

    def why_dead(self) -> list[str]:
        """For each broker that ended without being stopped: which one, and the reason in its log."""
        dead = [node for node, pid in zip(self.nodes, self.pids, strict=True) if pid is None]
        return [reason for node in dead if (reason := node_process.why_dead(node)) is not None]

    def client_settings(self) -> dict[str, Any]:
        """Values for :func:`onibus.infra.settings.load_settings` that reach this cluster; no passwords."""
        settings: dict[str, Any] = {"bootstrap_servers": self.bootstrap_servers}
        if len(self.nodes) > 1:
            settings["replication"] = len(self.nodes)
        if self.secure:
            credentials = _credentials(self.data_dir, self.nodes[0].host)
            settings |= {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_username": credentials.client_user,
                "sasl_password_file": credentials.client_password_file,
                "ssl_cafile": credentials.ca,
            }
        return settings


def start_broker(options: BrokerOptions) -> RunningBroker:
    """Start the cluster of ``options.data_dir`` and wait until it serves clients; data are kept.

    Brokers of the cluster that are still alive are left alone, so this also brings back a lost one.

    Raises:
        OnibusError: already running, a port in use, too little disk space, data of a cluster with another
            number of brokers or other security, jars that cannot be fetched, or a broker that died.
    """
    _make_folder(options.data_dir, options.folder_flag)
    with _exclusive(options.data_dir):
        previous = broker_status(options.data_dir)
        if previous is not None:
            _check_startable(previous, options)
        require_disk_space(options.data_dir, options.minimum_free_bytes, options.folder_flag)
        path = class_path()
        make_archive(path)
        living = previous.pids if previous else (None,) * options.brokers
        if previous and any(pid is not None for pid in living):
            nodes: Sequence[Node] = previous.nodes
        else:
            nodes = _plan_nodes(options)
        cluster_id = previous.cluster_id if previous else _new_cluster_id()
        _write_state(options, cluster_id, nodes)
        _prepare(options, cluster_id, nodes, path)
        missing = [node for node, pid in zip(nodes, living, strict=True) if pid is None]
        node_process.start(missing, path, options)
    started = broker_status(options.data_dir)
    assert started is not None
    return started


def stop_broker(data_dir: Path, timeout: float = 30.0) -> bool:
    """Stop the cluster of ``data_dir`` cleanly; after ``timeout`` seconds it is killed. Data are kept.

    Returns:
        Whether anything was running.
    """
    if broker_status(data_dir) is None:
        return False
    with _exclusive(data_dir):
        status = broker_status(data_dir)
        assert status is not None
        return node_process.stop(status.nodes, timeout)


def broker_status(data_dir: Path) -> RunningBroker | None:
    """The cluster whose data lie in ``data_dir``, running or not; None if there is none."""
    try:
        state = json.loads(_state_file(data_dir).read_text())
        nodes = tuple(
            Node(**entry | {"folder": data_dir.absolute() / entry["folder"]}) for entry in state["nodes"]
        )
        return RunningBroker(
            data_dir=data_dir.absolute(),
            cluster_id=state["cluster_id"],
            secure=state["secure"],
            nodes=nodes,
            pids=tuple(node_process.living_pid(node) for node in nodes),
        )
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise OnibusError(
            f"{_state_file(data_dir)} cannot be read: {error}; "
            "it does not belong to a broker's data; choose another --data-dir"
        ) from error


def _make_folder(folder: Path, flag: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OnibusError(
            f"the folder {folder} for the broker's data cannot be created: {error.strerror}; "
            f"choose another {flag}"
        ) from error


def require_disk_space(folder: Path, minimum: int, flag: str) -> None:
    """Refuse to continue with less than ``minimum`` bytes free where ``folder`` is.

    Raises:
        OnibusError: the disk is (almost) full.
    """
    free = shutil.disk_usage(folder).free
    if free < minimum:
        raise OnibusError(
            f"disk full: {free // MIB} MiB free for the broker's data in {folder}, {minimum // MIB} MiB "
            f"needed; free some space or choose another {flag}"
        )


def _check_startable(previous: RunningBroker, options: BrokerOptions) -> None:
    if previous.running:
        pids = ", ".join(str(pid) for pid in previous.pids)
        raise OnibusError(
            f"a broker with data in {options.data_dir} is already running (pid {pids}) "
            f"at {previous.bootstrap_servers}; use it, or stop it with: onibus broker stop"
        )
    if len(previous.nodes) != options.brokers:
        raise OnibusError(
            f"{options.data_dir} holds the data of {len(previous.nodes)} broker(s), not {options.brokers}; "
            f"start them with: onibus broker start --brokers {len(previous.nodes)}, or choose another "
            f"{options.folder_flag}"
        )
    if previous.secure != options.secure:
        held, flag = ("a secure", " --secure") if previous.secure else ("a plaintext", "")
        raise OnibusError(
            f"{options.data_dir} holds the data of {held} broker; "
            f"start with: onibus broker start{flag}, or choose another {options.folder_flag}"
        )
    host = previous.nodes[0].host
    if previous.secure and host != options.host:
        raise OnibusError(
            f"the certificate in {options.data_dir} is for host {host}, not {options.host}; "
            f"start with --host {host} or choose another {options.folder_flag}"
        )


def _folder_of_broker_on(host: str, port: int) -> Path | None:
    """The data of the local broker whose clients' port this is; None if no broker is known to have it."""
    client = f"CLIENT://{host}:{port},"
    for process in psutil.process_iter(["cmdline"]):
        properties = Path((process.info["cmdline"] or [""])[-1])
        with contextlib.suppress(OSError):
            if properties.name == "server.properties" and client in properties.read_text():
                return properties.parents[1]
    return None


def _plan_nodes(options: BrokerOptions) -> list[Node]:
    """Consecutive client ports from ``options.port``; controllers take the next free ones after them."""
    ports = [options.port + k for k in range(options.brokers)]
    for port in ports:
        if not _is_free(options.host, port, options.port_flag):
            ours = _folder_of_broker_on(options.host, port)
            raise OnibusError(
                f"port {port} on {options.host} is in use by "
                + (
                    f"the broker in {ours}; use it, stop it with: onibus broker stop --data-dir {ours}, or "
                    if ours
                    else "another program; "
                )
                + f"choose another with {options.port_flag}"
            )
    candidates = (
        port for port in range(ports[-1] + 1, 65536) if _is_free(options.host, port, options.port_flag)
    )
    return [
        Node(
            id=k + 1,
            host=options.host,
            port=port,
            controller_port=next(candidates),
            folder=options.data_dir.absolute() / f"node-{k + 1}",
        )
        for k, port in enumerate(ports)
    ]


def _is_free(host: str, port: int, flag: str) -> bool:
    """Whether a server can listen there now.

    Raises:
        OnibusError: ``host`` is not an address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Kafka does: TIME_WAIT is free
            try:
                probe.bind(address)
            except PermissionError as error:
                raise OnibusError(
                    f"port {port} is reserved for root; choose one above 1023 with {flag}"
                ) from error
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return False
                raise
            return True
    except OSError as error:
        raise OnibusError(
            f"cannot listen on {host}: {error.strerror}; choose an address of this machine with --host"
        ) from error


def _prepare(options: BrokerOptions, cluster_id: str, nodes: Sequence[Node], path: str) -> None:
    credentials = _credentials(options.data_dir, options.host) if options.secure else None
    for node in nodes:
        node.folder.mkdir(parents=True, exist_ok=True)
        write_private(node.properties_file, server_properties(options, node, nodes, credentials))
        if not (node.folder / "data" / "meta.properties").exists():
            arguments = _format_arguments(node, cluster_id, credentials)
            format_storage(path, arguments, node.folder / "format.arguments")


def _format_arguments(node: Node, cluster_id: str, credentials: Credentials | None) -> list[str]:
    arguments = ["--cluster-id", cluster_id, "--config", str(node.properties_file), "--ignore-formatted"]
    if credentials is not None:
        for user, password in (
            (credentials.client_user, credentials.client_password),
            (credentials.broker_user, credentials.broker_password),
        ):
            arguments += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
    return arguments


def _credentials(data_dir: Path, host: str) -> Credentials:
    return credentials_in(data_dir.absolute() / "secure", host)


def _new_cluster_id() -> str:
    """Kafka's form of a random UUID: 22 base64 characters, of which the first must not look like a flag."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _write_state(options: BrokerOptions, cluster_id: str, nodes: Sequence[Node]) -> None:
    entries = [asdict(node) | {"folder": node.folder.name} for node in nodes]
    state = {"cluster_id": cluster_id, "secure": options.secure, "nodes": entries}
    write_whole(_state_file(options.data_dir), json.dumps(state, indent=2) + "\n")


def _state_file(data_dir: Path) -> Path:
    return data_dir / "broker.json"


@contextmanager
def _exclusive(data_dir: Path) -> Iterator[None]:
    """One start or stop at a time per data folder; the lock is released when its process ends."""
    deadline = time.monotonic() + _OTHER_COMMAND_TIMEOUT
    with (data_dir / ".lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise OnibusError(
                        f"another onibus broker command has been busy in {data_dir} for "
                        f"{_OTHER_COMMAND_TIMEOUT:g} s; wait for it or stop it, then retry"
                    ) from error
                time.sleep(0.1)
        yield
