"""Files that hold state: written whole or not at all, and read without trusting their content."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from onibus.infra.errors import OnibusError

log = logging.getLogger(__name__)

T = TypeVar("T")

_REPEATED_NAME = re.compile(r"\b(\w+Error): (?=(?:\[Error \d+\] )?\1(?::|$))")
_LAST_BYTES = 64 * 1024
_SAMPLED_BYTES = 2_000
"""Per row that is wanted: files up to this size are read whole."""

PART_SUFFIX = ".part"
"""Suffix of temporary files; one that is left over belongs to a writer that was killed."""


def write_whole(path: Path, content: str | bytes | memoryview, *, mode: int = 0o666) -> None:
    """Replace ``path`` by ``content`` (text as UTF-8): after a crash it has the old content or the new.

    Args:
        mode: permissions of the file, minus the umask.

    Raises:
        OSError: it cannot be written; ``path`` is unchanged.
    """
    temporary = path.with_name(f".{path.name[:100]}.{os.urandom(4).hex()}{PART_SUFFIX}")
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the file system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)


class UnwritableFileError(OnibusError):
    """A file or folder that a user asked for cannot be written."""


def write_or_refuse(path: Path, content: str | bytes) -> None:
    """:func:`write_whole` for what a user asked for.

    Raises:
        UnwritableFileError: it cannot be written.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        raise UnwritableFileError(
            f"cannot write {path}: {reason_of(error)}; free some space, or make {path.parent} writable"
        ) from error


def make_folder(folder: Path, advice: str) -> None:
    """Make a folder for files that a user asked for, unless it is there.

    Raises:
        UnwritableFileError: it cannot be made; ends with ``advice``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableFileError(f"cannot make {folder}: {reason_of(error)}; {advice}") from error


def read_state(path: Path, parse: Callable[[Any], T], otherwise: T) -> T:
    """``parse`` of the JSON in ``path``; ``otherwise`` if there is no such file, or a broken one.

    A broken file is ignored with a warning: its content can be obtained again, or is lost anyway.
    """
    try:
        return parse(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return otherwise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("%s cannot be read (%s); continuing without it", path, reason_of(error))
        return otherwise


def reason_of(error: BaseException) -> str:
    """What went wrong, in one line: a system call's reason without the file, else type and message.

    The type is named once: texts of kafka-python's errors begin with it, and so do those that one of them
    quotes.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    text = " ".join(str(error).split())
    if isinstance(error, OnibusError):
        return text
    name = type(error).__name__
    begins_with_it = re.match(rf"(?:\[Error \d+\] )?{name}(?::|$)", text)
    named = text if begins_with_it else f"{name}: {text}" if text else name
    return _REPEATED_NAME.sub("", named)


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """The contents of a file that a person has written; ``what`` is its name for messages.

    Raises:
        OnibusError: it cannot be read.
    """
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))  # some editors begin a file with a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise OnibusError(
            f"cannot read the {what}: {reason_of(error)}; correct the file or its path"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise OnibusError(f"{what} is not valid TOML: {error}; correct it") from error


class SideFile:
    """An optional file: if it cannot be written, that is logged once and work continues.

    Args:
        what: its name in messages.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self.failure: str | None = None

    def attempt(self, write: Callable[[], object], *, buffered: bool = False) -> bool:
        """Call ``write``; False if it raised OSError. The first failure and the next success are logged.

        Args:
            buffered: whether ``write`` buffers, so that its success proves nothing yet.
        """
        try:
            write()
        except OSError as error:
            if self.failure is None:
                log.warning("cannot write %s (%s); continuing without it", self._what, reason_of(error))
            self.failure = reason_of(error)
            return False
        if self.failure is not None and not buffered:
            log.warning("%s can be written again", self._what)
            self.failure = None
        return True


class RowFile:
    """JSON objects, one per line, appended to a file; a row is never joined to a truncated one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._cut = False

    def append(self, row: dict[str, Any]) -> None:
        """Write one row; the file is opened the first time.

        Raises:
            OSError: it cannot be written, or only in part.
        """
        descriptor = self._opened()
        data = b"\n" * self._cut + json.dumps(row).encode() + b"\n"
        self._cut = True
        while data:
            data = data[os.write(descriptor, data) :]
        self._cut = False

    def close(self) -> None:
        """Close the file, if it was opened."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _opened(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            size = os.fstat(self._descriptor).st_size
            self._cut = size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"
        return self._descriptor


def read_rows(path: Path, needed: str) -> list[dict[str, Any]]:
    """Rows of a :class:`RowFile` that have a number under the name ``needed``, in order; none without a file.

    Unreadable rows are skipped with one warning. The last line may be truncated without one, since it may
    be being written.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OnibusError(f"cannot read {path}: {reason_of(error)}; check its permissions") from error
    rows, broken = [], 0
    for number, line in enumerate(lines):
        row = _row(line)
        if row is not None and isinstance(row.get(needed), int | float):
            rows.append(row)
        elif line.strip() and number < len(lines) - 1:
            broken += 1
    if broken:
        log.warning("%s: skipped %d broken rows", path, broken)
    return rows


def last_row(path: Path) -> dict[str, Any]:
    """The last whole row of a :class:`RowFile`, however long that is; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
            lines = file.read().split(b"\n")
    except OSError:
        return {}
    return next((row for line in reversed(lines[:-1]) if (row := _row(line)) is not None), {})


def sampled_rows(path: Path, most: int) -> list[dict[str, Any]]:
    """About ``most`` rows of a :class:`RowFile`, at equal distances in the file, the last one included.

    It takes as long for a file of a gigabyte as for one of a few megabytes.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size <= most * _SAMPLED_BYTES:
                file.seek(0)
                lines = file.read().split(b"\n")[:-1]
                every = max(1, -(-len(lines) // most))
                lines = [*lines[:-1:every], *lines[-1:]]
            else:
                lines = []
                for number in range(most):
                    file.seek(size * number // most)
                    if number:
                        file.readline()  # the rest of a row
                    lines.append(file.readline())
    except OSError:
        return []
    rows = [row for line in lines if (row := _row(line)) is not None]
    return rows if not rows or rows[-1] == (last := last_row(path)) else [*rows, last]


def _row(line: bytes) -> dict[str, Any] | None:
    """A row, unless it is none that a :class:`RowFile` has: an object, without infinite numbers."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    if any(isinstance(value, float) and not math.isfinite(value) for value in row.values()):
        return None
    return row
