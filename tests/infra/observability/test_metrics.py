"""Metrics: served where asked, and a port in use is one clear error."""

from __future__ import annotations

import socket
import urllib.request

import pytest

from onibus.infra.errors import OnibusError
from onibus.infra.observability.metrics import expose
from tests.ports import free_port


def test_metrics_are_served() -> None:
    port = free_port()
    expose(port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert b"onibus_captions_published_total" in answer.read()


def test_a_metrics_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OnibusError, match=f"cannot serve metrics on 127.0.0.1:{port}.*--metrics-port"):
            expose(port)


def test_no_port_no_server() -> None:
    expose(None)
