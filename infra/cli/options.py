"""Command-line flags that every component shares, made from the fields of :class:`Settings`."""

from __future__ import annotations

import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any, TypeVar

import typer

from onibus.infra.cli.flags import flags_of, with_flags
from onibus.infra.money import HIGHEST_PRICE
from onibus.infra.settings import Settings, load_settings

T = TypeVar("T")

MetricsPort = Annotated[
    int | None,
    typer.Option("--metrics-port", min=0, max=65535, help="Serve Prometheus metrics on this port."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
PriceIn = Annotated[
    float | None, typer.Option(min=0, max=HIGHEST_PRICE, help="US dollars per million prompt tokens.")
]
PriceOut = Annotated[
    float | None, typer.Option(min=0, max=HIGHEST_PRICE, help="US dollars per million answer tokens.")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Log more, including client libraries.")]

_PANEL = "Kafka and files (also ONIBUS_… and onibus.toml)"
_NETWORK_ERRORS = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError)
_NO_FLAG = {"sasl_password"}  # a secret on the command line is readable by everyone on the machine


@contextmanager
def _explained(settings: Settings) -> Iterator[None]:
    """Turn errors of Kafka or of the network into messages, so that no user sees a traceback."""
    try:
        yield
    except Exception as error:
        kafka = sys.modules.get("kafka.errors")  # not imported by a command that uses no Kafka
        kinds: tuple[type[Exception], ...] = _NETWORK_ERRORS + ((kafka.KafkaError,) if kafka else ())
        if not isinstance(error, kinds):
            raise
        from onibus.infra.kafka.clients import explained

        raise explained(settings, error) from error


def with_settings(command: Callable[..., T]) -> Callable[..., T]:
    """Add a flag for each setting to ``command(settings, …)``, which gets the loaded :class:`Settings`."""

    @wraps(command)
    def loaded(settings: dict[str, Any], **given: Any) -> T:
        whole = load_settings(**settings)
        with _explained(whole):
            return command(settings=whole, **given)

    return with_flags("settings", flags_of(Settings, leave_out=_NO_FLAG, panel=_PANEL), loaded, last=True)
