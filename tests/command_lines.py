"""Checks ``onibus …`` command lines that stand in files against the command itself."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import typer

from onibus.infra.cli.main import application


@cache
def onibus_command() -> Any:
    """The whole command, as Typer makes it; made once, for it takes a tenth of a second."""
    return typer.main.get_command(application())


def complaint(words: Iterable[str]) -> str:
    """What is wrong with these arguments of ``onibus``, or nothing: unknown commands and flags."""
    command = onibus_command()
    flags: list[str] = []
    for word in words:
        if word.startswith("-"):
            flags.append(word.split("=")[0])
        elif not flags and (below := getattr(command, "commands", None)) is not None:
            if word not in below:
                return f"there is no command {word!r}"
            command = below[word]
    known = {"--help", *(name for p in command.params for name in (*p.opts, *p.secondary_opts))}
    unknown = [flag for flag in flags if flag not in known]
    return f"{command.name} has no {', '.join(unknown)}" if unknown else ""
