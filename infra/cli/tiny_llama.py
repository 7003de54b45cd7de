"""``onibus tiny-llama``, which is gone: it names what took its place, for one release."""

from __future__ import annotations

import typer

from onibus.infra.errors import OnibusError

_ANY = {"allow_extra_args": True, "ignore_unknown_options": True}


def register(app: typer.Typer) -> None:
    """Add the command to ``app``, hidden."""
    app.command("tiny-llama", hidden=True, context_settings=_ANY)(gone)


def gone() -> None:
    """Gone; use onibus judge-model make."""
    raise OnibusError("onibus tiny-llama is gone: onibus judge-model make fetches a real small model instead")
