"""Command-line flags that every component shares, made from the fields of :class:`Settings`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from infra.settings import Settings, load_settings

T = TypeVar("T")

MetricsPort = Annotated[
    int | None,
    typer.Option("--metrics-port", min=0, max=65535, help="Serve Prometheus metrics on this port."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Log more, client libraries included.")]

_PANEL = "Kafka and files (also ONIBUS_… and onibus.toml)"
_NO_FLAG = {"sasl_password"}  # a secret on the command line is readable by everyone on the machine


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
        return command(settings=settings, **given)

    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    wrapper.__signature__ = inspect.Signature(keyword_only + flags)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in keyword_only + flags}
    return wrapper
