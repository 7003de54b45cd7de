"""Ports for tests' own servers."""

from __future__ import annotations

import random
import socket

_BELOW_EPHEMERAL = range(20_000, 32_000)


def free_port(neighbours: int = 8) -> int:
    """A port that is free now, with ``neighbours`` free ones after it.

    From below the range that the system gives to outgoing connections: a client that keeps trying a
    stopped broker's port in that range can end up connected to itself, and then the port is taken.
    """
    for port in random.sample(_BELOW_EPHEMERAL, k=200):
        if all(_is_free(port + k) for k in range(neighbours + 1)):
            return port
    raise AssertionError("no free ports on this machine")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0 and _binds(port)


def _binds(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
