"""Output to the terminal: only printable text, and no failure when the terminal is gone.

Captions may contain what players typed, and answers come from models: escape sequences in them could clear
the screen, change the window's title or hide lines. All output of commands goes through :func:`echo` or a
:func:`console`, and log lines through :class:`onibus.infra.process.logs.LineFormatter`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: controls, formats (which can reverse the direction of text), surrogates, line ends."""
_HARMLESS = "\t\u200c\u200d"
"""Tabs, and format characters that scripts and emoji need."""
_LOST = (errno.EIO, errno.EPIPE)
"""Errors of writing to a terminal that was closed, and to a pipe that no one reads."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of writing to a file for which there is no room."""


def printable(text: str) -> str:
    """``text`` as one line without control characters: they are shown as Python writes them, ``\\x1b``."""
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def printable_lines(text: str) -> str:
    """As :func:`printable`, but line feeds are kept."""
    return "\n".join(map(printable, text.split("\n")))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNPRINTABLE or character in _HARMLESS:
        return character
    return character.encode("unicode_escape").decode("ascii")


def echo(text: str = "", err: bool = False) -> None:
    """Print text of one or more lines without control characters.

    Line feeds are kept, so text from outside (captions, answers) must go through :func:`printable` first.
    """
    print(printable_lines(text), file=sys.stderr if err else sys.stdout, flush=True)


def console(*, stderr: bool = False, markup: bool = False, **options: Any) -> Console:
    """A rich console that prints no control characters but its own, and prints ``[red]`` as it is.

    Args:
        stderr: print there instead of to stdout.
        markup: interpret markup in strings; only for a console that prints no text from outside.
        options: further arguments of :class:`rich.console.Console`.
    """
    return _console_class()(stderr=stderr, markup=markup, emoji=False, highlight=False, **options)


def _console_class() -> type[Console]:
    """Defined on demand, since rich is slow to import."""
    from rich.console import Console
    from rich.segment import Segment

    class PrintableConsole(Console):
        def render(self, *arguments: Any, **named: Any) -> Iterable[Segment]:
            """See Console; all text that is shown passes through here."""
            for segment in super().render(*arguments, **named):
                if segment.control is None and not segment.text.isprintable():
                    yield Segment(printable_lines(segment.text), segment.style)
                else:
                    yield segment

        def render_str(self, text: str, *arguments: Any, **named: Any) -> Any:
            """See Console; called before texts are measured, so that columns fit."""
            return super().render_str(printable_lines(text), *arguments, **named)

    return PrintableConsole


def survive_lost_output(on_broken_pipe: Callable[[], bool]) -> None:
    """Discard writes to stdout and stderr, instead of failing, once the terminal or the reader is gone.

    So are those to a file for which there is no room; see :func:`unwritten_output`. Characters that the
    encoding lacks are escaped.

    Args:
        on_broken_pipe: called once when no one reads stdout any more; returns whether to continue,
            otherwise the write raises :class:`ReaderGoneError`.
    """
    for name, callback in (("stdout", on_broken_pipe), ("stderr", lambda: True)):
        stream = getattr(sys, name)
        with contextlib.suppress(
            AttributeError, OSError, ValueError
        ):  # replaced by something else, or closed
            stream.flush()
            raw = _Output(stream.fileno(), callback)
            wrapped = io.TextIOWrapper(
                io.BufferedWriter(raw),
                encoding=stream.encoding,
                errors="backslashreplace",
                line_buffering=True,
            )
            setattr(sys, name, wrapped)


def unwritten_output() -> str | None:
    """Why the rest of what was written to stdout is lost: the error of a disk that was full."""
    output = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return output.no_room if isinstance(output, _Output) else None


class ReaderGoneError(Exception):
    """No one reads the standard output any more; a command that only prints ends quietly."""


class _Output(io.FileIO):
    """A standard stream that discards what is written once it is lost."""

    def __init__(self, descriptor: int, on_broken_pipe: Callable[[], bool]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._on_broken_pipe = on_broken_pipe
        self.no_room: str | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (*_LOST, *_FULL):
                raise
            if error.errno in _FULL:
                self.no_room = error.strerror
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # also for code that does not write through Python
            os.close(nowhere)
            if error.errno == errno.EPIPE and not self._on_broken_pipe():
                raise ReaderGoneError from error
            return len(memoryview(data).cast("B"))
