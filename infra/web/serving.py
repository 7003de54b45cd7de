"""Serves a site until the process is to stop."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette

from onibus.infra.errors import OnibusError
from onibus.infra.files import reason_of

_LOOK_SECONDS = 0.2
_LAST_SECONDS = 5.0
"""How long open requests may take after a stop."""


def serve_until(
    site: Starlette, at: socket.socket, stopping: threading.Event, look: Callable[[], None] = lambda: None
) -> None:
    """Serve until ``stopping`` is set. In the main thread, uvicorn would be killed by the signal to stop.

    Args:
        look: called now and then, in this thread.
    """
    server = uvicorn.Server(uvicorn.Config(site, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [at]}, daemon=True)
    thread.start()
    while thread.is_alive() and not stopping.wait(_LOOK_SECONDS):
        look()
    server.should_exit = True
    thread.join(_LAST_SECONDS)


def page_address(host: str, port: int) -> str:
    """The page's address for a browser; if it listens on every address, with this machine's name."""
    plain = host.strip("[]")
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(plain).is_unspecified:
            plain = socket.gethostname()
    return f"http://{f'[{plain}]' if ':' in plain else plain}:{port}/"


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0: any free one.

    Raises:
        OnibusError: that is not possible.
    """
    plain = host.strip("[]")
    try:
        found = socket.getaddrinfo(plain, port, type=socket.SOCK_STREAM)
        family = min(family for family, *_ in found)  # IPv4 for a name that has both
        is_everywhere = plain == "::" and socket.has_dualstack_ipv6()
        made = socket.create_server((plain, port), family=family, dualstack_ipv6=is_everywhere)
        # Connections inherit it. Without it a response's head and body, written one after the other, are
        # 40 ms apart: asyncio sets it only if a socket has a protocol, which create_server leaves at 0.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made
    except OSError as error:
        raise OnibusError(
            f"cannot listen on {host or repr(host)}, port {port} ({_reason(error)}); "
            "choose another --port or --host"
        ) from error


def _reason(error: OSError) -> str:
    """The system's word for it; ``create_server`` adds the address to what a failed ``bind`` says."""
    is_name = isinstance(error, socket.gaierror) or error.errno is None
    return reason_of(error) if is_name else os.strerror(error.errno or 0)
