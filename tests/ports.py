"""Ports for tests' own servers."""

from __future__ import annotations

import os
import random
import socket

_BELOW_EPHEMERAL = range(20_000, 32_000)
_CHANCE = random.SystemRandom()
"""A test may have seeded Python's own generator."""


def free_port(neighbours: int = 8) -> int:
    """A port that is free now, with ``neighbours`` free ones after it.

    From below the range that the system gives to outgoing connections: a client that keeps trying a
    stopped broker's port in that range can end up connected to itself, and then the port is taken. Each of
    pytest-xdist's processes has a part of its own: what one has found free is not taken by another before it
    is used.
    """
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = len(_BELOW_EPHEMERAL) // count
    first = size * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    part = _BELOW_EPHEMERAL[first : first + size - neighbours]
    for port in _CHANCE.sample(part, k=min(200, len(part))):
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
