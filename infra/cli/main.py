"""The ``onibus`` command."""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

import typer

from infra.errors import OnibusError
from schemas.errors import RegistryError

_COMMANDS: tuple[str, ...] = (
    "demo",
    "broker",
    "topics",
    "access",
    "learn",
    "rollout",
    "annotate",
    "tiny_llama",
    "train_reward",
    "dead_letters",
    "status",
    "labels",
    "replay",
    "report",
    "bench",
)
"""Modules of :mod:`infra.cli`; each has ``register(app)`` and imports its component only when run."""


_EXTRAS = {name: name for name in ("annotate", "rollout", "learn", "broker", "report")} | {
    "train-reward": "train",
    "labels": "replay",
    "replay": "replay",
}
"""What to install for a command; whatever is not here needs ``demo``, which is everything."""

_BY_LOCK = {
    "learn": "pip install --no-deps -r infra/requirements/learn.txt (in the repository)",
    "demo": "pip install --no-deps -r infra/requirements/dev.txt (in the repository)",
}
"""How extras with Sample Factory are installed: the lock overrides what it asks for, pip would not."""

_OWN_PACKAGES = {"schemas", "infra", "producers", "consumers", "learner"}


def main() -> None:
    """Entry point of the console script: one clear line and exit code 2 for what a user can put right."""
    try:
        sys.exit(application()(standalone_mode=False))
    except (OnibusError, RegistryError) as error:
        _refuse(str(error))
    except typer.TyperException as error:
        what = error.format_message().strip().rstrip(".")
        if not what:  # no arguments at all: the help has been shown
            sys.exit(2)
        context = getattr(error, "ctx", None)
        _refuse(f"{what}; see: {context.command_path if context else 'onibus'} --help")
    except typer.Abort:
        sys.exit(130)  # Ctrl-C before anything ran that stops by itself
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in _OWN_PACKAGES:
            raise
        extra = next((_EXTRAS[word] for word in sys.argv[1:] if word in _EXTRAS), "demo")
        how = _BY_LOCK.get(extra) or f"pip install 'onibus[{extra}]'"
        _refuse(f"the package {package} is missing; install it with: {how}")


def _refuse(reason: str) -> NoReturn:
    typer.echo(f"onibus: {reason}", err=True)
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
        importlib.import_module(f"infra.cli.{name}").register(app)
    return app
