"""One copy of NetHack's machine code for all games of a machine.

NLE gives each game a copy of the whole library, since NetHack keeps its state in global variables. But code
and constants are the same in all, and a core that steps many games in turn has to fetch each copy into its
caches again: with 16 games in a process that is a tenth to a third of a step. So what cannot be written to in
a game's copy is mapped from the installed library instead, which all games, in all processes, have in common.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import struct
import sys
from pathlib import Path
from typing import NamedTuple

from nle.nethack.nethack import DLPATH

_PAGE = mmap.PAGESIZE
_LOAD, _EXECUTABLE, _WRITABLE = 1, 1, 2  # of ELF's program headers
_HEADER, _PROGRAM_HEADER = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")
_ELF_64_LITTLE = b"\x7fELF\x02\x01"
_MAP_FIXED = 0x10


class _Segment(NamedTuple):
    """A part of the library that a game cannot write to; numbers of bytes."""

    offset: int
    address: int
    size: int
    protection: int


class SharedCode:
    """The installed library, open for as long as the process lives."""

    def __init__(self, library: Path) -> None:
        """Raises:
        ValueError: it is not a library that can be shared.
        OSError: it cannot be read.
        """
        self._file = os.open(library, os.O_RDONLY | os.O_CLOEXEC)
        content = library.read_bytes()
        self._segments = _segments(content)
        self._first_page = content[:_PAGE]  # which holds the build's id
        self._content: bytes | None = content
        c_library = ctypes.CDLL(None, use_errno=True)
        self._map = c_library.mmap
        self._map.restype = ctypes.c_void_p
        self._map.argtypes = [
            *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
        ]

    def share(self, base: int) -> bool:
        """Map code and constants of the copy that is loaded at ``base`` from the library itself.

        Returns:
            whether it was done; not if the copy is of another build.
        """
        if ctypes.string_at(base, _PAGE) != self._first_page:
            return False
        if self._content is not None:  # once: that the loader has changed nothing in them
            for part in self._segments:
                installed = self._content[part.offset : part.offset + part.size]
                if ctypes.string_at(base + part.address, part.size) != installed:
                    return False
            self._content = None
        flags = mmap.MAP_PRIVATE | _MAP_FIXED
        for part in self._segments:
            place = base + part.address
            if self._map(place, part.size, part.protection, flags, self._file, part.offset) != place:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return True


def _segments(content: bytes) -> list[_Segment]:
    if not content.startswith(_ELF_64_LITTLE):
        raise ValueError("not a 64-bit library")
    header = _HEADER.unpack_from(content)
    first, size, count = header[5], header[9], header[10]
    found = []
    for place in range(first, first + size * count, size):
        kind, flags, offset, address, _, in_file, in_memory, _ = _PROGRAM_HEADER.unpack_from(content, place)
        if kind != _LOAD or flags & _WRITABLE:
            continue
        if offset % _PAGE or address % _PAGE or in_file != in_memory:
            raise ValueError("its parts do not begin with pages")
        protection = mmap.PROT_READ | (mmap.PROT_EXEC if flags & _EXECUTABLE else 0)
        found.append(_Segment(offset, address, in_file, protection))
    return found


def share_code(handle: int) -> bool:
    """Share the code of one game's copy of NetHack; call after each reset, for NLE loads it anew then.

    Args:
        handle: of the loaded copy, as ``dlopen`` gives it.

    Returns:
        whether it is shared: not on systems other than Linux, nor for another build than the installed one.
    """
    code = _installed()
    if code is None:
        return False
    base = ctypes.cast(handle, ctypes.POINTER(ctypes.c_size_t))[0]  # glibc's and musl's first field
    return code.share(base)


@functools.cache
def _installed() -> SharedCode | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return SharedCode(Path(DLPATH))
    except (OSError, ValueError):
        return None
