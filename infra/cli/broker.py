"""``onibus broker start | stop | status``: a local Apache Kafka."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onibus.infra.cli.options import AsJson
from onibus.infra.errors import OnibusError
from onibus.infra.process.terminal import echo
from onibus.infra.settings import DEFAULT_PORT, load_settings

if TYPE_CHECKING:
    from onibus.infra.broker import RunningBroker

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Folder of the broker's data, kept between starts. (default: RUNS_DIR/broker)"
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(help="Run a local Apache Kafka, without Java, Docker or root.", no_args_is_help=True)
    group.command()(start)
    group.command()(stop)
    group.command()(status)
    app.add_typer(group, name="broker")


def start(
    data_dir: DataDir = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port for clients; further brokers take the next ones.")
    ] = DEFAULT_PORT,
    brokers: Annotated[int, typer.Option(help="1, or 3 for a cluster that survives the loss of one.")] = 1,
    secure: Annotated[
        bool, typer.Option("--secure", help="Use TLS and SCRAM-SHA-512, with a new user.")
    ] = False,
    host: Annotated[str, typer.Option(help="Address of this machine to listen on.")] = "127.0.0.1",
    as_json: AsJson = False,
) -> None:
    """Start a local broker and wait until it is ready. The first start downloads Kafka (44 MB)."""
    from onibus.infra.broker import BrokerOptions, start_broker

    folder = _data_dir(data_dir)
    running = start_broker(BrokerOptions(folder, port=port, brokers=brokers, secure=secure, host=host))
    files = _write_client_files(running) if secure or brokers > 1 else {}
    if as_json:
        _print_json(running, files)
        return
    pids = ", ".join(str(pid) for pid in running.pids)
    echo(f"Kafka is running at {running.bootstrap_servers} (pid {pids}), data in {running.data_dir}")
    if files:
        private = " (the password is in a file that only you can read)" if secure else ""
        echo(f"Settings for clients{private}:")
        echo(files["client.env"].read_text().rstrip())
        echo(f"They are in {files['client.env']} (to source) and {files['client.toml']} (for onibus.toml).")
    echo(f"Stop it with: onibus broker stop --data-dir {folder}")


def stop(data_dir: DataDir = None) -> None:
    """Stop the local broker cleanly. Its data are kept."""
    from onibus.infra.broker import stop_broker

    folder = _data_dir(data_dir)
    if stop_broker(folder):
        echo(f"stopped; the data are kept in {folder}")
    else:
        echo(f"no broker is running with data in {folder}")


def status(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show whether the local broker is running, and where."""
    from onibus.infra.broker import broker_status

    folder = _data_dir(data_dir)
    found = broker_status(folder)
    if found is None:
        raise OnibusError(f"there is no broker's data in {folder}; start one with: onibus broker start")
    if as_json:
        _print_json(found, {})
        return
    for node, pid in zip(found.nodes, found.pids, strict=True):
        echo(f"broker {node.id} at {node.address}: {f'running (pid {pid})' if pid else 'stopped'}")
    for reason in found.why_dead():
        echo(reason)
    echo(f"cluster {found.cluster_id}, data in {found.data_dir}")


def _data_dir(given: Path | None) -> Path:
    return given if given is not None else load_settings().runs_dir / "broker"


def _write_client_files(running: RunningBroker) -> dict[str, Path]:
    """Write ``client.env`` and ``client.toml`` beside the data: the settings with which clients reach it."""
    from onibus.infra.broker.credentials import write_private

    values = {name: str(value) for name, value in running.client_settings().items()}
    texts = {
        "client.env": "\n".join(f"export ONIBUS_{name.upper()}='{value}'" for name, value in values.items()),
        "client.toml": "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items()),
    }
    for name, text in texts.items():
        write_private(running.data_dir / name, text)
    return {name: running.data_dir / name for name in texts}


def _print_json(running: RunningBroker, files: dict[str, Path]) -> None:
    entry: dict[str, Any] = {
        "running": running.running,
        "bootstrap_servers": running.bootstrap_servers,
        "cluster_id": running.cluster_id,
        "secure": running.secure,
        "pids": list(running.pids),
        "why_dead": running.why_dead(),
        "data_dir": str(running.data_dir),
        "client_settings": {name: str(value) for name, value in running.client_settings().items()},
    }
    echo(json.dumps(entry | {"files": {name: str(path) for name, path in files.items()}}, indent=2))
