"""The ``onibus`` command."""

from __future__ import annotations

import importlib
import sys

import typer

from infra.errors import OnibusError
from schemas.errors import RegistryError

_COMMANDS: tuple[str, ...] = ("demo", "broker", "topics", "learn", "rollout", "annotate", "report", "bench")
"""Modules of :mod:`infra.commands`; each has ``register(app)`` and imports its component only when run."""


def main() -> None:
    """Entry point of the console script: one clear line and exit code 2 for what a user can put right."""
    try:
        application()()
    except (OnibusError, RegistryError) as error:
        typer.echo(f"onibus: {error}", err=True)
        sys.exit(2)


def application() -> typer.Typer:
    """The command with every sub-command."""
    app = typer.Typer(
        name="onibus",
        help="Online intrinsic rewards from a language model's judgement, over a Kafka message bus.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    for name in _COMMANDS:
        importlib.import_module(f"infra.commands.{name}").register(app)
    return app


if __name__ == "__main__":
    main()
