"""The command ``onibus`` and how it ends."""

from __future__ import annotations

import errno
import importlib
import locale
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from onibus.infra.errors import OnibusError
from onibus.infra.process.shutdown import request_stop
from onibus.infra.process.terminal import ReaderGoneError, echo, survive_lost_output, unwritten_output
from onibus.schemas.errors import RegistryError

_COMMANDS: tuple[str, ...] = (
    "demo",
    "broker",
    "topics",
    "access",
    "learn",
    "sweep",
    "rollout",
    "annotate",
    "judge_model",
    "tiny_llama",
    "train_reward",
    "dead_letters",
    "status",
    "spec",
    "labels",
    "web",
    "replay",
    "episodes",
    "watch",
    "report",
    "evaluate",
    "compare",
    "export",
    "bench",
)
"""Modules of :mod:`onibus.infra.cli`; each has ``register(app)`` and imports its component only when run.

A module registers one command, which is called as it is.
"""

_OWN_PACKAGE = "onibus"
_FILE_ERRORS = {
    number
    for name in ("EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "ENAMETOOLONG", "EISDIR", "ENOTDIR", "EFBIG")
    if (number := getattr(errno, name, None)) is not None
}
"""Errors about files that a user can fix."""


def main() -> NoReturn:
    """Run what the command line says: one clear line and exit code 2 for what a user can fix."""
    _use_utf8()
    survive_lost_output(request_stop)
    try:
        command = application(sys.argv[1:2])
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see entry.py
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = command(standalone_mode=False)
        if reason := unwritten_output():
            _refuse(f"the output is not whole: {reason}; free some space, or write it elsewhere")
        sys.exit(code)
    except (OnibusError, RegistryError) as error:
        _refuse(str(error))
    except typer.TyperException as error:
        what = error.format_message().replace("Value error, ", "").strip().rstrip(".")
        if not what:  # no arguments at all: the help has been shown
            sys.exit(2)
        context = getattr(error, "ctx", None)
        _refuse(f"{what}; see: {context.command_path if context else 'onibus'} --help")
    except typer.Abort:
        sys.exit(130)  # Ctrl-C before a component handled it
    except ReaderGoneError:
        sys.exit(141)  # as the shell reports a program that was ended by SIGPIPE
    except OSError as error:
        if error.errno not in _FILE_ERRORS or error.filename is None:
            raise
        _refuse(f"{error.filename}: {error.strerror}; make it writable, or choose another place")
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package == _OWN_PACKAGE:
            raise
        from onibus.infra.cli.extras import advice

        _refuse(f"the package {package} is missing; install it with: {advice(package, sys.argv[1:])}")


def _use_utf8() -> None:
    """Restart in Python's UTF-8 mode if the locale has another encoding.

    Our files are UTF-8 on every machine; the terminal keeps its encoding, what that lacks is escaped.
    """
    encoding = locale.getpreferredencoding(do_setlocale=False)
    is_utf8 = sys.flags.utf8_mode or encoding.lower().replace("-", "") == "utf8"
    if is_utf8 or sys.flags.ignore_environment:  # which would ignore PYTHONUTF8
        return
    os.environ["PYTHONUTF8"] = "1"
    os.environ.setdefault("PYTHONIOENCODING", f"{encoding}:backslashreplace")
    arguments = [argument.encode(errors="surrogateescape") for argument in sys.orig_argv[1:]]
    os.execv(sys.executable, [os.fsencode(sys.executable), *arguments])


def _refuse(reason: str) -> NoReturn:
    echo("onibus: " + re.sub(r"\n(?! )", "\n    ", reason), err=True)  # indent lines that it quotes
    sys.exit(2)


def application(first: Sequence[str] = ()) -> typer.Typer:
    """The command with every sub-command.

    Args:
        first: argument, if there is one. Where it names a sub-command, that one alone is made: all of them
            take as long as the rest of the start.
    """
    app = typer.Typer(
        name="onibus",
        help="Online intrinsic rewards from a language model's judgement, over a Kafka message bus.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    app.callback()(_main_options)
    asked = [name for name in _COMMANDS if name.replace("_", "-") in first]
    for name in asked or _COMMANDS:
        importlib.import_module(f"onibus.infra.cli.{name}").register(app)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        from onibus.infra.version import version

        echo(f"onibus {version()}")
        raise typer.Exit


def _main_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of ``onibus`` itself."""
