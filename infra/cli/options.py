"""Command-line flags that every component shares, made from the fields of :class:`Settings`."""

from __future__ import annotations

import inspect
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from onibus.infra.settings import Settings, load_settings

T = TypeVar("T")

MetricsPort = Annotated[
    int | None,
    typer.Option("--metrics-port", min=0, max=65535, help="Serve Prometheus metrics on this port."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Log more, including client libraries.")]

_PANEL = "Kafka and files (also ONIBUS_… and onibus.toml)"
_NETWORK_ERRORS = (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError)
_NO_FLAG = {"sasl_password"}  # a secret on the command line is readable by everyone on the machine


@contextmanager
def _explained(settings: Settings) -> Iterator[None]:
    """No error of Kafka or of the network reaches a user as a traceback."""
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
    """Give ``command(settings, …)`` one flag for each setting; it gets the loaded :class:`Settings`."""
    hints = get_type_hints(command, include_extras=True)
    own = [
        p.replace(annotation=hints[p.name])
        for p in inspect.signature(command).parameters.values()
        if p.name != "settings"
    ]
    field_types = get_type_hints(Settings)
    flags = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                field_types[name] | None, typer.Option(help=field.description, rich_help_panel=_PANEL)
            ],
        )
        for name, field in Settings.model_fields.items()
        if name not in _NO_FLAG
    ]
    flag_names = [f.name for f in flags]

    @wraps(command)
    def wrapper(**given: Any) -> T:
        settings = load_settings(**{name: given.pop(name) for name in flag_names})
        with _explained(settings):
            return command(settings=settings, **given)

    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    wrapper.__signature__ = inspect.Signature(keyword_only + flags)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in keyword_only + flags}
    return wrapper
