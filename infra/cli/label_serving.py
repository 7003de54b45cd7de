"""``onibus labels serve``: a web page to browse labels and correct them."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from onibus.infra.cli.label_options import Person, user_name
from onibus.infra.cli.options import with_settings
from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of
from onibus.infra.process.terminal import echo
from onibus.infra.settings import Settings

if TYPE_CHECKING:
    import uvicorn

_LOOK_SECONDS = 0.2
_LAST_SECONDS = 5.0
"""How long open requests may take after a stop."""


def register(group: typer.Typer) -> None:
    """Add it to the commands of ``onibus labels``."""
    group.command("serve")(with_settings(serve))


def serve(
    settings: Settings,
    host: Annotated[
        str, typer.Option(help="Address to listen on; visitors need a token unless it is a loopback address.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any free one.")] = 8765,
    allow_edit: Annotated[bool, typer.Option("--allow-edit", help="Let visitors correct labels.")] = False,
    person: Person = None,
    model: Annotated[
        str | None,
        typer.Option(help="Also show the scores of this reward model: a file, or a name on the bus."),
    ] = None,
) -> None:
    """Serve a web page to filter labels, see their history and correct them."""
    import uvicorn

    from onibus.consumers.labels.live_index import BoardFeed, LabelBoard
    from onibus.consumers.labels.web import PageOptions, is_loopback, label_site
    from onibus.consumers.specs.known_specs import KnownSpecs
    from onibus.infra.process.shutdown import stop_event

    options = PageOptions(
        host,
        (person or user_name()) if allow_edit else None,
        None if is_loopback(host) else secrets.token_urlsafe(24),
        _score(settings, model),
    )
    stopping, board = stop_event(), LabelBoard()
    feed = BoardFeed(settings, board)
    try:
        feed.load()
        feed.start()
        site = label_site(settings, board, KnownSpecs.read(settings), options)
        listening = _listening(host, port)
        where = page_address(host, listening.getsockname()[1])
        echo(where if options.token is None else f"{where}?token={options.token}")
        _serve(
            uvicorn.Server(uvicorn.Config(site, log_level="warning", access_log=False)), listening, stopping
        )
    finally:
        feed.stop()


def _serve(server: uvicorn.Server, listening: socket.socket, stopping: threading.Event) -> None:
    """Serve until ``stopping`` is set. In the main thread, uvicorn would be killed by the signal to stop."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while thread.is_alive() and not stopping.wait(_LOOK_SECONDS):
        pass
    server.should_exit = True
    thread.join(_LAST_SECONDS)


def page_address(host: str, port: int) -> str:
    """The page's address for a browser; if it listens on every address, with this machine's name."""
    plain = host.strip("[]")
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(plain).is_unspecified:
            plain = socket.gethostname()
    return f"http://{f'[{plain}]' if ':' in plain else plain}:{port}/"


def _listening(host: str, port: int) -> socket.socket:
    plain = host.strip("[]")
    try:
        found = socket.getaddrinfo(plain, port, type=socket.SOCK_STREAM)
        family = min(family for family, *_ in found)  # IPv4 for a name that has both
        is_everywhere = plain == "::" and socket.has_dualstack_ipv6()
        listening = socket.create_server((plain, port), family=family, dualstack_ipv6=is_everywhere)
        # Connections inherit it. Without it a response's head and body, written one after the other, are
        # 40 ms apart: asyncio sets it only if a socket has a protocol, which create_server leaves at 0.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listening
    except OSError as error:
        raise OnibusError(
            f"cannot listen on {host or repr(host)}, port {port} ({_reason(error)}); "
            "choose another --port or --host"
        ) from error


def _reason(error: OSError) -> str:
    """The system's word for it; ``create_server`` adds the address to what a failed ``bind`` says."""
    is_name = isinstance(error, socket.gaierror) or error.errno is None
    return reason_of(error) if is_name else os.strerror(error.errno or 0)


def _score(settings: Settings, name: str | None) -> Callable[[list[str]], list[float]] | None:
    if name is None:
        return None
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from onibus.consumers.replay.judges import load_model
    from onibus.schemas.records import Kind

    model = load_model(settings, name)
    if model.kind is not Kind.JUDGE_ONE:
        raise OnibusError(f"model {name} ranks captions; give a classification model")
    return lambda texts: [float(p) for p in model.probability((text,) for text in texts)]
