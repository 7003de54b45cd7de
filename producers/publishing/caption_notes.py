"""The words of captions from a run's rollout workers to its learner, beside the bus.

A batch holds captions as 64-bit ids, and a reward model needs their words before the batch is used. So a
worker writes down a caption, in a file of its own in the run's folder, before it gives out the observation
that holds its id: whoever has the id finds the words. All processes of a run are on one machine.

A worker's file is begun anew when it is full. The reader goes through the old one to its end first.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

NOTES_FOLDER = "caption-notes"
"""In a run's folder; a file per worker, of at most :data:`LARGEST_FILE` bytes and one note."""
LARGEST_FILE = 1 << 20

_HEAD = struct.Struct("<qqH")
_LONGEST = (1 << 16) - 1


class Note(NamedTuple):
    """A caption: its look-up id, its text, and when it was observed, microseconds since the epoch."""

    lookup: int
    text: str
    observed_at: int


class NotesWriter:
    """One worker's file.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._size = 0

    def write(self, note: Note) -> None:
        """Write one note down, whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        if self._descriptor is None or self._size >= LARGEST_FILE:
            self._begin()
        text = note.text.encode()[:_LONGEST]
        data = _HEAD.pack(note.lookup, note.observed_at, len(text)) + text
        assert self._descriptor is not None
        if os.write(self._descriptor, data) < len(data):
            os.ftruncate(self._descriptor, self._size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._size += len(data)

    def close(self) -> None:
        """Close the file; it stays."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _begin(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_name(f".{self._path.name}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        descriptor = os.open(fresh, flags, 0o666)
        try:
            os.replace(fresh, self._path)
        except OSError:
            os.close(descriptor)
            raise
        self.close()
        self._descriptor, self._size = descriptor, 0


class NotesReader:
    """All files of a folder, each read on from where it was left.

    Memory: a file's unread bytes at a time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, _Followed] = {}

    def read(self) -> Iterator[Note]:
        """What was written since the last time; of a file that cannot be read, nothing."""
        try:
            names = [entry.name for entry in os.scandir(self._folder) if not entry.name.startswith(".")]
        except FileNotFoundError:
            return
        for name in names:
            followed = self._open.get(name)
            if followed is None:
                followed = self._open[name] = _Followed(self._folder / name)
            yield from followed.read()

    def close(self) -> None:
        """Close the files."""
        for followed in self._open.values():
            followed.close()
        self._open.clear()


class _Followed:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._place = 0

    def read(self) -> Iterator[Note]:
        while True:
            try:
                now = os.stat(self._path).st_ino
            except OSError:
                now = None  # and what is open is read to its end
            if self._descriptor is not None:
                yield from self._rest(self._descriptor)
                if now is None or now == os.fstat(self._descriptor).st_ino:
                    return
            self.close()
            try:
                self._descriptor, self._place = os.open(self._path, os.O_RDONLY), 0
            except OSError:
                return

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _rest(self, descriptor: int) -> Iterator[Note]:
        unread = os.fstat(descriptor).st_size - self._place
        if unread <= 0:
            return
        data = os.pread(descriptor, unread, self._place)
        start = 0
        while len(data) - start >= _HEAD.size:
            lookup, observed_at, length = _HEAD.unpack_from(data, start)
            end = start + _HEAD.size + length
            if end > len(data):
                break  # being written
            yield Note(lookup, data[start + _HEAD.size : end].decode("utf-8", "replace"), observed_at)
            start = end
        self._place += start
